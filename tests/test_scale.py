"""The tests of scale: what they run, and what they count."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra scale")
pytest.importorskip("psycopg", reason="needs the extra scale")

from gonogo.centre import Centre, Forwarder
from gonogo.errors import InputError
from gonogo.ledger import Ledger
from gonogo.ledger.capacity import Plan, capacity
from gonogo.testing.postgres import Server
from scale.everything import PARTS, run_part, targets
from scale.recording import Line, record_all
from scale.stations import Events, compare, lags
from tests import command_kit as kit

MAKEFILE = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_part_passes_with_its_figures_fails_or_says_why_it_cannot_run() -> None:
    passed = run_part(program("print('a line'); print('{\"rows\": 3}')"), 60)
    assert (passed["passed"], passed["figures"]) == (True, {"rows": 3})
    assert run_part(program("print('{\"rows\": 3}'); raise SystemExit(1)"), 60)["passed"] is False
    skipped = run_part(program(f"print('{json.dumps({'skipped': 'needs root'})}')"), 60)
    assert (skipped["passed"], skipped["skipped"]) == (True, "needs root")
    assert "figures" not in run_part(program("print('no figures')"), 60)


def test_a_part_that_takes_too_long_is_ended_with_everything_that_it_started_and_puts_things_away(
    tmp_path: Path,
) -> None:
    tidy = "import contextlib, pathlib, signal, sys, time\n"
    tidy += "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    tidy += f"try:\n    pathlib.Path({str(tmp_path / 'began')!r}).touch(); time.sleep(600)\n"
    tidy += f"finally:\n    time.sleep(0.3); pathlib.Path({str(tmp_path / 'tidy')!r}).touch()"
    ended = run_part(["sh", "-c", '"$0" -c "$1" & wait', sys.executable, tidy], 3.0)
    assert ended["passed"] is False
    assert "longer than 3 s" in ended["why"]
    assert (tmp_path / "tidy").exists() == (tmp_path / "began").exists()


def test_the_quick_parts_have_budgets_that_ci_affords_and_targets_of_their_own() -> None:
    assert sum(part.quick_budget_s for part in PARTS) <= 2400
    assert {"scale-stations", "scale-migration", "fleet", "test-scale"} <= targets(MAKEFILE)


def test_lost_rows_and_chains_unlike_their_ledger_are_counted(postgres: Server, tmp_path: Path) -> None:
    lines = [Line(tmp_path, name) for name in ("left", "right")]
    with postgres.database() as database:
        centre = Centre.connect(postgres.url(database))
        centre.prepare()
        began_s = datetime.now(UTC).timestamp()
        recorded = record_all(lines, rate=1000, seconds=0.01)
        assert recorded["recorded"] == 20
        events = Events(began_s=began_s, restarted_s=began_s + 1, mended_s=began_s + 2, recorded=recorded)
        for line in lines:
            list(Forwarder(tmp_path / f"{line.name}.ledger", centre, line.name).catch_up())
        events.ended_s = datetime.now(UTC).timestamp()
        assert compare(centre, events) == {
            "rows": 22,
            "rows_lost": 0,
            "rows_doubled": 0,
            "chains_broken": 0,
            "chains_unlike_ledger": 0,
            "alarms": 0,
        }
        assert lags(centre, events, 1000)["lag_p50_s"] >= 0
        lines[0].record()
        events.recorded["heads"]["left"] = [12, lines[0].ledger.head().sha256]
        found = compare(centre, events)
        assert (found["rows_lost"], found["chains_unlike_ledger"]) == (1, 1)
        centre.close()
    for line in lines:
        line.ledger.close()
    with Ledger.open(tmp_path / "left.ledger") as ledger:
        assert ledger.count() == 11


def test_a_centre_grows_with_stations_parts_and_hours_and_small_batches_cost_transactions() -> None:
    basis = Plan(stations=1000, parts_per_s=1, years=2)
    need = capacity(basis)
    assert need.rows == pytest.approx(1060 * 2 * 365 * 86_400)
    assert need.transactions_per_s == 1000, "at most one in each pause of a forwarder"
    assert capacity(replace(basis, parts_per_s=0.1)).transactions_per_s == pytest.approx(106)
    slower = capacity(replace(basis, every_s=10))
    assert (slower.rows_per_s, slower.transactions_per_s) == (need.rows_per_s, 100)
    assert slower.database_cores < need.database_cores
    assert capacity(replace(basis, hours_per_day=12)).database_bytes == pytest.approx(need.database_bytes / 2)
    framed = capacity(replace(basis, frame_bytes=4e5))
    assert framed.frame_bytes == pytest.approx(1000 * 86_400 * 30 * 4e5)
    assert framed.cost_per_month(database_per_tb=0, frames_per_tb=2) == pytest.approx(2 * framed.frame_bytes / 1e12)
    with pytest.raises(InputError, match="parts_per_s: expected more than 0"):
        capacity(replace(basis, parts_per_s=0))


def test_the_command_prints_what_a_centre_needs() -> None:
    words = ["ledger", "capacity", "--stations", "1000"]
    assert "cores fully used" in kit.run_here(words).out
    assert json.loads(kit.run_here([*words, "--json"]).out)["transactions_per_s"] == 1000
    assert kit.run_here([*words, "--every", "0"]).code == 2
