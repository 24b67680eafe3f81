"""Backup and restore of a workspace, and passwords recovered on the server's machine."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from fastapi import FastAPI

from command_kit import Ended, run_here
from gonogo.errors import InputError
from gonogo.ledger import Ledger, verify
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import Role
from gonogo.server.backup import MANIFEST, back_up, restore
from server_kit import PASSWORD, WEAK_HASHER, Browser, add_person, fill, make_app


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """A workspace with parts, a data set, an inspector and a person who is logged in."""
    made = Workspace.open(tmp_path / "plant")
    fill(made, parts=4)
    app = make_app(made.root)
    add_person(app, "eve", Role.ADMIN)
    Browser(app).login("eve")
    app.state.components.close()
    return made


def opened_again(root: Path) -> FastAPI:
    return create_app(Workspace.open(root), options=Options(hasher=WEAK_HASHER, names=("testserver",)))


def called(*words: object) -> Ended:
    return run_here([str(word) for word in words])


def contents(root: Path) -> dict[str, bytes]:
    skipped = ("server.db", "line.ledger", "-wal", "-shm")
    files = [file for file in root.rglob("*") if file.is_file() and not file.name.endswith(skipped)]
    return {str(file.relative_to(root)): file.read_bytes() for file in files if "state" not in file.parts}


@pytest.mark.slow
def test_a_restored_workspace_has_every_file_and_an_intact_ledger(space: Workspace, tmp_path: Path) -> None:
    (space.root / "datasets" / "50 % caf\u00e9.txt").write_text("an odd name")
    (space.root / "mqtt.password").write_text("secret")
    (space.root / "mqtt.password").chmod(0o600)
    made = back_up(space.root, tmp_path / "plant.backup", who="a test")
    done = restore(made.file, tmp_path / "again", who="a test")
    assert made.file.stat().st_mode & 0o777 == 0o600
    assert contents(tmp_path / "again") == contents(space.root)
    assert (tmp_path / "again" / "mqtt.password").stat().st_mode & 0o777 == 0o600
    assert (done.findings, done.notes, done.files) == ([], [], made.files)
    again = Workspace.open(tmp_path / "again")
    assert verify(again.ledger, frames=True) == []
    assert again.active_bundle() is not None
    with Ledger.open(again.ledger) as ledger:
        actions = [row.record.action for row in ledger.actions()]
    assert actions[-2:] == ["workspace_backed_up", "workspace_restored"]


@pytest.mark.slow
def test_after_a_restore_people_log_in_again(space: Workspace, tmp_path: Path) -> None:
    made = back_up(space.root, tmp_path / "plant.backup", who="a test")
    restore(made.file, tmp_path / "again", who="a test")
    database = apsw.Connection(str(tmp_path / "again" / "server.db"))
    assert database.execute("SELECT count(*) FROM sessions").fetchall() == [(0,)]
    database.close()
    app = opened_again(tmp_path / "again")
    Browser(app).login("eve")
    app.state.components.close()


@pytest.mark.slow
def test_a_backup_is_made_while_the_ledger_is_written(space: Workspace, tmp_path: Path) -> None:
    with Ledger.open(space.ledger) as ledger:
        made = back_up(space.root, tmp_path / "plant.backup", who="a test")
        assert ledger is not None
    assert restore(made.file, tmp_path / "again", who="a test").findings == []


def rewritten(file: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]) -> None:
    with tarfile.open(file) as tar:
        members = [(each, (tar.extractfile(each) or io.BytesIO()).read()) for each in tar]
    change(members)
    with tarfile.open(file, "w") as tar:
        for entry, data in members:
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def renamed(name: str) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[0][0].name = name

    return change


def linked(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[0][0].type, members[0][0].linkname = tarfile.SYMTYPE, "/etc/passwd"
    members[0] = (members[0][0], b"")


def altered(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[3] = (members[3][0], members[3][1] + b" ")


def newer(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[-1] = (members[-1][0], json.dumps(json.loads(members[-1][1]) | {"format": 99}).encode())


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        renamed("/tmp/outside"),
        renamed("../outside"),
        renamed("datasets/../../outside"),
        renamed(MANIFEST + "/x"),
        linked,
        altered,
        newer,
        lambda members: members.pop(),
        lambda members: members.pop(2),
        lambda members: members.insert(2, members[2]),
        lambda members: members.append(members[2]),
    ],
)
def test_a_backup_that_was_changed_is_refused_and_nothing_is_left(
    space: Workspace, tmp_path: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]
) -> None:
    made = back_up(space.root, tmp_path / "plant.backup", who="a test")
    rewritten(made.file, change)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError):
        restore(made.file, tmp_path / "again", who="a test")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_backup_that_was_cut_short_is_refused(space: Workspace, tmp_path: Path) -> None:
    made = back_up(space.root, tmp_path / "plant.backup", who="a test")
    whole = made.file.read_bytes()
    for length in (0, 300, 512, len(whole) // 2, len(whole) - 12_000):
        made.file.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"expected a backup|cannot be restored"):
            restore(made.file, tmp_path / "again", who="a test")
        assert not (tmp_path / "again").exists()


@pytest.mark.slow
def test_wrong_places_are_refused(space: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the workspace of a server"):
        back_up(tmp_path / "none", tmp_path / "a", who="a test")
    with pytest.raises(InputError, match="outside of the workspace"):
        back_up(space.root, space.root / "own.backup", who="a test")
    with pytest.raises(InputError, match="cannot be written"):
        back_up(space.root, tmp_path / "no folder" / "a", who="a test")
    made = back_up(space.root, tmp_path / "plant.backup", who="a test")
    with pytest.raises(InputError, match="already exists"):
        back_up(space.root, made.file, who="a test")
    with pytest.raises(InputError, match="already exists"):
        restore(made.file, space.root, who="a test")


@pytest.mark.slow
def test_a_ledger_that_was_tampered_with_comes_back_as_it_was_and_is_reported(space: Workspace, tmp_path: Path) -> None:
    database = apsw.Connection(str(space.ledger))
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f'DROP TRIGGER "{name}"')
    (table,) = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%body%'").fetchone()
    database.execute(f"UPDATE {table} SET body = replace(CAST(body AS TEXT), 'no_go', 'go') WHERE seq = 2")
    database.close()
    made = called("workspace", "backup", space.root, "--to", tmp_path / "plant.backup")
    assert made.code == 0
    assert "does not stand in the ledger" in made.err
    done = called("workspace", "restore", tmp_path / "plant.backup", "--to", tmp_path / "again")
    assert done.code == 1
    assert "signs of tampering" in done.err
    assert (tmp_path / "again" / "server.db").is_file()


@pytest.mark.slow
def test_a_ledger_outside_of_the_workspace_is_said_to_be_left_out(space: Workspace, tmp_path: Path) -> None:
    toml = (
        'station = "line1"\nbundle = "active"\nledger = "{}"\nstate_dir = "state"\n[[cameras]]\ncamera = '
        '{{ kind = "fake", pictures = "none" }}\n[trigger]\nkind = "stdin"\n[answer]\nkind = "stdout"\n'
    )
    (space.root / "station.toml").write_text(toml.format(tmp_path / "far.ledger"))
    Ledger.open(tmp_path / "far.ledger").close()
    made = called("workspace", "backup", space.root, "--to", tmp_path / "plant.backup", "--json")
    assert "far.ledger" in made.err
    assert "far.ledger" in json.loads(made.out)["notes"][0]


@pytest.mark.slow
def test_a_lost_password_is_recovered_on_the_machine_and_stands_in_the_ledger(space: Workspace) -> None:
    app = opened_again(space.root)
    browser = Browser(app)
    browser.login("eve")
    said = called("workspace", "password", space.root, "EVE", "--json")
    password = json.loads(said.out)["one_time_password"]
    assert password != PASSWORD
    assert browser.get("/parts").status_code in (303, 401)
    people = app.state.components.accounts.people
    assert people.check("eve", PASSWORD) is None
    assert people.check("eve", password).must_change
    with app.state.components.ledger_pool.reading() as ledger:
        row = list(ledger.actions())[-1].record
    assert (row.action, row.details) == ("password_recovered", {"user": "eve"})
    assert password not in json.dumps(row.details)
    app.state.components.close()


@pytest.mark.slow
def test_an_unknown_name_is_refused_with_the_names_of_administrators(space: Workspace) -> None:
    said = called("workspace", "password", space.root, "mallory")
    assert said.code == 2
    assert "Administrators: admin, eve" in said.err
