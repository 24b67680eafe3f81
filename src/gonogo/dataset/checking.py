"""Whether a data set is fit to train on: everything that can be said before a network sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gonogo.dataset.reading import Reading, Unreadable, exact_groups, near_groups, read_all
from gonogo.dataset.records import Dataset, Sample, Split
from gonogo.errors import DatasetError
from gonogo.schema import Label

MIN_LABELLED = 20
"""Fewer labelled pictures than this are refused: splits of them hold a handful of parts each."""
MIN_TRAIN_PER_LABEL = 5
LOPSIDED = 20
"""Good to bad, or bad to good, from which the balance is worth a word."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found. Without problems the data set is fit to train on."""

    counts: dict[tuple[str, str, str], int]
    """Pictures by split, label and defect kind; ``-`` where there is none."""
    problems: tuple[str, ...]
    """What makes it unfit."""
    warnings: tuple[str, ...]
    exact_duplicates: tuple[tuple[str, ...], ...]
    """File names that hold the same decoded picture."""
    near_duplicates: tuple[tuple[str, ...], ...]
    """File names that show the same part, as far as their surfaces tell."""

    @property
    def fit(self) -> bool:
        """Whether nothing stands against training on it."""
        return not self.problems


def check_dataset(dataset: Dataset) -> Check:
    """Read every picture and mask of a data set and look for all that makes it unfit to train on.

    Unreadable or missing pictures, masks of a wrong size, the same picture under two labels, a part, lot or re-shot
    copy in two splits, one class only, too few pictures. What is merely worth knowing is a warning.
    """
    samples, readings, problems = _read(dataset)
    exact, near = exact_groups(readings), near_groups(readings)
    problems += _conflicts(samples, exact)
    problems += _leaks(samples, "part", [sample.part for sample in samples])
    problems += _leaks(samples, "lot", [sample.lot for sample in samples])
    problems += _leaks(samples, "near-duplicates", _of_unnamed_parts(samples, near))
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
    """Pictures by split, label and defect kind; ``-`` where there is none."""
    found = Counter((sample.split or "-", sample.label or "-", sample.defect or "-") for sample in dataset.samples)
    order = ["-", *Split]
    return {
        (str(split), str(label), defect): found[split, label, defect]
        for split, label, defect in sorted(found, key=lambda key: (order.index(key[0]), key[1] != Label.GOOD, key))
    }


def torn_parts(samples: Sequence[Sample]) -> str | None:
    """Named parts that have good and bad pictures, as a sentence; ``None`` where there are none.

    One part may look good from one side. More often its name is that of a lot, and then a whole lot counts as one part.
    """
    seen: dict[str, dict[Label, str]] = {}
    for sample in samples:
        if sample.part is not None and sample.label is not None:
            seen.setdefault(sample.part, {}).setdefault(sample.label, sample.file_name)
    torn = {part: files for part, files in seen.items() if len(files) > 1}
    if not torn:
        return None
    part, files = next(iter(torn.items()))
    return (
        f"{len(torn)} parts have good and bad pictures, for example part {part} ({files[Label.GOOD]} and "
        f"{files[Label.BAD]}). If that is the name of a lot, import again with --lot-regex in place of --part-regex."
    )


def missing_for_training(dataset: Dataset, *, good_only: bool = False) -> list[str]:
    """What a data set lacks before anything can be learned from it, by its records alone; empty where nothing.

    Args:
        dataset: Labelled and split pictures.
        good_only: Whether good parts alone suffice.
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
    """Refuse to train on a data set that cannot teach anything.

    Args:
        dataset: Labelled and split pictures.
        good_only: Whether good parts alone suffice.

    Raises:
        DatasetError: one class only, or too few pictures; the message says what is missing.
    """
    missing = missing_for_training(dataset, good_only=good_only)
    if missing:
        raise DatasetError(f"{dataset.root}: " + " ".join(sentence[0].upper() + sentence[1:] for sentence in missing))


def _read(dataset: Dataset) -> tuple[list[Sample], list[Reading], list[str]]:
    """The readable samples, what was read of them, and what is wrong with the others."""
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
            found.append(f"{names} are the same picture under different labels. Keep the one that is right.")
    return found


def _leaks(samples: Sequence[Sample], what: str, keys: Sequence[object]) -> list[str]:
    """One sentence for each part, lot or component that stands in several splits."""
    found = []
    for members in _members(keys):
        by_split = {samples[row].split: samples[row].file_name for row in members if samples[row].split is not None}
        if len(by_split) > 1:
            name = f"{what} {keys[members[0]]}" if isinstance(keys[members[0]], str) else what
            places = ", ".join(f"{file} in {split}" for split, file in by_split.items())
            found.append(f"{name} in {len(by_split)} splits: {places}. Split again: gonogo dataset split")
    return found


def _of_unnamed_parts(samples: Sequence[Sample], near: Sequence[int]) -> list[int | None]:
    """The components that hold a picture whose part has no name; elsewhere the names say what is one part."""
    open_ones = {number for number, sample in zip(near, samples, strict=True) if sample.part is None}
    return [number if number in open_ones else None for number in near]


def _warnings(
    dataset: Dataset, samples: Sequence[Sample], readings: Sequence[Reading], exact: Sequence[int], near: Sequence[int]
) -> Iterator[str]:
    labels = Counter(sample.label for sample in dataset.samples)
    if labels[None]:
        yield f"{labels[None]} of {len(dataset.samples)} pictures have no label and train nothing."
    more, fewer = max(labels[Label.GOOD], labels[Label.BAD]), min(labels[Label.GOOD], labels[Label.BAD])
    if fewer and more / fewer >= LOPSIDED:
        yield f"{labels[Label.GOOD]} good against {labels[Label.BAD]} bad pictures: little can be said of the few."
    copies = sum(len(members) - 1 for members in _members(exact))
    if copies:
        yield f"{copies} pictures are exact copies of others and count for nothing new."
    blank = sum(not reading.look.comparable for reading in readings)
    if blank:
        yield f"{blank} pictures have too little structure to find re-shot copies of them; name their parts."
    alike = len(_leaks(samples, "look-alikes", near)) - len(_leaks(samples, "", _of_unnamed_parts(samples, near)))
    if alike:
        yield f"{alike} groups of look-alikes stand in several splits; their parts are named, and the names decide."
    if (of_parts := torn_parts(dataset.samples)) is not None:
        yield of_parts
    torn = [members for members in _members(near) if {samples[row].label for row in members} >= set(Label)]
    if torn:
        good = next(samples[row].file_name for row in torn[0] if samples[row].label is Label.GOOD)
        bad = next(samples[row].file_name for row in torn[0] if samples[row].label is Label.BAD)
        yield f"{len(torn)} groups of near-duplicates hold good and bad pictures. Look at {good} and {bad} first."
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
    """Rows that share a key, for keys that several rows have; ``None`` is no key."""
    rows: dict[object, list[int]] = {}
    for row, key in enumerate(keys):
        if key is not None:
            rows.setdefault(key, []).append(row)
    return [members for members in rows.values() if len(members) > 1]


def _classes(names: Sequence[str], keys: Sequence[object]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(names[row] for row in members) for members in _members(keys))
