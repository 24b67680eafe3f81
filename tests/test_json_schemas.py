"""What commands print with ``--json`` and export has a schema, and fits it; see also the fixture in conftest.py."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import gonogo
from gonogo.cli.printed.build import Document, Printed, combined, schema_of
from gonogo.cli.printed.table import printed_by
from gonogo.cli.schema import commands_with_schema, schema_file, schema_text
from gonogo.dataset import Dataset
from gonogo.ledger import REVIEW, Action, Ledger, publish_anchor
from gonogo.schema import Label
from gonogo.server import Workspace
from gonogo.server.database import Database
from gonogo.station import read_settings
from server_kit import record, record_fault
from tests import command_kit as kit
from tests.printed_kit import faults
from tiny_bundle import BAD_RED, GOOD_RED, make_parts

SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas" / "cli"
BUNDLE = Path(__file__).parent / "data" / "tiny-0.1.0.inspector"
MODULES = ("bundle", "centre", "dataset", "fleet", "judging", "ledger", "msa", "server", "station")
ELSEWHERE = {
    "bundle cascade": "test_distilling.py",
    "bundle distill": "test_distilling.py",
    "bundle graph": "test_quantize.py",
    "bundle learn": "test_learning.py",
    "bundle quantize": "test_quantize.py",
    "bundle together": "test_cameras.py",
    "dataset collect": "test_dataset_collect.py",
    "dataset doubts": "test_doubts.py",
    "dataset levels": "test_depth.py",
    "experiment": "test_experiment.py",
    "fleet flips": "test_fleet.py",
    "fleet promote": "test_fleet.py",
    "fleet rollback": "test_fleet.py",
    "fleet start": "test_fleet.py",
    "fleet status": "test_fleet.py",
    "fleet stop": "test_fleet.py",
    "fleet watch": "test_fleet.py",
    "import-model": "test_import_model.py",
    "ledger chains": "test_centre.py",
    "ledger forward": "test_centre.py",
    "ledger migrate": "test_centre.py",
    "ledger publish": "test_station_results.py",
    "look": "test_look.py",
    "roi tune": "test_roi.py",
    "station check": "test_station.py",
    "station grr": "test_grr.py",
    "station msa": "test_gauge.py",
    "station status": "test_station.py",
    "workspace password": "test_workspace_backup.py",
}
"""Commands whose documents are compared with their schema where they are tested anyway."""


def printed(*words: object, code: int = 0) -> list[Any]:
    """Run a command with ``--json``, which is compared with its schema, and return the lines or the one document."""
    ended = kit.run_here([*map(str, words), "--json"])
    assert ended.code == code, (words, ended)
    try:
        return [json.loads(ended.out)]
    except ValueError:
        return [json.loads(line) for line in ended.out.splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a bundle, and a ledger with rows of each kind."""
    root, rng = tmp_path_factory.mktemp("printed"), np.random.default_rng(3)
    make_parts(root / "parts", rng)
    shutil.copytree(BUNDLE, root / "tiny.inspector")
    with Ledger.open(root / "line.ledger") as ledger:
        for number, red in enumerate((GOOD_RED, (GOOD_RED + BAD_RED) / 2, BAD_RED)):
            record(ledger, number, red, rng=rng)
        record_fault(ledger, 3)
        ledger.append_action(Action(action=REVIEW, who="ana", about=3, label=Label.BAD, defect="crack"))
        publish_anchor(ledger, root / "anchors.txt")
    return root


def test_every_command_with_json_has_a_type_and_every_type_a_command() -> None:
    tables = [import_module(f"gonogo.cli.printed.{name}").PRINTED for name in MODULES]
    assert sorted(name for table in tables for name in table) == commands_with_schema()
    assert [name for name in commands_with_schema() if printed_by(name) is None] == []


def test_every_command_prints_its_documents_where_they_are_compared() -> None:
    modules = Path(gonogo.__file__).parent.joinpath("cli").glob("*.py")
    around = [path.name for path in modules if re.search(r"(echo|print)\(\s*json\.dumps", path.read_text("utf-8"))]
    assert around == [], "print documents with gonogo.cli.output.print_json"


