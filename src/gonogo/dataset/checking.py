"""Checks that a data set is suitable for training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gonogo.dataset.cameras import incomplete_parts
from gonogo.dataset.collected import misplaced
from gonogo.dataset.judged import judged_too_early
from gonogo.dataset.reading import Reading, Unreadable, exact_groups, near_groups, read_all
from gonogo.dataset.records import Dataset, Sample, Split
from gonogo.errors import DatasetError
from gonogo.schema import Label

MIN_LABELLED = 20
"""Smallest number of labelled pictures; with fewer, each split would have only a handful of parts."""
MIN_TRAIN_PER_LABEL = 5
LOPSIDED = 20
"""Ratio of good to bad, or bad to good, from which the imbalance is reported."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of checking a data set. Without problems it is suitable for training."""

    counts: dict[tuple[str, str, str], int]
    """Number of pictures by split, label and defect kind; ``-`` where there is none."""
    problems: tuple[str, ...]
    """Problems that make the data set unsuitable for training."""
    warnings: tuple[str, ...]
    exact_duplicates: tuple[tuple[str, ...], ...]
    """Groups of file names with identical decoded pixels."""
    near_duplicates: tuple[tuple[str, ...], ...]
    """Groups of file names that show the same part, judged by its surface."""

    @property
    def fit(self) -> bool:
        """Whether the data set is suitable for training."""
        return not self.problems


def check_dataset(dataset: Dataset) -> Check:
    """Read every picture and mask of a data set and check that it is suitable for training.

    Problems are: unreadable or missing pictures, masks of a wrong size, the same picture with two labels, a part, lot
    or near-duplicate in two splits, a picture collected by a rule in another split than train, a calibrate or test
    picture judged before it was labelled, one class only, too few pictures. Everything else is a warning.
    """
    samples, readings, problems = _read(dataset)
    exact, near = exact_groups(readings), near_groups(readings)
    problems += _conflicts(samples, exact)
    problems += _leaks(samples, "part", [sample.part for sample in samples])
    problems += _leaks(samples, "lot", [sample.lot for sample in samples])
    problems += _leaks(samples, "near-duplicates", _of_unnamed_parts(samples, near))
    problems += misplaced(dataset.samples) + judged_too_early(dataset)
    problems += missing_for_training(dataset, good_only=True)
    names = [sample.file_name for sample in samples]
    return Check(
        counts=counts(dataset),
        problems=tuple(problems),
        warnings=tuple(_warnings(dataset, samples, readings, exact, near)),
        exact_duplicates=_classes(names, exact),
        near_duplicates=_classes(names, near),
    )


def counts(dataset: Dataset) -> dict[tuple[str, str, str], int]:
    """Number of pictures by split, label and defect kind; ``-`` where there is none."""
    found = Counter((sample.split or "-", sample.label or "-", sample.defect or "-") for sample in dataset.samples)
    order = ["-", *Split]
    return {
        (str(split), str(label), defect): found[split, label, defect]
        for split, label, defect in sorted(found, key=lambda key: (order.index(key[0]), key[1] != Label.GOOD, key))
    }


def parts_with_both_labels(samples: Sequence[Sample]) -> str | None:
    """Describe the named parts that have good and bad pictures; ``None`` if there are none.

    A part may look good from one side. More often its name is really that of a lot, so a whole lot counts as one part.
    """
    seen: dict[str, dict[Label, str]] = {}
    for sample in samples:
        if sample.part is not None and sample.label is not None and sample.camera is None:
            seen.setdefault(sample.part, {}).setdefault(sample.label, sample.file_name)
    torn = {part: files for part, files in seen.items() if len(files) > 1}
    if not torn:
        return None
    part, files = next(iter(torn.items()))
    return (
        f"{len(torn)} parts have good and bad pictures, for example part {part} ({files[Label.GOOD]} and "
        f"{files[Label.BAD]}). If that is the name of a lot, import again with --lot-regex instead of --part-regex."
    )


def missing_for_training(dataset: Dataset, *, good_only: bool = False) -> list[str]:
    """List what a data set lacks for training, from its records alone.

    Args:
        dataset: Labelled and split pictures.
        good_only: Whether good parts alone are enough.
    """
    labelled = [sample for sample in dataset.samples if sample.label is not None]
    missing = []
    if len(labelled) < MIN_LABELLED:
        missing.append(f"expected at least {MIN_LABELLED} labelled pictures, found {len(labelled)}. Add pictures.")
    for label in Label:
        of_label = Counter(sample.split for sample in labelled if sample.label is label)
        if good_only and label is Label.BAD:
            continue
        if not of_label:
            missing.append(f"expected good and bad pictures, found no {label} one. Add {label} parts.")
            continue
        for split, need in ((Split.TRAIN, MIN_TRAIN_PER_LABEL), (Split.VAL, 1)):
            if of_label[split] < need:
                missing.append(
                    f"expected at least {need} {label} pictures in {split}, found {of_label[split]}. "
                    f"Add {label} parts and split again: gonogo dataset split"
                )
    return missing


