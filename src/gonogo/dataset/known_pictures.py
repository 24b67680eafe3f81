"""Pictures that an import meets again: copies within the source, and pictures that the data set has already."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gonogo.dataset.layouts import Found
from gonogo.dataset.records import Sample
from gonogo.schema import Label


def named(item: Found) -> str:
    """The defect kind or the label of a picture, for messages and folders."""
    return item.defect or (item.label.value if item.label else "unlabelled")


@dataclass
class KnownPictures:
    """The first picture with each content, and what was said about it again."""

    held: frozenset[Path] = frozenset()
    """Pictures that are already in the data set."""
    relabel: bool = False
    """Whether labels of the source replace those of the data set."""
    copies: int = 0
    given: dict[Path, tuple[Label, str | None]] = field(default_factory=dict)
    """New labels for pictures of the data set."""
    conflicts: list[str] = field(default_factory=list)
    """Pictures that have another label in the data set, one sentence each."""
    _said: dict[Path, tuple[Label, str | None]] = field(default_factory=dict)
    _first: dict[str, Found] = field(default_factory=dict)

    def remember(self, pixels_sha256: str, item: Found) -> None:
        """Add a picture of the data set."""
        self._first.setdefault(pixels_sha256, item)

    def is_copy(self, item: Found, pixels_sha256: str, faults: list[str]) -> bool:
        """Whether a picture was met before; two labels for one picture within the source are a fault."""
        first = self._first.setdefault(pixels_sha256, item)
        if first is item:
            return False
        self.copies += 1
        if first.path in self.held:
            self._label_again(first, item, faults)
        elif (first.label, first.defect) != (item.label, item.defect):
            faults.append(_two_labels(first, item))
        return True

    def relabelled(self, sample: Sample, path: Path) -> Sample:
        """The record with its new label, if it has one; a good part has no mask."""
        label, defect = self.given.get(path, (None, None))
        open_ones = sample.label is None or (sample.label is label and sample.defect is None)  # else labelled since
        if label is None or sample.present is False or not (self.relabel or open_ones):
            return sample
        update: dict[str, Any] = {"label": label, "defect": defect}
        if label is Label.GOOD:
            update |= {key: None for key in ("mask_file_name", "polygons", "mask_before") if hasattr(sample, key)}
        return sample.model_copy(update=update)

    def _label_again(self, first: Found, item: Found, faults: list[str]) -> None:
        if item.label is None:
            return
        said = item.label, item.defect
        if self._said.setdefault(first.path, said) != said:
            faults.append(
                f"{item.path}: the source has this picture with two labels. Keep the one with the right label."
            )
        if first.label is item.label and item.defect in (None, first.defect):
            return
        adds = first.label is None or (first.label is item.label and first.defect is None)
        if adds or self.relabel:
            self.given[first.path] = said
        if adds:
            return  # a label or a kind that was open contradicts nothing
        self.conflicts.append(f"{first.path} is {named(first)}, but {item.path} is {named(item)}.")


def _two_labels(first: Found, item: Found) -> str:
    return (
        f"{first.path} ({named(first)}) and {item.path} ({named(item)}) are the same picture with different labels. "
        "Keep the one with the right label."
    )
