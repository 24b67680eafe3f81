"""The kept table of runs: what each machine measured with which versions, and what became slower since."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import gonogo
from gonogo.errors import InputError

WORSE: Final = 1.10
"""A ratio that is worse by more than this is told."""
_COMPARED = 5
_HIGHER_IS_BETTER: Final[Mapping[str, bool]] = {
    "overhead_over_network": False,
    "start_over_bare_script": False,
    "speedup_over_torch_eager": True,
    "speedup_over_torch_eager_resnet50_int8": True,
    "throughput_over_benchmark_app": True,
}


def ratios_of(figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the ratios of a run that are kept, from the JSON of a `Benchmark`."""
    found = {name: figures.get(name) for name in _HIGHER_IS_BETTER}
    for row in figures["rows"]:
        if row["table"] == "start" and row["name"] == "gonogo inspect, model cache warm":
            found["start_over_bare_script"] = row["ratio"]
    return {name: round(float(value), 4) for name, value in found.items() if value is not None}


def keep(path: Path, figures: Mapping[str, Any], *, quick: bool) -> list[str]:
    """Append a run to the table, and tell what became slower.

    A ratio is compared with the median of the last five runs of the same machine and extent.

    Args:
        path: The table, one JSON object a line; created if it is missing.
        figures: The JSON of a `Benchmark`.
        quick: Whether it was a quick run.

    Returns:
        A sentence for each ratio that is worse by more than `WORSE`.

    Raises:
        InputError: the table is malformed.
    """
    machine, now = dict(figures["machine"]), ratios_of(figures)
    earlier = [each for each in read(path) if each["machine"] == machine and each["quick"] is quick][-_COMPARED:]
    row = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "gonogo": gonogo.__version__,
        "quick": quick,
        "machine": machine,
        "ratios": now,
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    slower = []
    for name, value in now.items():
        before = [each["ratios"][name] for each in earlier if name in each["ratios"]]
        if not before:
            continue
        usual = statistics.median(before)
        if (usual / value if _HIGHER_IS_BETTER[name] else value / usual) > WORSE:
            slower.append(f"{name}: {value:.3f}, usually {usual:.3f} (median of {len(before)} runs)")
    return slower


def read(path: Path) -> list[dict[str, Any]]:
    """Read the table; a missing one is empty.

    Raises:
        InputError: it is malformed.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            found.append({"machine": row["machine"], "quick": row["quick"], "ratios": dict(row["ratios"])})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: expected a run, found other text. Remove it.") from error
    return found
