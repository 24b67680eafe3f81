"""Near-duplicates of labelled pictures: which there are, and where a region of one lies in the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gonogo import images
from gonogo.array_types import Float64
from gonogo.dataset import Sample
from gonogo.dataset.duplicates import alignment, near_duplicates, picture_hashes
from gonogo.dataset.levels import levels_of
from gonogo.errors import ImageError
from gonogo.schema import Frame, Label
from gonogo.server.dataset_store import Records, decided
from gonogo.server.grid.likeness import Likeness
from gonogo.server.label.growing import outlines_of
from gonogo.server.label.picture_label import MOST_OUTLINES, Point
from gonogo.server.language import N_, translations

MOST_SEARCHED = 3
"""Largest number of chosen pictures without a known group whose near-duplicates are searched for."""
MOST_ALIGNED = 200
"""Largest number of near-duplicates that get the region, too; each takes some tens of milliseconds."""
_CANDIDATES, _BESIDE, _OTHERS = 40, 8, 24
_UPRIGHT_DEGREES = 1.0
_LABELS = {"good": N_("good"), "bad": N_("bad")}


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A near-duplicate of a labelled picture: unlabelled, or in another split."""

    source: Sample
    target: Sample
    region: Mapping[str, Any] = field(default_factory=dict)
    """``box_xyxy``, ``quad`` and ``polygons`` of the target, as far as the source has them and they could be placed."""
    size_wh: tuple[int, int] = (0, 0)
    """Size of the target's picture, where there is a region."""

    @property
    def leaks(self) -> bool:
        """Whether the two are in different splits."""
        return None not in (self.source.split, self.target.split) and self.source.split is not self.target.split

    @property
    def lacks_region(self) -> bool:
        """Whether the source has a region or outlines that could not be placed."""
        return not self.region and _has_region(self.source) and not _has_region(self.target)


def twins_of(records: Records, chosen: Sequence[Sample], likeness: Likeness) -> list[Twin]:
    """Find the unlabelled near-duplicates of labelled pictures, and all that are in another split than those.

    Where two of the pictures disagree, their unlabelled near-duplicates are left out.

    Groups that splitting has found are used; without, the pictures that look most similar are compared.
    """
    labelled = [sample for sample in chosen if sample.label is not None]
    sources: defaultdict[str, list[Sample]] = defaultdict(list)
    groups: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample in labelled:
        if sample.group is not None:
            groups[sample.group].append(sample)
    for target in records.samples.values():
        if target.group is not None and target.group in groups:
            sources[target.file_name] += groups[target.group]
    lone = [sample for sample in labelled if sample.group is None]
    for sample in lone if len(lone) <= MOST_SEARCHED else ():
        for file in _searched(records, sample, likeness):
            sources[file].append(sample)
    found = []
    for file, said in sources.items():
        target = records.samples[file]
        twin = Twin(source=max(said, key=_has_region), target=target)
        unclear = len({(each.label, each.defect) for each in said}) > 1
        if twin.leaks or not (unclear or decided(target)):
            found.append(twin)
    return [_placed(records, twin) if number < MOST_ALIGNED else twin for number, twin in enumerate(found)]


def said_of_twins(twins: Sequence[Twin], changed: Collection[str], language: str) -> str:
    """Say what became of near-duplicates: which label, how many with the region, and which are in another split."""
    tell = translations(language)
    done = [twin for twin in twins if twin.target.file_name in changed]
    lines = []
    for label, kind in sorted({(str(twin.source.label), twin.source.defect or "") for twin in done}):
        count = sum((str(each.source.label), each.source.defect or "") == (label, kind) for each in done)
        text = tell.ngettext(
            "%(num)s near-duplicate was labelled: %(label)s.",
            "%(num)s near-duplicates were labelled: %(label)s.",
            count,
        )
        lines.append(text % {"num": count, "label": kind or tell.gettext(_LABELS[label])})
    if lacking := sum(twin.lacks_region for twin in done):
        text = tell.ngettext(
            "%(num)s of them got the label without box and outlines: the pictures could not be aligned.",
            "%(num)s of them got the label without box and outlines: the pictures could not be aligned.",
            lacking,
        )
        lines.append(text % {"num": lacking})
    if leaks := [twin for twin in twins if twin.leaks]:
        text = tell.ngettext(
            "%(num)s near-duplicate, %(file)s, is in another split (%(split)s) and was left alone: the same surface in "
            "two splits is a leak. Split the data set again, or move it.",
            "%(num)s near-duplicates, such as %(file)s, are in another split (%(split)s) and were left alone: the same "
            "surface in two splits is a leak. Split the data set again, or move them.",
            len(leaks),
        )
        first = leaks[0].target
        lines.append(text % {"num": len(leaks), "file": first.file_name, "split": str(first.split)})
    return " ".join(lines)


