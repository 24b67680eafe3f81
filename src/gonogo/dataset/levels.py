"""The levels of a data set of 16-bit pictures: measured on its training pictures, kept in ``levels.json``.

Everything that reads its pictures uses them: pages, training, and the recipe of the bundles that are trained on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gonogo import images
from gonogo.array_types import UInt16
from gonogo.config import Depth
from gonogo.dataset.records import LEVELS, METADATA, Dataset, Split, read_levels
from gonogo.errors import DatasetError, ImageError
from gonogo.files import write_beside
from gonogo.images.confined import decode_raw_confined
from gonogo.progress import track

MEASURED = 200
"""Number of training pictures that the levels are measured on, evenly chosen."""


def write_levels(dataset: Dataset, depth: Depth) -> None:
    """Write the levels of a data set."""
    write_beside(dataset.root / LEVELS, f"{depth.model_dump_json()}\n".encode())


def measure_levels(dataset: Dataset) -> Depth | None:
    """Measure the levels on the pictures of the train split, or on all pictures if there are no splits.

    Returns:
        The levels; ``None`` if the pictures have 8 bits, or colour.

    Raises:
        DatasetError: only some of the pictures have 16 bits, or all their pixels are equal.
        ImageError: a picture cannot be read.
    """
    samples = dataset.split(Split.TRAIN) or dataset.samples
    chosen = samples[:: max(1, len(samples) // MEASURED)]
    others = 0

    def deep() -> Iterator[UInt16[np.ndarray, "height width"]]:
        nonlocal others
        for sample in track(chosen, "Measuring levels"):
            path = dataset.path(sample)
            raw = decode_raw_confined(images.read_bytes(path), name=str(path))
            if raw is None:
                others += 1
            else:
                yield raw

    if not chosen or not _is_deep(dataset.path(chosen[0])):
        return None
    try:
        found = images.measured_levels(deep())
    except ImageError as error:
        raise DatasetError(f"{dataset.root}: the levels cannot be measured: {error} Set them by hand.") from error
    if others:
        raise DatasetError(
            f"{dataset.root}: expected either 16-bit grey pictures or others, found both ({others} of "
            f"{len(chosen)} are others). Import them separately."
        )
    return found


def with_levels(dataset: Dataset) -> Dataset:
    """Return a data set with its levels, measured and written if its pictures need some and it has none."""
    if dataset.depth is not None or (depth := measure_levels(dataset)) is None:
        return dataset
    write_levels(dataset, depth)
    return Dataset(root=dataset.root, samples=dataset.samples, study=dataset.study, depth=depth)


def levels_note(dataset: Dataset) -> list[str]:
    """Describe the levels of an imported data set; nothing for pictures of 8 bits."""
    depth = dataset.depth
    if depth is None:
        return []
    return [
        f"The pictures have 16 bits: counts from {depth.black:,} to {depth.white:,} are judged (gonogo dataset levels)."
    ]


def levels_of(picture: Path) -> Depth | None:
    """Return the levels of the data set that a picture lies in; ``None`` if it has none."""
    root = next((folder for folder in picture.parents[:6] if (folder / METADATA).is_file()), None)
    return None if root is None else read_levels(root)


def _is_deep(path: Path) -> bool:
    return images.read_header(images.read_bytes(path), name=str(path)).deep_grey
