"""Several cameras for one part: which cameras a data set has, and whether every part was seen by each of them.

A part is judged once, from all its pictures, and by the worst of them. So it is one trial of a certificate, and a
certificate holds for the cameras whose pictures it was made of, no more and no fewer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gonogo.dataset.records import Dataset, Sample, Split
from gonogo.errors import DatasetError


def cameras_of(samples: Iterable[Sample]) -> tuple[str, ...]:
    """Return the names of the cameras, sorted; empty if the pictures name none."""
    return tuple(sorted({sample.camera for sample in samples if sample.camera is not None}))


def for_cameras(dataset: Dataset, cameras: Sequence[str]) -> Dataset:
    """Return a data set with the pictures of some cameras only; unchanged if none are named.

    Raises:
        DatasetError: a camera has no pictures.
    """
    if not cameras:
        return dataset
    there = cameras_of(dataset.samples)
    if missing := sorted(set(cameras) - set(there)):
        raise DatasetError(
            f"{dataset.root}: expected pictures of camera {missing[0]}, found those of {', '.join(there) or 'none'}. "
            "Check the name, or import again with --camera-regex."
        )
    return replace(dataset, samples=tuple(each for each in dataset.samples if each.camera in cameras))


def require_views(dataset: Dataset, splits: Sequence[Split]) -> None:
    """Raise unless every labelled part of some splits has exactly one picture of each camera; or none names a camera.

    A part with one view less is a fault on the line, and one with a view more would be judged more strictly than there.

    Raises:
        DatasetError: a part lacks a view, or has one twice.
    """
    samples = [sample for sample in dataset.split(*splits) if sample.label is not None]
    cameras = cameras_of(dataset.samples)
    if not cameras:
        return
    if nameless := next((each for each in samples if each.camera is None or each.part is None), None):
        raise DatasetError(
            f"{dataset.root}: expected a camera and a part for every picture, because others have them, found "
            f"{nameless.file_name} without. Import again with --camera-regex and --part-regex."
        )
    seen = Counter((sample.part, sample.camera) for sample in samples)
    for part in dict.fromkeys(sample.part for sample in samples):
        for camera in cameras:
            if (count := seen[part, camera]) != 1:
                raise DatasetError(
                    f"{dataset.root}: expected one picture of part {part} by camera {camera}, found {count}. The part "
                    "is judged from one picture of each camera: add the missing one, or remove the part or the copies."
                )


def incomplete_parts(samples: Sequence[Sample]) -> list[str]:
    """Return the named parts that were not seen by every camera."""
    cameras = set(cameras_of(samples))
    seen: dict[str, set[str]] = {}
    for sample in samples:
        if sample.part is not None and sample.camera is not None:
            seen.setdefault(sample.part, set()).add(sample.camera)
    return [part for part, found in seen.items() if found < cameras]


def cameras_note(samples: Sequence[Sample]) -> list[str]:
    """Describe the cameras of imported pictures, in a sentence or two."""
    cameras, lacking = cameras_of(samples), incomplete_parts(samples)
    if not cameras:
        return []
    note = f"Cameras: {', '.join(cameras)}."
    if lacking:
        note += (
            f" {len(lacking)} parts were not seen by all of them, such as {lacking[0]}: they can train, not certify."
        )
    return [note]
