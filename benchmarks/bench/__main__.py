"""Time judgements against the bare network, the training framework and other runtimes: ``make bench``.

``QUICK=1`` takes fewer turns and parts, and leaves out the tables whose ratios are not kept. The report and the figures
of every table lie in ``--out``. The ratios are appended to the table ``--history``, and what became slower on the same
machine is told. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bench.history import keep
from bench.study import FULL, QUICK, TABLES, Peers, run_bench
from command import print_figures, run
from gonogo.progress import console


def main() -> None:
    """Measure and print the table."""
    given = _arguments()
    found = run_bench(
        given.out,
        QUICK if given.quick else FULL,
        bundles=given.bundles,
        dataset=given.dataset,
        photo=given.photo,
        peers=Peers(keras=given.keras, anomalib=given.anomalib, installed=given.installed),
        workers=given.workers,
        only=given.only or TABLES,
    )
    for row in found.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:9.3f}"
        console.print(f"{row.table:11s}{row.name:48s}{ratio:9s}  {row.note}", markup=False, highlight=False)
    figures = found.to_json()
    apart = given.bundles or given.photo or given.only
    slower = [] if apart else keep(given.history, figures, quick=given.quick)
    for sentence in slower:
        console.print(f"slower than before: {sentence}", style="bold red")
    print_figures({**figures, "slower": slower})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench"), help="Folder for the report, figures and bundles.")
    parser.add_argument(
        "--history",
        type=Path,
        default=Path("benchmarks/bench/history.jsonl"),
        help="The kept table of runs, one JSON object a line. Runs with --bundles, --photo or --only are not kept.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="Fewer repeats and parts, and only the tables whose ratios are kept: below five minutes.",
    )
    parser.add_argument("--only", action="append", choices=TABLES, help="Measure this table alone; may be repeated.")
    parser.add_argument(
        "--bundles", type=Path, help="Measure the bundles in this folder, which must contain resnet50-int8.inspector."
    )
    parser.add_argument("--dataset", type=Path, help="The data set that those bundles were trained on.")
    parser.add_argument("--photo", type=Path, help="The picture to judge. Default: a rendered board.")
    parser.add_argument("--keras", type=Path, help="Python interpreter of an environment with Keras, for comparison.")
    parser.add_argument("--anomalib", type=Path, help="Python interpreter of an environment with anomalib.")
    parser.add_argument(
        "--installed",
        type=Path,
        help="Python interpreter of an environment with gonogo's wheel, to time its start there.",
    )
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), help="Number of rendering processes."
    )
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
