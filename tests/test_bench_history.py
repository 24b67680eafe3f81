"""The kept table of the benchmark tells what became slower on the same machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.history import keep, read
from gonogo.errors import InputError


def run(overhead: float = 1.2, speedup: float = 20.0, start: float = 1.3, cpu: str = "one") -> dict[str, Any]:
    rows = [{"table": "start", "name": "gonogo inspect, model cache warm", "ratio": start}]
    return {
        "overhead_over_network": overhead,
        "speedup_over_torch_eager": speedup,
        "throughput_over_benchmark_app": None,
        "machine": {"cpu": cpu},
        "rows": rows,
    }


def test_a_run_is_compared_with_the_median_of_earlier_ones(tmp_path: Path) -> None:
    table = tmp_path / "history.jsonl"
    for overhead in (1.2, 1.21, 9.0):
        keep(table, run(overhead=overhead), quick=True)
    assert keep(table, run(overhead=1.3), quick=True) == []
    assert keep(table, run(overhead=1.2), quick=True) == []
    told = keep(table, run(overhead=1.5, speedup=15.0, start=1.35), quick=True)
    assert [each.partition(":")[0] for each in told] == ["overhead_over_network", "speedup_over_torch_eager"]
    assert len(read(table)) == 6


def test_other_machines_and_other_extents_are_not_compared(tmp_path: Path) -> None:
    table = tmp_path / "history.jsonl"
    keep(table, run(overhead=1.0), quick=True)
    assert keep(table, run(overhead=2.0, cpu="two"), quick=True) == []
    assert keep(table, run(overhead=2.0), quick=False) == []
    assert keep(table, run(overhead=2.0), quick=True) != []


@pytest.mark.parametrize("line", ["no json", "[]", '{"machine": {}}', '{"machine": {}, "quick": true, "ratios": 3}'])
def test_a_damaged_table_is_refused_and_left_as_it_is(tmp_path: Path, line: str) -> None:
    table = tmp_path / "history.jsonl"
    table.write_text(line + "\n")
    with pytest.raises(InputError, match="line 1"):
        keep(table, run(), quick=True)
    assert table.read_text() == line + "\n"
