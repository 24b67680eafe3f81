"""A small part of ``make fuzz`` in every run of the tests."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.archives import open_archives
from fuzz.bombs import refuse_bombs
from fuzz.pictures import mutate_pictures
from fuzz.watch import watching
from gonogo.ledger import exporting
from gonogo.ledger.exporting import csv_cell
from gonogo.names import no_formula


@pytest.mark.slow
def test_mutated_pictures_neither_crash_nor_cost_much() -> None:
    found = mutate_pictures(320, seed=3, valid=1)
    assert found["first_failures"] == []
    assert found["crashes"] == found["over_512_mb"] == 0
    assert found["frames"] > 30
    assert found["foreign"] == found["foreign_refused"]
    assert found["altered_after_header"] == 160


def test_bombs_of_every_kind_are_refused() -> None:
    found = refuse_bombs(1, seed=3)
    assert found["not_refused"] == found["crashes"] == 0


@pytest.mark.slow
def test_hostile_archives_and_label_files_write_and_ask_nothing_elsewhere() -> None:
    found = open_archives(1, seed=3)
    assert found["first_problems"] == []
    assert found["crashes"] == found["writes_outside"] == found["requests"] == found["processes"] == 0
    assert found["tried"] == 20
    assert found["writes_inside"] > 100, "it was watched"


def test_the_watch_sees_writes_connections_and_processes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with watching(tmp_path / "in") as seen:
        (tmp_path / "in" / "a").write_text("")
        (tmp_path / "out").write_text("")
        (tmp_path / "link").symlink_to(tmp_path)
        with contextlib.suppress(OSError), socket.socket() as other:
            other.connect(("127.0.0.1", 1))
        subprocess.run([sys.executable, "-c", ""], check=True)
    assert [Path(path).name for path in seen.writes_outside] == ["out", "link"]
    assert len(seen.requests) == 1
    assert len(seen.processes) == 1
    assert seen.writes_inside == 1


def test_every_table_for_spreadsheets_writes_formulas_as_text() -> None:
    """A new use of `csv.writer` must pass its texts through `no_formula`."""
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1", "=HYPERLINK(1)|'cmd'!A0"):
        assert no_formula(text) == csv_cell(text) == f"'{text}"
    for text in ("", " ", "part 7", "a=b", "7-1"):
        assert no_formula(text) == text
    source = Path(exporting.__file__).parents[1]
    writers = {path for path in source.rglob("*.py") if re.search(r"csv\.(Dict)?[wW]riter\(", path.read_text())}
    assert len(writers) == 3
    assert all("csv_cell" in (text := path.read_text()) or "no_formula" in text for path in writers)
