"""Measure how well near-duplicates are found: re-shot copies should be, different pictures should not.

``make duplicates ARGS=DATASET``, or ``python benchmarks/duplicates.py DATASET --sheet FILE.png``; without a data set it
uses rendered boards. ``QUICK=1`` re-shoots 20 pictures instead of 200. The last line holds the figures as JSON.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from scipy.stats import binomtest

from command import print_figures, run
from gonogo import images
from gonogo.dataset.duplicates import Alike, PictureHashes, components, near_duplicates, picture_hashes
from gonogo.dataset.reading import read_pictures
from gonogo.dataset.records import Dataset
from gonogo.errors import DatasetError
from gonogo.files import write_beside
from gonogo.progress import track
from gonogo.schema import Frame
from gonogo.synthetic import write_dataset

Reshoot = Callable[[Frame, np.random.Generator], Frame]


@dataclass(frozen=True, kw_only=True)
class Share:
    """``hits`` of ``trials`` with its exact 95 % interval (Clopper and Pearson)."""

    hits: int
    trials: int
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, trials: int) -> Share:
        """Return the share with its interval, which is 0 to 1 without trials."""
        if trials == 0:
            return cls(hits=0, trials=0, low=0.0, high=1.0)
        interval = binomtest(hits, trials).proportion_ci(0.95, method="exact")
        return cls(hits=hits, trials=trials, low=float(interval.low), high=float(interval.high))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Catch rates and merges of one data set."""

    pictures: int
    groups: int
    """Number of groups, that is of different surfaces."""
    caught: Mapping[str, Share]
    """Share of re-shot copies in the same group as their original, by kind of copy."""
    merged_pairs: int
    """Pairs of original pictures that were merged."""
    merged_across_parts: int | None
    """Merged pairs of different parts, which are false merges; ``None`` if the parts have no names."""
    merged_across_kinds: int
    """Merged pairs with different labels or defect kinds; false if each part has one kind."""
    suspects: tuple[tuple[str, str, int], ...]
    """Merged pairs to inspect: file, file, number of matching features. Up to half are across parts or kinds, the
    others have the fewest matches."""


def crop(frame: Frame, rng: np.random.Generator) -> Frame:
    """Cut up to a tenth off every side."""
    height, width = frame.shape[:2]
    left, top, right, bottom = (rng.uniform(0, 0.1, 4) * (width, height, width, height)).astype(int)
    return frame[top : height - bottom, left : width - right]


def crop_resize(frame: Frame, rng: np.random.Generator) -> Frame:
    """`crop`, then resize to the old size."""
    cropped = crop(frame, rng)
    return cv2.resize(cropped, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def shift(frame: Frame, rng: np.random.Generator) -> Frame:
    """Shift by up to 8 % of each side; new pixels repeat the edge."""
    height, width = frame.shape[:2]
    dx, dy = rng.uniform(-0.08, 0.08, 2) * (width, height)
    return _warp(frame, np.array([[1, 0, dx], [0, 1, dy]], np.float32))


def turn(frame: Frame, rng: np.random.Generator) -> Frame:
    """Rotate by up to 3 degrees about the centre."""
    height, width = frame.shape[:2]
    return _warp(frame, cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-3, 3), 1.0))


def brightness(frame: Frame, rng: np.random.Generator) -> Frame:
    """Scale the contrast by 0.6 to 1.5 and shift the brightness by up to 20 of 255, clipped."""
    return np.clip(frame * rng.uniform(0.6, 1.5) + rng.uniform(-20, 20), 0, 255).astype(np.uint8)


def jpeg(frame: Frame, rng: np.random.Generator) -> Frame:
    """Recompress as JPEG of quality 20 to 60."""
    return images.decode(images.encode_jpeg(frame, quality=int(rng.integers(20, 61))))


def smaller(frame: Frame, rng: np.random.Generator) -> Frame:
    """Resize to 50 to 90 %."""
    factor = rng.uniform(0.5, 0.9)
    return cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA).astype(np.uint8)


def everything(frame: Frame, rng: np.random.Generator) -> Frame:
    """`crop`, `turn`, `brightness` and `jpeg` one after the other."""
    return jpeg(brightness(turn(crop(frame, rng), rng), rng), rng)


RESHOTS: tuple[Reshoot, ...] = (crop, crop_resize, shift, turn, brightness, jpeg, smaller, everything)


