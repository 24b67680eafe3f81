"""Hostile inputs: 50,000 mutated pictures, decoding bombs, 1,000 edits of a signed bundle, 200 hostile archives.

``make fuzz``; ``QUICK=1`` takes a small part of each. Pictures that fail are kept in ``build/fuzz``. The last line is
the figures, as JSON; exit code 1 if a count that must be zero is not.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from command import print_figures, run
from fuzz.archives import open_archives
from fuzz.bombs import refuse_bombs
from fuzz.bundles import edit_bundles
from fuzz.pictures import mutate_pictures
from gonogo.errors import UnfitError

PARTS = ("pictures", "bombs", "bundles", "archives")
MUST_BE_ZERO = (
    "crashes", "over_2_s", "over_512_mb", "not_refused", "over_100_ms", "accepted", "other_bundle_judged",
    "writes_outside", "requests", "processes", "over_10_s",
)  # fmt: skip


def failures(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the counts that had to be zero and are not."""
    return [
        f"{part}: {key} {value}"
        for part, figures in found.items()
        for key, value in figures.items()
        if key in MUST_BE_ZERO and value
    ]


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small part of the counts")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part alone; may be repeated")
    parser.add_argument("--seed", type=int, default=26)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="folder for pictures that fail")
    given = parser.parse_args()
    quick, seed, out = given.quick, given.seed, given.out
    parts = {
        "pictures": lambda: mutate_pictures(1_600 if quick else 50_000, seed=seed, out=out),
        "bombs": lambda: refuse_bombs(3 if quick else 20, seed=seed, out=out),
        "bundles": lambda: edit_bundles(56 if quick else 1_000, seed=seed),
        "archives": lambda: open_archives(1 if quick else 10, seed=seed),
    }
    found = {}
    for name in given.only or PARTS:
        began = time.monotonic()
        found[name] = parts[name]() | {"took_s": round(time.monotonic() - began, 1)}
    print_figures(found)
    if wrong := failures(found):
        raise UnfitError(f"expected 0, found {'; '.join(wrong)}.")


if __name__ == "__main__":
    run(main)
