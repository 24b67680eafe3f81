"""What an inspector was made with, as its training run wrote it down: whoever compares leaves that out."""

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
    """The pictures that taught it or set its limits: all of a run but those for testing."""

    pictures: tuple[Path, ...]
    parts: frozenset[str]
    """Those that have a name."""

    @classmethod
    def read(cls, snapshot: Path) -> UsedPictures | None:
        """From the labels that a training run used; ``None`` where they are gone."""
        try:
            dataset = Dataset.read(snapshot)
        except DatasetError:
            return None
        used = [sample for sample in dataset.samples if sample.split is not Split.TEST]
        return cls(
            pictures=tuple(dataset.path(sample) for sample in used),
            parts=frozenset(sample.part for sample in used if sample.part is not None),
        )

    def knows_picture(self, picture: Path, part: str | None) -> bool:
        """Whether it was made with this very picture, under whatever name, or with another of the same part."""
        same_size = self._by_size[picture.stat().st_size] if picture.is_file() else []
        return part in self.parts or any(filecmp.cmp(picture, each, shallow=False) for each in same_size)

    def knows_frames(self, frames_sha256: Iterable[str], part: str | None) -> bool:
        """The same for a part of the line: reviewed pictures are named after the frame's digest."""
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