def test_the_schemas_in_the_repository_are_those_of_the_commands_and_no_others() -> None:
    # their contents are compared with all other generated schemas, in test_results_document.py
    assert {path.name for path in SCHEMAS.iterdir()} == {schema_file(name) for name in commands_with_schema()}


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object with named fields."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield schema
        for each in schema.values():
            yield from objects(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects(each)


@pytest.mark.parametrize("command", commands_with_schema())
def test_every_schema_is_valid_and_closed(command: str) -> None:
    schema = json.loads((SCHEMAS / schema_file(command)).read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert all(each["additionalProperties"] is False for each in objects(schema))


def test_a_field_that_is_missing_new_or_of_another_type_is_found() -> None:
    good = {"number": 1, "name": "a", "role": "admin", "created_by": "b", "expires": "c", "state": "valid"}
    assert faults("serve-key revoke", json.dumps(good)) == []
    for changed, said in (
        ({name: it for name, it in good.items() if name != "role"}, "'role' is a required property"),
        (good | {"more": 1}, "'more' was unexpected"),
        (good | {"number": "1"}, "$.number"),
        (good | {"state": "lost"}, "$.state"),
    ):
        assert said in "".join(faults("serve-key revoke", json.dumps(changed)))
    with pytest.raises(AssertionError, match="NaN is no JSON"):
        faults("serve-key revoke", json.dumps(good | {"number": float("nan")}))


def test_a_type_is_made_of_dataclasses_models_and_names_and_keeps_their_descriptions() -> None:
    from gonogo.devices import Device

    class More(Document):
        more: int

    found = schema_of("x", Printed(type=combined("X", Device, More, {"from": str}, without=("full_name",))))
    assert set(found["required"]) == {"name", "capabilities", "more", "from"} == set(found["properties"])
    assert "--device" in found["properties"]["name"]["description"]


@pytest.mark.slow
def test_the_command_lists_prints_and_writes_schemas(tmp_path: Path) -> None:
    listed = kit.run_here(["schema"])
    assert listed.out.splitlines() == commands_with_schema()
    assert kit.run_here(["schema", "dataset", "check"]).out == schema_text("dataset check")
    for words in (["dataset"], ["train"], ["nonsense"], ["dataset", "check", "x"]):
        refused = kit.run_here(["schema", *words])
        assert (refused.code, refused.out) == (2, "")
        assert "gonogo schema" in refused.err
    assert kit.run_here(["schema", "--out", str(tmp_path / "a")]).code == 0
    assert (tmp_path / "a" / "ledger-export.json").read_text("utf-8") == schema_text("ledger export")
    assert kit.run_here(["schema", "--out", str(tmp_path / "a")]).code == 0  # again, over the first
    assert kit.run_here(["schema", "dataset", "check", "--out", str(tmp_path)]).code == 2


@pytest.mark.slow
def test_rows_of_an_exported_table_fit_their_schema(made: Path) -> None:
    schema = json.loads(schema_text("ledger export"))
    table = made / "rows.csv"
    assert kit.run_here(["ledger", "export", str(made / "line.ledger"), "--out", str(table)]).code == 0
    with table.open(newline="") as file:
        assert next(csv.reader(file)) == list(schema["properties"])
    parquet = pytest.importorskip("pyarrow.parquet")
    table = made / "rows.parquet"
    assert kit.run_here(["ledger", "export", str(made / "line.ledger"), "--out", str(table)]).code == 0
    rows = parquet.read_table(table).to_pylist()
    assert len(rows) == 6
    for row in rows:
        shown = {name: it.isoformat() if isinstance(it, datetime) else it for name, it in row.items()}
        jsonschema.validate(shown, schema)


@pytest.mark.slow
def test_commands_on_data_sets(tmp_path: Path) -> None:
    with tarfile.open(Path(__file__).parent / "old_formats" / "0.1.0.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    parts = tmp_path / "workspace" / "datasets" / "tile"  # eight pictures
    first = Dataset.read(parts).samples[0].file_name
    printed("dataset", "check", parts, code=1)
    printed("dataset", "plan", parts, "--parts-per-day", 100)
    printed("dataset", "remove", parts, first)
    printed("dataset", "revisions", parts, "--check")
    printed("dataset", "compare", parts, 1)
    printed("dataset", "restore", parts, 1)
    printed("dataset", "restore", parts, 1)
    printed("dataset", "prune", parts, "--keep", 1, "--dry-run")
    printed("dataset", "export", parts, "--format", "coco", "--out", tmp_path / "coco", "--labels-only")
    (tmp_path / "zones.toml").write_text(kit.run_here(["zones", "example"]).out)
    printed("zones", "hidden", parts, "--zones", tmp_path / "zones.toml")


def test_commands_on_photographs(made: Path, tmp_path: Path) -> None:
    import cv2

    board = np.full((200, 260, 3), 255, np.uint8)
    board[20:180, 30:230][(np.add.outer(np.arange(160) // 20, np.arange(200) // 20) % 2).astype(bool)] = 0
    cv2.imwrite(str(tmp_path / "board.png"), board)
    checks = tmp_path / "checks.toml"
    printed("roi", "calibrate", tmp_path / "board.png", "--edge", "30,20,230,20", "--mm", 40, "--out", checks)
    picture = np.full((120, 160, 3), 60, np.uint8)
    for centre in ((40, 60), (110, 60)):
        cv2.circle(picture, centre, 12, (220, 220, 220), -1)
        cv2.circle(picture, centre, 5, (20, 20, 20), -1)
    cv2.imwrite(str(tmp_path / "screws.png"), picture)
    item = ("--item", "26,46,54,74", "--count", 2, "--name", "screws")
    printed("presence", "learn", tmp_path / "screws.png", *item, "--out", checks)


@pytest.mark.slow
def test_commands_on_bundles(made: Path, tmp_path: Path) -> None:
    bundle, parts = tmp_path / "tiny.inspector", made / "parts"
    shutil.copytree(BUNDLE, bundle)
    photo = parts / Dataset.read(parts).samples[0].file_name
    printed("bundle", "show", bundle)
    printed("bundle", "checks", bundle)
    assert len(printed("inspect", bundle, photo, photo)) == 3
    printed("devices")
    printed("devices", bundle)
    printed("evaluate", bundle, parts)
    printed("certify", bundle, parts, "--max-escape", 0.05, "--max-overkill", 0.05)
    printed("certify", bundle, "--revisions")
    (tmp_path / "checks.toml").write_text("[health]\nsharpness = 0.01\n")
    printed("bundle", "checks", bundle, tmp_path / "checks.toml")
    printed("bundle", "export", bundle, "--out", tmp_path / "models")
    printed("bundle", "export", bundle, "--out", tmp_path / "one", "--form", "classifier")


def test_commands_on_keys(made: Path, tmp_path: Path) -> None:
    bundle, key, store = tmp_path / "tiny.inspector", tmp_path / "ana.key", ("--store", tmp_path / "trusted.json")
    shutil.copytree(BUNDLE, bundle)
    printed("bundle", "keys", "make", "Ana", "--out", key, "--no-passphrase")
    printed("bundle", "keys", "add", f"{key}.pub", *store)
    printed("bundle", "sign", bundle, "--key", key)
    printed("bundle", "keys", "revoke", "Ana", "--why", "left", *store)
    printed("bundle", "keys", "list", *store)


@pytest.mark.slow
def test_commands_on_ledgers(made: Path, tmp_path: Path) -> None:
    ledger = made / "line.ledger"
    assert len(printed("ledger", "list", ledger)) == 6
    for row in range(1, 7):
        printed("ledger", "show", ledger, row)
    assert printed("ledger", "verify", ledger) == []
    copy = tmp_path / "changed.ledger"
    shutil.copy(ledger, copy)
    shutil.copytree(made / "line.ledger-frames", tmp_path / "changed.ledger-frames")
    next(path for path in (tmp_path / "changed.ledger-frames").rglob("*") if path.is_file()).write_bytes(b"?")
    assert printed("ledger", "verify", copy, "--frames", code=1)
    assert len(printed("ledger", "replay", ledger, "--bundle", made / "tiny.inspector")) > 1
    printed("ledger", "replay", copy, "--bundle", made / "tiny.inspector", code=1)
    printed("ledger", "sample", copy, "--name", "july", "--parts", 5)
    printed("ledger", "capacity", "--stations", 3)
    printed("fleet", "settle", copy, 2, "--label", "good", "--who", "Ana")
    printed("fleet", "status", "--ledger", copy)


def test_a_station_is_declared_fit(tmp_path: Path) -> None:
    (tmp_path / "station.toml").write_text(kit.run_here(["station", "example"]).out)
    with Ledger.open(read_settings(tmp_path / "station.toml").ledger):
        pass
    printed("fleet", "qualified", tmp_path / "station.toml", "--who", "Ana", "--note", "report 7")


def test_commands_on_servers(tmp_path: Path) -> None:
    space = Workspace.open(tmp_path / "plant")
    Database.open(space.database).close()
    with Ledger.open(space.ledger):
        pass
    printed("serve-key", "add", space.root, "line 1")
    printed("serve-key", "revoke", space.root, 1)
    printed("serve-key", "list", space.root)
    printed("workspace", "backup", space.root, "--to", tmp_path / "a.backup")
    printed("workspace", "restore", tmp_path / "a.backup", "--to", tmp_path / "again")


def test_every_command_is_compared_here_or_where_it_is_tested() -> None:
    here = Path(__file__).read_text("utf-8")
    for command in sorted(set(commands_with_schema()) - {"ledger export"}):
        if command in ELSEWHERE:
            text = (Path(__file__).parent / ELSEWHERE[command]).read_text("utf-8")
            assert "--json" in text, ELSEWHERE[command]
            assert command.split()[-1] in text, command
        else:
            quoted = ", ".join(f'"{word}"' for word in command.split())
            assert f"printed({quoted}" in here, f"gonogo {command} --json is compared with its schema by no test"
