"""Files of every earlier format are opened with their contents; docs/versions.md lists the formats.

`old_formats` has what earlier versions wrote, and the programs that wrote it. See also test_ledger_formats.py,
test_old_bundles.py and test_server_workspaces.py.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import tarfile
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from gonogo import bundle as bundles
from gonogo.bundle import read_bundle
from gonogo.dataset import Dataset, catch_up, revisions
from gonogo.dataset.judged import judged_before
from gonogo.errors import InputError, LedgerError, SignatureError
from gonogo.fleet.releases import first_release, open_release, sign_release
from gonogo.inspector import Inspector
from gonogo.ledger import Action, Ledger, read_anchors, verify
from gonogo.ledger.cursors import Cursor, read_cursor, write_cursor
from gonogo.server import Workspace, create_app
from gonogo.server import database as databases
from gonogo.server.access import Role
from gonogo.server.auth.sessions import Sessions
from gonogo.server.database import FORMAT, MIGRATIONS, Database
from gonogo.server.options import Options
from gonogo.signing import Use, add_key, make_key_pair, open_signing_key, read_public_key, read_trust_store
from gonogo.station import read_settings
from gonogo.station.backlog import UNRECORDED, Backlog
from gonogo.workflow.made_with import read_made_with
from server_kit import WEAK_HASHER, Browser, Clock
from tests import command_kit as kit

HERE = Path(__file__).parent / "old_formats"
PEOPLE = [(each.value, each.value) for each in (Role.OPERATOR, Role.REVIEWER, Role.ENGINEER, Role.AUDITOR, Role.ADMIN)]
SERVERS = ("server-1", "server-2", "server-3", "server-4")


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """What gonogo 0.1.0 left behind when its machine was switched off."""
    with tarfile.open(HERE / "0.1.0.tar.xz") as archive:
        archive.extractall(tmp_path / "0.1.0", filter="data")
    return tmp_path / "0.1.0"


@pytest.fixture(params=SERVERS)
def server_db(request: pytest.FixtureRequest, first: Path, tmp_path: Path) -> Path:
    """A server's database of each earlier format."""
    if request.param == "server-1":
        return first / "workspace" / "server.db"
    path = tmp_path / "server.db"
    connection = apsw.Connection(str(path))
    connection.execute((HERE / f"{request.param}.sql").read_text("utf-8"))
    connection.close()
    return path


