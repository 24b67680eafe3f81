"""Photographs of large brushed plates; bad ones carry one dark pit of twelve pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from gonogo.dataset import Dataset, Sample, Split
from gonogo.images import encode_jpeg, encode_png
from gonogo.schema import Frame, Label, Mask

SIZE_WH = (2000, 1500)
PIT_PX = 12
DEPTH = 34


def large_plate(
    rng: np.random.Generator,
    *,
    bad: bool,
    size_wh: tuple[int, int] = (2000, 1500),
    pit_xy: tuple[int, int] | None = None,
) -> tuple[Frame, Mask]:
    """A plate and where it is pitted; at a random place where none is given."""
    width, height = size_wh
    grain = rng.normal(0, 1, (height // 2, width // 2)).astype(np.float32)
    brushed = cv2.resize(cv2.blur(grain, (31, 1)), size_wh, interpolation=cv2.INTER_LINEAR)
    picture = 140 + 70 * brushed + 6 * cv2.resize(grain, size_wh, interpolation=cv2.INTER_NEAREST)
    mask = np.zeros((height, width), np.uint8)
    if bad:
        x, y = pit_xy or (int(rng.integers(20, width - 20)), int(rng.integers(20, height - 20)))
        cv2.circle(mask, (x, y), PIT_PX // 2, 255, -1)
        picture[mask > 0] -= DEPTH
    grey = np.clip(picture, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), mask > 0


def make_large_plates(
    root: Path, parts: dict[Split, tuple[int, int]], *, size_wh: tuple[int, int] = SIZE_WH, masks: bool = True
) -> Dataset:
    """So many good and bad plates in each split."""
    rng = np.random.default_rng(11)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    samples = []
    for split, counts in parts.items():
        for label, count in zip(Label, counts, strict=True):
            for number in range(count):
                frame, mask = large_plate(rng, bad=label is Label.BAD, size_wh=size_wh)
                stem = f"{split}-{label}-{number}"
                (root / f"images/{stem}.jpg").write_bytes(encode_jpeg(frame, quality=95))
                masked = masks and label is Label.BAD
                if masked:
                    (root / f"masks/{stem}.png").write_bytes(encode_png(mask.astype(np.uint8) * 255))
                samples.append(
                    Sample(
                        file_name=f"images/{stem}.jpg",
                        label=label,
                        part=stem,
                        mask_file_name=f"masks/{stem}.png" if masked else None,
                        split=split,
                    )
                )
    dataset = Dataset(root=root, samples=tuple(samples))
    dataset.write()
    return dataset
