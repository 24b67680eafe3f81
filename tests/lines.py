"""Rendered parts for learning: brushed metal, good, with a dark spot, or with a faint scratch."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from gonogo import images
from gonogo.dataset import Dataset, Sample, Split
from gonogo.schema import Frame, Label

HEIGHT, WIDTH = 64, 96


def render(kind: str, rng: np.random.Generator, *, contrast: float = 1.0) -> Frame:
    """One part: ``good``, ``spot`` or ``scratch``."""
    picture = cv2.GaussianBlur(rng.normal(130, 40, (HEIGHT, WIDTH)), (0, 0), sigmaX=6, sigmaY=0.8)
    mark = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y = int(rng.integers(20, WIDTH - 20)), int(rng.integers(16, HEIGHT - 16))
    if kind == "spot":
        cv2.circle(mark, (x, y), int(rng.integers(5, 8)), 255, -1)
        picture[mark > 0] -= 60 * contrast
    elif kind == "scratch":
        cv2.line(mark, (x - 12, y - 10), (x + 12, y + 10), 255, 2)
        picture[mark > 0] += 60 * contrast
    noisy = picture + rng.normal(0, 4, picture.shape)
    return np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def add(
    dataset: Dataset,
    counts: Mapping[tuple[Split, str], int],
    rng: np.random.Generator,
    *,
    contrast: float = 1.0,
    tag: str = "",
) -> Dataset:
    """The data set with so many more parts of each kind in each split; written."""
    samples = list(dataset.samples)
    for (split, kind), count in counts.items():
        for number in range(count):
            name = f"{tag}{split}-{kind}-{number:03d}"
            (dataset.root / "images").mkdir(parents=True, exist_ok=True)
            data = images.encode_png(render(kind, rng, contrast=contrast))
            (dataset.root / "images" / f"{name}.png").write_bytes(data)
            good = kind == "good"
            samples.append(
                Sample(
                    file_name=f"images/{name}.png",
                    label=Label.GOOD if good else Label.BAD,
                    defect=None if good else kind,
                    part=name,
                    split=split,
                )
            )
    grown = Dataset(root=dataset.root, samples=tuple(samples))
    grown.write()
    return grown