def contents(path: Path, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of a database's tables, all by default, and its format."""
    connection = apsw.Connection(str(path))
    names = tables or [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}
    found["format"] = list(connection.execute("PRAGMA user_version"))
    connection.close()
    return found


def number(path: Path) -> int:
    return int(contents(path, "settings")["format"][0][0])


def files(root: Path) -> dict[str, str]:
    """The hash of every file."""
    found = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


# --- the server's database


def test_every_earlier_format_is_there(first: Path) -> None:
    assert number(first / "workspace" / "server.db") == 1
    stated = [(HERE / f"{name}.sql").read_text("utf-8").splitlines()[-1] for name in SERVERS[1:]]
    assert stated == [f"PRAGMA user_version = {number};" for number in range(2, FORMAT)]
    assert len(SERVERS) + 1 == FORMAT, "write a database with the code of the version before, and add it here"


def test_a_server_s_database_keeps_its_rows_and_is_migrated_once(server_db: Path) -> None:
    before = contents(server_db, "users", "tokens", "settings")
    opened = Database.open(server_db)
    assert opened.run("SELECT name, role FROM users ORDER BY id") == PEOPLE
    assert [(each.name, each.role) for each in Sessions(opened).tokens()] == [("line 1", Role.OPERATOR)]
    opened.close()
    after = contents(server_db)
    assert after["format"] == [(FORMAT,)]
    assert {name: after[name] for name in ("users", "tokens", "settings")} == {
        name: rows for name, rows in before.items() if name != "format"
    }
    Database.open(server_db).close()
    assert contents(server_db) == after


@pytest.mark.parametrize("broken", range(2, FORMAT + 1))
def test_an_interrupted_migration_leaves_the_database_as_it_was(
    server_db: Path, broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken <= number(server_db):
        pytest.skip("this database is past that migration")
    before = contents(server_db)
    scripts = list(MIGRATIONS)
    scripts[broken - 1] += "INSERT INTO missing VALUES (1);"
    with monkeypatch.context() as patch:
        patch.setattr(databases, "MIGRATIONS", tuple(scripts))
        with pytest.raises(InputError, match="no such table: missing"):
            Database.open(server_db)
    assert contents(server_db) == before
    Database.open(server_db).close()
    assert number(server_db) == FORMAT


def _killed_before_it_commits(path: Path) -> None:
    class Dying(apsw.Connection):
        def pragma(self, name: str, *value: Any) -> Any:
            if value:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().pragma(name)

    databases._migrate(Dying(str(path)), path)


def test_a_process_that_is_killed_in_a_migration_leaves_the_database_as_it_was(server_db: Path) -> None:
    before = contents(server_db)
    process = multiprocessing.get_context("fork").Process(target=_killed_before_it_commits, args=(server_db,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert contents(server_db) == before
    Database.open(server_db).close()
    assert number(server_db) == FORMAT


def _open(path: Path, start: Any, ended: Any) -> None:
    start.wait()
    try:
        Database.open(path).close()
        ended.put("")
    except InputError as error:
        ended.put(str(error))


@pytest.mark.slow
def test_two_processes_may_open_an_old_or_a_new_database_at_once(server_db: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for path in (server_db, tmp_path / "new.db"):
        start, ended = context.Event(), context.Queue()
        processes = [context.Process(target=_open, args=(path, start, ended)) for _ in range(4)]
        for process in processes:
            process.start()
        start.set()
        assert [ended.get(timeout=60) for _ in processes] == [""] * 4
        for process in processes:
            process.join()
        assert number(path) == FORMAT


def test_a_database_that_is_none_or_newer_is_refused_with_exit_code_2(first: Path) -> None:
    space = first / "workspace"
    Database.open(space / "server.db").close()
    connection = apsw.Connection(str(space / "server.db"))
    connection.pragma("user_version", FORMAT + 1)
    connection.close()
    refused = kit.run_here(["workspace", "password", str(space)])
    assert (refused.code, f"expected format {FORMAT} or lower, found {FORMAT + 1}" in refused.err) == (2, True)
    for path in space.glob("server.db*"):
        path.write_bytes(b"no database " * 100)
    refused = kit.run_here(["serve-key", "list", str(space)])
    assert (refused.code, "expected the database of a server" in refused.err) == (2, True), refused


# --- a whole workspace of 0.1.0


@pytest.mark.slow
def test_a_workspace_of_0_1_0_is_served_with_all_that_is_in_it(first: Path) -> None:
    space = Workspace.open(first / "workspace")
    pictures = files(space.datasets / "tile" / "images")
    for _ in range(2):  # the second time, nothing is left to do
        app = create_app(space, options=Options(hasher=WEAK_HASHER, now=Clock(), names=("testserver",)))
        browser = Browser(app)
        assert browser.login("engineer").status_code == 303
        for page in ("/datasets", "/datasets/tile", "/review", "/parts"):
            answer = browser.get(page)
            assert answer.status_code == 200, (page, answer.text[:500])
        assert "tile" in browser.get("/datasets").text
        app.state.components.close()
    assert files(space.datasets / "tile" / "images") == pictures
    with Ledger.open(space.ledger, read_only=True) as ledger:
        states = [row.record.state.value for row in ledger.verdicts()]
        assert states == ["go", "review", "no_go", "fault"]
        decision = ledger.decision(4)
        assert decision is not None
        assert (decision.record.who, decision.record.defect) == ("ana", "crack")
    anchors = read_anchors(first / "anchors.txt")
    assert [each.seq for each in anchors] == [6]
    assert verify(space.ledger, anchors=anchors, frames=True) == []


def test_a_workspace_of_0_1_0_is_backed_up_and_restored(first: Path, tmp_path: Path) -> None:
    space = first / "workspace"
    made = kit.run_here(["workspace", "backup", str(space), "--to", str(tmp_path / "a.backup"), "--json"])
    assert made.code == 0, made
    done = kit.run_here(["workspace", "restore", str(tmp_path / "a.backup"), "--to", str(tmp_path / "b"), "--json"])
    assert (done.code, json.loads(done.out)["findings"]) == (0, [])
    assert files(tmp_path / "b" / "datasets") == files(space / "datasets")
    opened = Database.open(tmp_path / "b" / "server.db")
    assert opened.run("SELECT name, role FROM users ORDER BY id") == PEOPLE
    opened.close()


def test_a_data_set_of_0_1_0_gets_its_first_revision_and_keeps_what_was_judged(first: Path) -> None:
    root = first / "workspace" / "datasets" / "tile"
    before = Dataset.read(root)
    assert sorted({str(each.split) for each in before.samples}) == ["calibrate", "test", "train", "val"]
    assert sum(each.defect == "crack" for each in before.samples) == 4
    made = catch_up(root)
    assert made is not None
    assert (made.number, made.what, made.pictures) == (1, "found", 8)
    again = catch_up(root)
    assert again is not None
    assert (again.number, again.sha256, len(revisions(root))) == (1, made.sha256, 1)
    assert Dataset.read(root).samples == before.samples
    assert judged_before(before), "0.1.0 judged the test split"


def test_a_bundle_and_a_ledger_of_0_1_0_go_on(first: Path) -> None:
    space = first / "workspace"
    folder = space / "bundles" / "tiny.inspector"
    before = files(folder)
    assert Inspector.load(folder).bundle.manifest.name == "tiny"  # replays the golden frame
    assert files(folder) == before
    with Ledger.open(space / "ledger" / "line.ledger") as ledger:
        assert ledger.append_action(Action(action="login", who="ben")).seq == 7
    assert verify(space / "ledger" / "line.ledger", anchors=read_anchors(first / "anchors.txt")) == []


def test_a_station_of_0_1_0_keeps_its_settings_and_records_the_fault_that_it_owed(first: Path) -> None:
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        settings = read_settings(first / "line" / "station.toml")
    assert settings.cameras
    for _ in range(2):  # reading it does not record it
        (owed,) = Backlog(first / "line" / "state" / UNRECORDED)
        assert (owed.trigger.id, owed.trigger.part, owed.cause.value) == ("t9", "P-9", "camera_lost")


# --- what a newer version wrote


def test_a_ledger_of_a_newer_format_is_refused_with_exit_code_2(first: Path) -> None:
    path = first / "workspace" / "ledger" / "line.ledger"
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 99)
    connection.close()
    for words in (["list", str(path)], ["export", str(path), "--out", str(first / "a.csv")]):
        refused = kit.run_here(["ledger", *words])
        assert (refused.code, "user_version is 99" in refused.err) == (2, True), refused


def test_a_bundle_of_a_newer_format_is_refused_with_exit_code_2(first: Path) -> None:
    folder = first / "workspace" / "bundles" / "tiny.inspector"
    manifest = json.loads((folder / "inspector.json").read_text("utf-8"))
    (folder / "inspector.json").write_text(json.dumps(manifest | {"format": 2}))
    seal = folder / bundles.SEAL
    digest = hashlib.sha256((folder / "inspector.json").read_bytes()).hexdigest()
    lines = [
        f"{digest}  inspector.json" if line.endswith("inspector.json") else line
        for line in seal.read_text().splitlines()
    ]
    seal.write_text("\n".join(lines) + "\n")
    refused = kit.run_here(["bundle", "show", str(folder)])
    assert refused.code == 2
    assert "expected a manifest of format 1" in refused.err
    assert "newer" in refused.err


def test_a_revision_of_a_newer_version_is_refused_with_exit_code_2(first: Path) -> None:
    root = first / "workspace" / "datasets" / "tile"
    assert catch_up(root) is not None
    lines = root / "revisions.jsonl"
    lines.write_text(lines.read_text("utf-8").replace('{"', '{"of_a_newer_version": 1, "', 1))
    refused = kit.run_here(["dataset", "revisions", str(root)])
    assert (refused.code, "of_a_newer_version" in refused.err) == (2, True), refused


def test_a_trust_store_of_a_newer_format_is_refused_with_exit_code_2(tmp_path: Path) -> None:
    key, store = tmp_path / "ana.key", tmp_path / "trusted.json"
    assert kit.run_here(["bundle", "keys", "make", "Ana", "--out", str(key), "--no-passphrase"]).code == 0
    assert kit.run_here(["bundle", "keys", "add", f"{key}.pub", "--store", str(store)]).code == 0
    store.write_text(json.dumps(json.loads(store.read_text("utf-8")) | {"format": 2}))
    refused = kit.run_here(["bundle", "keys", "list", "--store", str(store)])
    assert (refused.code, "format" in refused.err) == (2, True), refused


def test_nothing_is_left_of_what_was_read(first: Path) -> None:
    """Opening the bundle and the data set of an earlier version to read them changes no file."""
    space = first / "workspace"
    before = files(space / "bundles") | files(space / "datasets")
    read_bundle(space / "bundles" / "tiny.inspector")
    Dataset.read(space / "datasets" / "tile")
    shutil.copytree(space / "bundles", first / "copy")
    assert files(space / "bundles") | files(space / "datasets") == before


def test_a_journal_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    from gonogo.cluster.journal import Journal

    with Journal(tmp_path / "j", {"kind": "inspect"}, begin={"block": 4}):
        pass
    head = json.loads((tmp_path / "j").read_text("utf-8").splitlines()[0])
    (tmp_path / "j").write_text(json.dumps(head | {"gonogo_journal": 2}) + "\n")
    with pytest.raises(InputError, match="expected a journal of this program"):
        Journal(tmp_path / "j", {"kind": "inspect"}, begin={"block": 4})


@pytest.mark.slow
def test_an_index_of_the_ledger_of_another_format_is_made_anew(first: Path) -> None:
    space = Workspace.open(first / "workspace")
    options = Options(hasher=WEAK_HASHER, now=Clock(), names=("testserver",))
    for _ in range(2):
        app = create_app(space, options=options)
        browser = Browser(app)
        browser.login("reviewer")
        assert "P-0002" in browser.get("/parts").text
        app.state.components.close()
        indexes = [path for path in space.root.rglob("*.db") if path.name != "server.db"]
        assert indexes
        for path in indexes:
            connection = apsw.Connection(str(path))
            connection.pragma("user_version", 99)
            connection.close()


def test_a_release_of_a_newer_format_is_refused_although_it_is_signed(tmp_path: Path) -> None:
    now, key, place = datetime.now(UTC), tmp_path / "ana.key", tmp_path / "trusted.json"
    _, public = make_key_pair(key, "Ana", passphrase="")
    add_key(place, read_public_key(public), (Use.RELEASE,), now=now)
    signer, store = open_signing_key(key, passphrase=""), read_trust_store(place)
    release = first_release("a" * 64, channel="chip", who="Ana", why="", made=now)
    assert open_release(sign_release(release, signer), store, name="release")[0] == release
    newer = sign_release(release.model_copy(update={"format": 2}), signer)
    with pytest.raises(SignatureError, match="format"):
        open_release(newer, store, name="release")


def test_a_cursor_with_a_field_of_a_newer_version_says_how_to_go_on(tmp_path: Path) -> None:
    write_cursor(tmp_path / "a.json", Cursor(seq=7))
    assert read_cursor(tmp_path / "a.json") == Cursor(seq=7)
    (tmp_path / "a.json").write_text('{"seq": 7, "of_a_newer_version": 1}')
    with pytest.raises(LedgerError, match="Delete the file to deliver everything again"):
        read_cursor(tmp_path / "a.json")


def test_a_bundle_of_0_1_0_does_not_say_what_it_was_made_with_and_asks_for_a_new_training(first: Path) -> None:
    with pytest.raises(InputError, match="Train again"):
        read_made_with(read_bundle(first / "workspace" / "bundles" / "tiny.inspector"))
