"""Whether the calibration parts are what a proof needs: independent, unseen, and from several lots."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from gonogo.bundle import Bundle
from gonogo.dataset import Dataset, Sample, Split, fingerprint
from gonogo.dataset.duplicates import components, near_duplicates, picture_hashes
from gonogo.errors import DatasetError
from gonogo.evaluate import Evaluation
from gonogo.progress import track


def refuse_other_data(bundle: Bundle, dataset: Dataset) -> None:
    """Refuse to certify on another data set than the inspector was trained on, or on one that has changed since.

    Of another one nobody knows which of its parts were used in training, or whether it shows the same product at all.

    Raises:
        DatasetError: train and val are not, record by record and byte by byte, what the bundle names.
    """
    if bundle.manifest.data_fingerprint != fingerprint(dataset, dataset.split(Split.TRAIN, Split.VAL)):
        raise DatasetError(
            f"{dataset.root}: expected the data set that {bundle.root} was trained on, found another one, or one whose "
            "train or val pictures have changed since. It certifies nothing for this inspector: name the right data "
            "set, or train again on this one."
        )


def refuse_leaks(dataset: Dataset) -> None:
    """Refuse calibration parts that the inspector was trained on or chosen by.

    Raises:
        DatasetError: a part is in calibrate and in train or val.
    """
    learned = {sample.part_id for sample in dataset.split(Split.TRAIN, Split.VAL)}
    for sample in dataset.split(Split.CALIBRATE):
        if sample.part_id in learned:
            raise DatasetError(
                f"{dataset.root}: part {sample.part_id} is in calibrate and in train or val, so it proves nothing. "
                "Split again: gonogo dataset split; then train again."
            )


def exposures(dataset: Dataset, judged: Evaluation) -> tuple[tuple[str, ...], ...]:
    """Files that look like pictures of one part but count as several, where neither part nor group is recorded.

    The search covers the whole data set, because what all parts share is learned from all of them.
    """
    nameless = {s.file_name for s in _samples(dataset, judged) if s.part is None and s.group is None}
    if not nameless:
        return ()
    looks = [picture_hashes(dataset.load(sample)) for sample in track(dataset.samples, "Looking for near-duplicates")]
    pairs = [(alike.first, alike.second) for alike in near_duplicates(looks)]
    same: defaultdict[int, list[str]] = defaultdict(list)
    for sample, component in zip(dataset.samples, components(len(looks), pairs), strict=True):
        if sample.file_name in nameless:
            same[component].append(sample.file_name)
    return tuple(tuple(files) for files in same.values() if len(files) > 1)


def merged(judged: Evaluation, groups: tuple[tuple[str, ...], ...]) -> Evaluation:
    """The same judgements with the pictures of each group, and all others of their parts, counted as one part."""
    part_of = {picture.file: picture.part for picture in judged.pictures}
    edges = [(part_of[group[0]], part_of[file]) for group in groups for file in group[1:]]
    names = list(dict.fromkeys(part_of.values()))
    row = {name: number for number, name in enumerate(names)}
    first: dict[int, str] = {}
    joined = components(len(names), [(row[one], row[other]) for one, other in edges])
    for name, component in zip(names, joined, strict=True):
        first.setdefault(component, name)
    renamed = {name: first[component] for name, component in zip(names, joined, strict=True)}
    return replace(judged, pictures=tuple(replace(p, part=renamed[p.part]) for p in judged.pictures))


def trust_notes(
    dataset: Dataset, judged: Evaluation, groups: tuple[tuple[str, ...], ...], *, merging: bool
) -> list[str]:
    """What a reader must know before believing the certificate, in sentences."""
    samples = _samples(dataset, judged)
    found = []
    if groups:
        count = sum(map(len, groups))
        found.append(
            f"{count} calibration pictures in {len(groups)} groups may show the same parts several times "
            f"(such as {groups[0][0]} and {groups[0][1]}); they count as "
            + (
                "one part for each group."
                if merging
                else "separate parts. Where they are not, the promise is too bold: name the parts in the data set, or "
                "pass --merge-near-duplicates."
            )
        )
    if nameless := sum(sample.part is None for sample in samples):
        found.append(
            f"{nameless} calibration pictures name no part: those that look alike count as one, "
            "every other one as a part of its own."
            if all(sample.part or sample.group is not None for sample in samples)
            else f"{nameless} calibration pictures name no part: each counts as a part of its own."
        )
    lots = {sample.lot for sample in samples if sample.lot is not None}
    if len(lots) < 2:
        found.append(
            f"The calibration parts name {len(lots) or 'no'} lot{'' if len(lots) == 1 else 's'}: "
            "nothing here shows that the promise carries over to other lots."
        )
    return found


def _samples(dataset: Dataset, judged: Evaluation) -> list[Sample]:
    by_name = {sample.file_name: sample for sample in dataset.samples}
    return [by_name[picture.file] for picture in judged.pictures]
