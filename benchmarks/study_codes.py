"""Rendered codes at three sizes under blur and glare: how many are read, how many wrongly?

``make study-codes``: 1,000 parts with a DataMatrix, QR or Code 128 each, turned at random, with modules of 2, 3 or 5
pixels, sharp, blurred, with a glare, or both. Each is read like on the line, through a code zone, once with the pattern
of the text and once with one that matches anything. A wrong read is a text other than the one that was drawn. As many
pictures without any code must give none. ``QUICK=1`` takes 120. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from command import print_figures, run
from gonogo.codes import read_identity, require_reader
from gonogo.config import CodeFormat, CodeZone
from gonogo.images import encode_png
from gonogo.images.zones import Place
from gonogo.operating_point import clopper_pearson
from gonogo.progress import track
from gonogo.schema import Box, Frame
from gonogo.synthetic.codes import CodeLook, draw_code

FORMATS: tuple[CodeFormat, ...] = ("DataMatrix", "QRCode", "Code128")
SIZES_PX = (2.0, 3.0, 5.0)
CONDITIONS = {"sharp": (0.0, 0.0), "blur": (0.45, 0.0), "glare": (0.0, 0.6), "blur and glare": (0.45, 0.6)}
"""Blur as a share of a module, and brightness of the glare: 0.6 leaves 40 % of the contrast in its middle."""
PATTERN = r"(?P<product>[A-Z]{4})-(?P<lot>L\d{4})-(?P<serial>\d{6})"
ANYTHING = "(?P<part>.+)"
WHOLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One code as it was drawn, and what was read."""

    text: str
    form: CodeFormat
    size_px: float
    condition: str
    read: str | None
    read_without_pattern: str | None
    took_ms: float

    @property
    def wrong(self) -> bool:
        """Whether another text was read than was drawn."""
        return self.read not in (None, self.text)


def show(count: int, seed: int) -> list[Shown]:
    """Draw and read codes; sizes, conditions and formats take turns."""
    rng = np.random.default_rng(seed)
    shown = []
    for number in track(range(count), "reading"):
        size_px, condition = SIZES_PX[number % 3], list(CONDITIONS)[number // 3 % 4]
        form = FORMATS[number // 12 % 3]
        letters = "".join(rng.choice(list("ABCDEFGHJKLMNPQRSTUVWXYZ"), 4))
        text = f"{letters}-L{rng.integers(10_000):04d}-{rng.integers(1_000_000):06d}"
        picture = _picture(text, form, size_px, condition, rng)
        began = time.perf_counter()
        read = _read(picture, form, PATTERN)
        took_ms = (time.perf_counter() - began) * 1e3
        shown.append(
            Shown(
                text=text,
                form=form,
                size_px=size_px,
                condition=condition,
                read=read,
                read_without_pattern=_read(picture, form, ANYTHING),
                took_ms=took_ms,
            )
        )
    return shown


def _picture(text: str, form: CodeFormat, size_px: float, condition: str, rng: np.random.Generator) -> Frame:
    blur, glare = CONDITIONS[condition]
    look = CodeLook(
        module_px=size_px,
        blur_modules=blur,
        glare=glare,
        contrast=float(rng.uniform(0.4, 0.8)),
        angle_deg=float(rng.uniform(-20, 20)),
        noise=float(rng.uniform(1, 5)),
    )
    return draw_code(text, form, look, seed=int(rng.integers(2**31)))


def _read(picture: Frame, form: CodeFormat, pattern: str) -> str | None:
    zone = CodeZone(kind="code", name="code", polygon=WHOLE, formats=(form,), pattern=pattern)
    identity, _ = read_identity(picture, Place(region=Box.whole(picture)), (zone,))
    return identity.codes[0] if identity.codes else None


def read_nothing(count: int, seed: int) -> int:
    """Return how many pictures without a code are read as one: noise, stripes, and shapes like those of codes."""
    rng, found = np.random.default_rng(seed), 0
    zone = CodeZone(kind="code", name="code", polygon=WHOLE, formats=FORMATS, pattern=ANYTHING)
    for number in track(range(count), "pictures without a code"):
        cells = rng.integers(0, 2, (1 if number % 3 == 0 else 20, 40)).astype(np.uint8) * 200 + 30
        grey = cv2.resize(cells, (240, 120), interpolation=cv2.INTER_NEAREST)
        grey = np.clip(grey + rng.normal(0, 5, grey.shape), 0, 255).astype(np.uint8)
        picture = np.repeat(grey[..., None], 3, axis=2)
        found += bool(read_identity(picture, Place(region=Box.whole(picture)), (zone,))[0].codes)
    return found


def figures(shown: Sequence[Shown]) -> dict[str, Any]:
    """Read rate by size and condition, and wrong reads."""
    total, right = Counter[tuple[float, str]](), Counter[tuple[float, str]]()
    for each in shown:
        total[each.size_px, each.condition] += 1
        right[each.size_px, each.condition] += each.read == each.text
    wrong = sum(each.wrong for each in shown)
    return {
        "codes": len(shown),
        "read": sum(right.values()),
        "wrong": wrong,
        "wrong_at_most": clopper_pearson(wrong, len(shown))[1],
        "wrong_without_pattern": sum(each.read_without_pattern not in (None, each.text) for each in shown),
        "read_rate": {
            f"{size:g} px": {
                name: round(right[size, name] / total[size, name], 3) for name in CONDITIONS if total[size, name]
            }
            for size in SIZES_PX
        },
        "read_rate_by_format": {
            form: round(float(np.mean([each.read == each.text for each in shown if each.form == form])), 3)
            for form in FORMATS
        },
        "median_ms": round(float(np.median([each.took_ms for each in shown])), 2),
        "p99_ms": round(float(np.quantile([each.took_ms for each in shown], 0.99)), 2),
    }


def write_sheet(path: Path, seed: int) -> None:
    """Draw one DataMatrix at each size under each condition."""
    rng = np.random.default_rng(seed)
    rows = []
    for size_px in SIZES_PX:
        cells = []
        for condition in CONDITIONS:
            picture = _picture("CHIP-L0042-000123", "DataMatrix", size_px, condition, rng)
            cell = np.full((140, 140, 3), 255, np.uint8)
            height, width = (min(140, side) for side in picture.shape[:2])
            top, left = (140 - height) // 2, (140 - width) // 2
            cell[top : top + height, left : left + width] = picture[:height, :width]
            cells.append(cell)
        rows.append(np.concatenate(cells, axis=1))
    path.write_bytes(encode_png(np.concatenate(rows)))


def main() -> None:
    """Draw, read, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="Folder for the sheet of codes.")
    parser.add_argument("--quick", action="store_true", help="120 codes.")
    parser.add_argument("--seed", type=int, default=1, help="Random seed.")
    given = parser.parse_args()
    require_reader()
    count = 120 if given.quick else 1000
    given.out.mkdir(parents=True, exist_ok=True)
    write_sheet(given.out / "codes.png", given.seed)
    found = figures(show(count, given.seed))
    found["read_without_code"] = read_nothing(count, given.seed)
    table = Table("module", *CONDITIONS, box=box.SIMPLE)
    for size, rates in found["read_rate"].items():
        table.add_row(size, *(f"{rate:.1%}" for rate in rates.values()))
    Console().print(table)
    print_figures(found)


if __name__ == "__main__":
    run(main)
