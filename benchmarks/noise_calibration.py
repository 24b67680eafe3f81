"""Check that the parity gate refuses INT8 ranges from noise: ``python benchmarks/noise_calibration.py BUNDLE DATASET``.

Twice, with the default limits and without accuracy control: from noise of four grey levels, which reaches nowhere near
as far as photographs do, and from noise of all of them. The last line is the verdicts and what was counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from gonogo.dataset import Dataset
from gonogo.errors import UnfitError
from gonogo.inspector import Inspector
from gonogo.progress import console
from gonogo.workflow.quantizing import QuantizingOptions, quantize_bundle

PICTURES = 100


def judged(source: Inspector, dataset: Dataset, *, levels: range) -> str:
    """Quantize an inspector with INT8 ranges from noise of this amplitude in grey levels; return the result."""
    width, height = source.recipe.size_wh
    rng = np.random.default_rng(0)
    noise = [rng.integers(levels.start, levels.stop, (height, width, 3), dtype=np.uint8) for _ in range(PICTURES)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "noise.inspector"
        try:
            made = quantize_bundle(source, dataset, out, QuantizingOptions(control=False), pictures=noise)
        except UnfitError as refusal:
            console.print(str(refusal), markup=False, highlight=False)
            return " ".join(["refused:", *str(refusal).splitlines()[1:4]])
    before, after = made.agreement.pointing
    return (
        f"accepted: {made.agreement.flips.count} flips and {made.agreement.moves.count} moves of "
        f"{made.agreement.flips.of}; the hottest point lies on {after.count} marked defects, before on {before.count}."
    )


def main() -> None:
    """Run both cases and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="A certified inspector of full precision.")
    parser.add_argument("dataset", type=Path, help="The data set that it was trained on.")
    given = parser.parse_args()
    source, dataset = Inspector.load(given.bundle), Dataset.read(given.dataset)
    found = {
        name: judged(source, dataset, levels=levels)
        for name, levels in (("four levels", range(126, 130)), ("all levels", range(256)))
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
