"""Does a promise hold when the parts of a lot fail together? ``make study-lots``; QUICK=1 makes fewer draws.

Scores of bad parts are drawn with a known correlation within lots, each calibration chooses its threshold by the rule
of the certificate, and the true escape rate behind the threshold is computed. A bound covers if that rate is below it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from scipy import special

from command import print_figures, run
from gonogo.files import write_beside
from gonogo.operating_point import allowed_errors, clopper_pearson
from gonogo.operating_point.lots import clustered_bound, effective_parts, lot_correlation, worst_case_bound
from gonogo.progress import console, track
from lots_plot import plot

MAX_ESCAPE, DELTA = 0.05, 0.05
_COLUMNS = (
    "certificate_kept",
    "by_correlation_kept",
    "by_correlation_mean",
    "worst_case_kept",
    "worst_case_mean",
)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Lots of bad parts, and how alike the parts of a lot are."""

    lots: int
    size: int
    correlation: float

    @property
    def name(self) -> str:
        """Name in the table."""
        return f"{self.lots} lots of {self.size}, correlation {self.correlation:g}"


SCENARIOS = tuple(
    Scenario(lots=lots, size=size, correlation=correlation)
    for lots, size in ((100, 1), (50, 4), (20, 10), (10, 20), (5, 40))
    for correlation in (0.0, 0.1, 0.3, 0.6, 1.0)
    if size > 1 or correlation == 0.0
)


def draw(scenario: Scenario, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """True escape rate, bound by the correlation, worst-case bound, and the correlation found, of one calibration."""
    share = scenario.correlation
    lots = np.repeat(np.arange(scenario.lots), scenario.size)
    common = rng.normal(size=scenario.lots)[lots]
    scores = np.sqrt(share) * common + np.sqrt(1.0 - share) * rng.normal(size=len(lots))
    parts = len(lots)
    allowed = allowed_errors(parts, MAX_ESCAPE, DELTA)
    assert allowed is not None, "each scenario has enough parts"
    go_below = float(np.sort(scores)[allowed])
    found = lot_correlation(scores, lots)
    worth = effective_parts(np.full(scenario.lots, scenario.size), found)
    return (
        float(special.ndtr(go_below)),
        max(MAX_ESCAPE, clustered_bound(allowed, parts, worth, DELTA)),
        max(MAX_ESCAPE, worst_case_bound(allowed, scenario.lots, DELTA)),
        found,
    )


def measure(scenario: Scenario, draws: int, seed: int) -> dict[str, Any]:
    """Coverage of the three bounds over many calibrations, and their mean sizes."""
    rng = np.random.default_rng([seed, scenario.lots, scenario.size, round(scenario.correlation * 100)])
    rates, by_correlation, worst, found = np.array([draw(scenario, rng) for _ in range(draws)]).T
    kept = {
        "certificate": int((rates <= MAX_ESCAPE).sum()),
        "by_correlation": int((rates <= by_correlation).sum()),
        "worst_case": int((rates <= worst).sum()),
    }
    return {
        "scenario": scenario.name,
        "lots": scenario.lots,
        "size": scenario.size,
        "correlation": scenario.correlation,
        "draws": draws,
        **{f"{name}_kept": count / draws for name, count in kept.items()},
        **{f"{name}_95": list(clopper_pearson(count, draws)) for name, count in kept.items()},
        "by_correlation_mean": float(by_correlation.mean()),
        "worst_case_mean": float(worst.mean()),
        "correlation_found": float(found.mean()),
    }


def panels(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by number and size of the lots, without lots of one part."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["size"] > 1:
            found.setdefault(f"{row['lots']} lots of {row['size']}", []).append(row)
    return found


def main() -> None:
    """Print a table, and the figures as JSON in the last line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="200 draws instead of 1,000")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--plot", type=Path, help="draw the coverage as SVG into this file")
    given = options.parse_args()
    draws = 200 if given.quick else 1000
    rows = [measure(scenario, draws, given.seed) for scenario in track(SCENARIOS, "Scenarios")]
    table = Table()
    for heading in ("bad parts", "certificate 5 % kept", "by correlation kept", "mean", "worst case kept", "mean"):
        table.add_column(heading, justify="left" if heading == "bad parts" else "right")
    for row in rows:
        table.add_row(str(row["scenario"]), *(f"{row[name]:.1%}" for name in _COLUMNS))
    console.print(table)
    if given.plot is not None:
        write_beside(given.plot, plot(panels(rows)).encode())
    print_figures({"max_escape": MAX_ESCAPE, "confidence": 1 - DELTA, "seed": given.seed, "rows": rows})


if __name__ == "__main__":
    run(main)