def require_trainable(dataset: Dataset, *, good_only: bool = False) -> None:
    """Raise an error if a data set is not suitable for training.

    Args:
        dataset: Labelled and split pictures.
        good_only: Whether good parts alone suffice.

    Raises:
        DatasetError: The data set has one class only, or too few pictures; the message says what is missing.
    """
    missing = missing_for_training(dataset, good_only=good_only)
    if missing:
        raise DatasetError(f"{dataset.root}: " + " ".join(sentence[0].upper() + sentence[1:] for sentence in missing))


def _read(dataset: Dataset) -> tuple[list[Sample], list[Reading], list[str]]:
    """Return the readable samples, their readings, and the problems of the other samples."""
    files = [
        (dataset.path(sample), dataset.root / sample.mask_file_name if sample.mask_file_name else None)
        for sample in dataset.samples
    ]
    samples, readings, problems = [], [], []
    for sample, reading in zip(dataset.samples, read_all(files, "Reading pictures"), strict=True):
        if isinstance(reading, Unreadable):
            problems.append(reading.reason)
        else:
            samples.append(sample)
            readings.append(reading)
    return samples, readings, problems


def _conflicts(samples: Sequence[Sample], exact: Sequence[int]) -> list[str]:
    found = []
    for members in _members(exact):
        kinds = {(samples[row].label, samples[row].defect) for row in members}
        if len(kinds) > 1:
            names = " and ".join(samples[row].file_name for row in members[:3])
            found.append(f"{names} are the same picture with different labels. Keep the one with the right label.")
    return found


def _leaks(samples: Sequence[Sample], what: str, keys: Sequence[object]) -> list[str]:
    """One sentence for each part, lot or near-duplicate group that is in several splits."""
    found = []
    for members in _members(keys):
        by_split = {samples[row].split: samples[row].file_name for row in members if samples[row].split is not None}
        if len(by_split) > 1:
            name = f"{what} {keys[members[0]]}" if isinstance(keys[members[0]], str) else what
            places = ", ".join(f"{file} in {split}" for split, file in by_split.items())
            found.append(f"{name} in {len(by_split)} splits: {places}. Split again: gonogo dataset split")
    return found


def _of_unnamed_parts(samples: Sequence[Sample], near: Sequence[int]) -> list[int | None]:
    """The near-duplicate groups with a picture whose part has no name; elsewhere the part names decide."""
    open_ones = {number for number, sample in zip(near, samples, strict=True) if sample.part is None}
    return [number if number in open_ones else None for number in near]


def _warnings(
    dataset: Dataset, samples: Sequence[Sample], readings: Sequence[Reading], exact: Sequence[int], near: Sequence[int]
) -> Iterator[str]:
    labels = Counter(sample.label for sample in dataset.samples)
    if labels[None]:
        yield f"{labels[None]} of {len(dataset.samples)} pictures have no label and are not used for training."
    more, fewer = max(labels[Label.GOOD], labels[Label.BAD]), min(labels[Label.GOOD], labels[Label.BAD])
    if fewer and more / fewer >= LOPSIDED:
        yield (
            f"The classes are imbalanced: {labels[Label.GOOD]} good and {labels[Label.BAD]} bad pictures. Results for "
            "the smaller class will be uncertain."
        )
    copies = sum(len(members) - 1 for members in _members(exact))
    if copies:
        yield f"{copies} pictures are exact duplicates of others and add no information."
    blank = sum(not reading.look.comparable for reading in readings)
    if blank:
        yield f"{blank} pictures have too little texture to find near-duplicates. Name their parts with --part-regex."
    alike = len(_leaks(samples, "look-alikes", near)) - len(_leaks(samples, "", _of_unnamed_parts(samples, near)))
    if alike:
        yield f"{alike} groups of near-duplicates are in several splits; their parts have names, and the names decide."
    if (of_parts := parts_with_both_labels(dataset.samples)) is not None:
        yield of_parts
    if lacking := incomplete_parts(dataset.samples):
        yield f"{len(lacking)} parts were not seen by every camera, such as {lacking[0]}: they cannot certify."
    torn = [members for members in _members(near) if {samples[row].label for row in members} >= set(Label)]
    if torn:
        good = next(samples[row].file_name for row in torn[0] if samples[row].label is Label.GOOD)
        bad = next(samples[row].file_name for row in torn[0] if samples[row].label is Label.BAD)
        yield f"{len(torn)} groups of near-duplicates contain good and bad pictures. Check {good} and {bad} first."
    if labels[None] == len(dataset.samples):
        return
    kinds = {sample.defect for sample in dataset.samples if sample.defect is not None}
    for split, verb in ((Split.CALIBRATE, "certified"), (Split.TEST, "measured")):
        here = dataset.split(split)
        for label in Label:
            if not any(sample.label is label for sample in here):
                yield f"{split} has no {label} picture: nothing can be {verb} about {label} parts."
        absent = sorted(kinds - {sample.defect for sample in here})
        if here and absent:
            yield f"{split} has no {', '.join(absent)}."


def _members(keys: Sequence[object]) -> list[list[int]]:
    """Group the rows that share a key, for keys of several rows; ``None`` is not a key."""
    rows: dict[object, list[int]] = {}
    for row, key in enumerate(keys):
        if key is not None:
            rows.setdefault(key, []).append(row)
    return [members for members in rows.values() if len(members) > 1]


def _classes(names: Sequence[str], keys: Sequence[object]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(names[row] for row in members) for members in _members(keys))