def _searched(records: Records, sample: Sample, likeness: Likeness) -> Iterator[str]:
    """Near-duplicates among the pictures that look most similar, and those beside it in the order of the data set.

    Some others are compared, too: they show what all pictures have in common (see `gonogo.dataset.duplicates`).
    """
    near = likeness.distances(records, sample.file_name) or {}
    known = {file: away for file, away in near.items() if away == away and file in records.samples}
    listed = list(records.samples)
    place = listed.index(sample.file_name)
    beside = listed[max(0, place - _BESIDE) : place + _BESIDE + 1]
    wanted = list(dict.fromkeys((sample.file_name, *sorted(known, key=known.__getitem__)[:_CANDIDATES], *beside)))
    drawn = np.random.default_rng(0).permutation(len(listed))[:_OTHERS].tolist()
    files, hashes = [], []
    for file in dict.fromkeys((*wanted, *(listed[row] for row in drawn))):
        frame = _frame(records, file)
        if frame is not None:
            files.append(file)
            hashes.append(picture_hashes(frame))
    if not files or files[0] != sample.file_name:
        return
    for pair in near_duplicates(hashes):
        if pair.first == 0:
            yield files[pair.second]


def _placed(records: Records, twin: Twin) -> Twin:
    """Place the region of the source on the target, unless the target has one of its own."""
    source, target = twin.source, twin.target
    if not _has_region(source) or _has_region(target) or twin.leaks:
        return twin
    first, second = _frame(records, source.file_name), _frame(records, target.file_name)
    if first is None or second is None:
        return twin
    transform = alignment(first, second)
    if transform is None:
        return twin
    size_wh = (second.shape[1], second.shape[0])
    region: dict[str, Any] = {}
    if source.box_xyxy is not None:
        region |= _moved_box(source, transform, size_wh)
    outlines = _outlines(records, source, first)
    if outlines and source.label is Label.BAD:
        region["polygons"] = [_inside(_moved(each, transform), size_wh) for each in outlines]
    return Twin(source=source, target=target, region=region, size_wh=size_wh)


def _moved_box(source: Sample, transform: Float64[np.ndarray, "2 3"], size_wh: tuple[int, int]) -> dict[str, Any]:
    assert source.box_xyxy is not None, "checked by the caller"
    x1, y1, x2, y2 = source.box_xyxy
    corners = source.quad or ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    moved = _moved(corners, transform)
    turned = abs(np.degrees(np.arctan2(transform[1, 0], transform[0, 0]))) > _UPRIGHT_DEGREES
    (left, right), (top, bottom) = ((min(axis), max(axis)) for axis in zip(*moved, strict=True))
    width, height = size_wh
    box = (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        return {}
    return {"box_xyxy": box, "quad": moved if source.quad is not None or turned else None}


def _moved(points: Sequence[Sequence[float]], transform: Float64[np.ndarray, "2 3"]) -> tuple[Point, ...]:
    found = np.asarray(points, np.float64) @ transform[:, :2].T + transform[:, 2]
    return tuple((round(float(x), 2), round(float(y), 2)) for x, y in found)


def _inside(points: Sequence[Point], size_wh: tuple[int, int]) -> tuple[Point, ...]:
    return tuple((min(max(x, 0.0), float(size_wh[0])), min(max(y, 0.0), float(size_wh[1]))) for x, y in points)


def _outlines(records: Records, sample: Sample, frame: Frame) -> Sequence[Sequence[Sequence[float]]]:
    drawn = (sample.model_extra or {}).get("polygons")
    if drawn is not None or sample.mask_file_name is None:
        return drawn or ()
    mask = records.dataset.load_mask(sample, (frame.shape[0], frame.shape[1]))
    return () if mask is None else outlines_of(mask)[:MOST_OUTLINES]


def _has_region(sample: Sample) -> bool:
    return sample.box_xyxy is not None or sample.mask_file_name is not None


def _frame(records: Records, file: str) -> Frame | None:
    path = records.root / file
    try:
        return images.load_confined(path, depth=levels_of(path))
    except ImageError:
        return None
