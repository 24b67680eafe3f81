"""Stress stations and count violations: ``make chaos``; ``QUICK=1`` runs 5 % of it.

Exit code 1 if anything goes wrong. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from chaos.lanes import progress_ticker, run_all
from command import print_figures, run
from gonogo.errors import UnfitError

QUICK = 0.05
"""Factor of all counts with ``--quick``."""


def main() -> None:
    """Run everything, print violations, then the figures."""
    given = _arguments()
    share = QUICK if given.quick else 1.0
    counts = {
        "kills": given.kills,
        "triggers": given.triggers,
        "failing": given.failures,
        "pictures": given.pictures,
    }
    counts = {name: max(1, round(share * count)) for name, count in counts.items()}
    total = counts["kills"] + counts["triggers"] + 4 * counts["failing"] + counts["pictures"]
    with tempfile.TemporaryDirectory(prefix="gonogo-chaos-") as folder:
        found = run_all(Path(folder), **counts, seed=given.seed, lanes=given.lanes, tick=progress_ticker(total))
    for each in found.values():
        for example in each.examples:
            print(f"wrong: {example}", file=sys.stderr)  # noqa: T201
    figures: dict[str, Any] = {name: {**each.done, "wrong": each.wrong} for name, each in found.items()}
    figures["failures"]["slowest_fault_s"] = round(found["failures"].slowest_fault_s, 3)
    print_figures({"seed": given.seed, **figures})
    if not all(each.sound for each in found.values()):
        raise UnfitError("the station lost, doubled, contradicted or wrongly passed something; see the figures above.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Run 5 % of every count.")
    parser.add_argument("--kills", type=int, default=1000, help="Number of kills.")
    parser.add_argument("--triggers", type=int, default=10_000, help="Number of triggers in the storm.")
    parser.add_argument("--failures", type=int, default=100, help="Number of failures of each kind.")
    parser.add_argument(
        "--pictures", type=int, default=10_000, help="Number of triggers in the test with stray pictures."
    )
    parser.add_argument("--seed", type=int, default=1, help="Random seed.")
    parser.add_argument("--lanes", type=int, default=3, help="Number of stations that run in parallel.")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
