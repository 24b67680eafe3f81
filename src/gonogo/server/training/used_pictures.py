"""The training and calibration pictures of an inspector, which a comparison must skip."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gonogo.dataset import Dataset, Split
from gonogo.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class UsedPictures:
    """The pictures that an inspector was trained or calibrated on: all of a training run except the test split."""

    pictures: tuple[Path, ...]
    parts: frozenset[str]
    """Names of their parts."""

    @classmethod
    def read(cls, snapshot: Path) -> UsedPictures | None:
        """Read them from the label snapshot of a training run; ``None`` if it is missing."""
        try:
            dataset = Dataset.read(snapshot)
        except DatasetError:
            return None
        used = [sample for sample in dataset.samples if sample.split is not Split.TEST]
        return cls(
            pictures=tuple(dataset.path(sample) for sample in used),
            parts=frozenset(sample.part for sample in used if sample.part is not None),
        )

    def contains_picture(self, picture: Path, part: str | None) -> bool:
        """Whether this picture (compared by content) or another one of the same part was used."""
        same_size = self._by_size[picture.stat().st_size] if picture.is_file() else []
        return part in self.parts or any(filecmp.cmp(picture, each, shallow=False) for each in same_size)

    def contains_frames(self, frames_sha256: Iterable[str], part: str | None) -> bool:
        """Whether a part from the line was used: reviewed pictures are named after the frame's SHA-256."""
        return part in self.parts or not self._stems.isdisjoint(frames_sha256)

    @cached_property
    def _by_size(self) -> defaultdict[int, list[Path]]:
        found: defaultdict[int, list[Path]] = defaultdict(list)
        for path in self.pictures:
            if path.is_file():
                found[path.stat().st_size].append(path)
        return found

    @cached_property
    def _stems(self) -> frozenset[str]:
        return frozenset(path.stem for path in self.pictures)