def measure(dataset: Dataset, *, copies: int = 200, seed: int = 0, suspects: int = 48) -> Measured:
    """Re-shoot some pictures of a data set in every way, and count found copies and merged pairs.

    Args:
        dataset: The data set; if its records name parts, false merges are counted.
        copies: Number of random pictures to re-shoot.
        seed: Of the choice and of the copies.
        suspects: How many of the merged pairs to name, the most doubtful first.

    Raises:
        DatasetError: an unreadable picture, or fewer than two.
    """
    samples = dataset.samples
    looks = [reading.look for reading in read_pictures(dataset)]
    if len(looks) < 2:
        raise DatasetError(f"{dataset.root}: expected at least two pictures, found {len(looks)}. Import more.")
    pairs = near_duplicates(looks)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(samples))[:copies]).tolist()
    caught = {}
    for reshoot in RESHOTS:
        copied = [
            picture_hashes(reshoot(dataset.load(samples[row]), rng))
            for row in track(chosen, f"Re-shooting: {reshoot.__name__}")
        ]
        caught[reshoot.__name__] = Share.of(_caught(looks, copied, chosen), len(chosen))
    parts = [sample.part for sample in samples]
    kinds = [(sample.label, sample.defect) for sample in samples]
    across_parts = [pair for pair in pairs if parts[pair.first] != parts[pair.second]]
    across_kinds = [pair for pair in pairs if kinds[pair.first] != kinds[pair.second]]
    across = list(dict.fromkeys([*across_parts, *across_kinds]))[: suspects // 2]
    doubtful = dict.fromkeys([*across, *sorted(pairs, key=lambda pair: pair.agreeing)])
    return Measured(
        pictures=len(samples),
        groups=len(set(components(len(samples), _ends(pairs)))),
        caught=caught,
        merged_pairs=len(pairs),
        merged_across_parts=len(across_parts) if all(part is not None for part in parts) else None,
        merged_across_kinds=len(across_kinds),
        suspects=tuple(
            (samples[pair.first].file_name, samples[pair.second].file_name, pair.agreeing)
            for pair in list(doubtful)[:suspects]
        ),
    )


def sheet(dataset: Dataset, pairs: Sequence[tuple[str, str, int]], *, height: int = 160) -> Frame:
    """Draw pairs of pictures side by side with their number of matches, two pairs per row, for visual inspection.

    Raises:
        ImageError: a picture is unreadable.
    """
    cell_wh = (2 * height, height)
    tiles = []
    for first, second, agreeing in pairs:
        pair = [_into(images.load_picture(dataset.root / name), cell_wh) for name in (first, second)]
        tile = np.hstack([*pair, np.full((height, 12, 3), 255, np.uint8)])
        strip = np.full((20, tile.shape[1], 3), 255, np.uint8)
        names = f"{agreeing}: {first.split('/', 1)[-1]} | {second.split('/', 1)[-1]}"
        cv2.putText(strip, names, (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(np.vstack([strip, tile]))
    if len(tiles) % 2:
        tiles.append(np.full_like(tiles[0], 255))
    return np.vstack([np.hstack(tiles[row : row + 2]) for row in range(0, len(tiles), 2)])


def _caught(looks: Sequence[PictureHashes], copied: Sequence[PictureHashes], originals: Sequence[int]) -> int:
    """Count the copies that are grouped with their original among all pictures."""
    together = [*looks, *copied]
    group = components(len(together), _ends(near_duplicates(together)))
    return sum(group[len(looks) + place] == group[row] for place, row in enumerate(originals))


def _ends(pairs: Sequence[Alike]) -> list[tuple[int, int]]:
    return [(pair.first, pair.second) for pair in pairs]


def _into(frame: Frame, cell_wh: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """Fit a picture into a white cell."""
    width, height = cell_wh
    factor = min(width / frame.shape[1], height / frame.shape[0])
    size_wh = (max(1, int(frame.shape[1] * factor)), max(1, int(frame.shape[0] * factor)))
    cell = np.full((height, width, 3), 255, np.uint8)
    cell[: size_wh[1], : size_wh[0]] = cv2.resize(frame, size_wh, interpolation=cv2.INTER_AREA)
    return cell


def _warp(frame: Frame, matrix: np.ndarray) -> Frame:
    size_wh = (frame.shape[1], frame.shape[0])
    return cv2.warpAffine(frame, matrix, size_wh, borderMode=cv2.BORDER_REPLICATE).astype(np.uint8)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, nargs="?", help="Data set folder. Default: rendered boards.")
    parser.add_argument("--quick", action="store_true", help="Re-shoot 20 pictures.")
    parser.add_argument("--copies", type=int, help="Number of pictures to re-shoot. Default: 200.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed of the choice and the copies.")
    parser.add_argument("--sheet", type=Path, help="Draw the most doubtful merged pairs here.")
    given = parser.parse_args(words)
    copies = given.copies or (20 if given.quick else 200)
    with tempfile.TemporaryDirectory() as folder:
        rendered = Path(folder) / "boards"
        data = write_dataset(rendered, 2 * copies) if given.dataset is None else Dataset.read(given.dataset)
        measured = measure(data, copies=copies, seed=given.seed)
        if given.sheet is not None and measured.suspects:
            write_beside(given.sheet, images.encode_png(sheet(data, measured.suspects)))
    for name, share in measured.caught.items():
        shown = f"{name:12} {share.hits:4} of {share.trials} found  ({share.low:.1%} to {share.high:.1%})"
        print(shown)  # noqa: T201
    print_figures(asdict(measured))


if __name__ == "__main__":
    run(main)
