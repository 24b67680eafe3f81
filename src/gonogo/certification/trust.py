"""Checks the assumptions of a certificate: calibration parts are independent, unseen and from several lots."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

from gonogo.bundle import Bundle
from gonogo.dataset import Dataset, Sample, Split, compare, describe_counts, fingerprint, revisions
from gonogo.dataset.duplicates import components, near_duplicates, picture_hashes
from gonogo.errors import DatasetError
from gonogo.evaluate import Evaluation
from gonogo.progress import track


def refuse_other_data(bundle: Bundle, dataset: Dataset) -> None:
    """Raise if the data set is not the one the inspector was trained on, or has changed since.

    For another data set it is unknown which parts were used in training, or whether it shows the same product.

    Raises:
        DatasetError: the records or bytes of train and val do not match the fingerprint in the bundle.
    """
    if bundle.manifest.data_fingerprint != fingerprint(dataset, dataset.split(Split.TRAIN, Split.VAL)):
        raise DatasetError(
            f"{dataset.root}: expected the data set that {bundle.root} was trained on, found another one, or its "
            f"train or val pictures have changed.{_since(bundle, dataset)} It cannot certify this inspector: name the "
            "right data set, or train again on this one."
        )


def _since(bundle: Bundle, dataset: Dataset) -> str:
    """What changed since the revision that the inspector was trained on, if this data set has it."""
    trained = bundle.manifest.data_revision
    known = {} if trained is None else {each.sha256: each.number for each in revisions(dataset.root)}
    if trained is None or trained.sha256 not in known:
        return ""
    last = max(known.values())
    shown = describe_counts(compare(dataset.root, trained.number, last).counts())
    return f" Since {trained}: {shown}. Back to it: gonogo dataset restore {dataset.root} {trained.number}."


def refuse_leaks(dataset: Dataset) -> None:
    """Raise if the inspector was trained or tuned on a calibration part.

    Raises:
        DatasetError: a part is in calibrate and in train or val.
    """
    learned = {sample.part_id for sample in dataset.split(Split.TRAIN, Split.VAL)}
    for sample in dataset.split(Split.CALIBRATE):
        if sample.part_id in learned:
            raise DatasetError(
                f"{dataset.root}: part {sample.part_id} is in calibrate and in train or val, so it cannot be used to "
                "certify. Split again with gonogo dataset split, then train again."
            )


def exposures(dataset: Dataset, judged: Evaluation) -> tuple[tuple[str, ...], ...]:
    """Groups of files that look like the same part but are counted separately because no part or group is recorded.

    The search covers the whole data set because the features common to all parts are estimated from all of them.
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
    """Return the evaluation with the pictures of each group, and all others of their parts, merged into one part."""
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
    """Caveats that apply to the certificate, in sentences."""
    samples = _samples(dataset, judged)
    found = []
    if groups:
        count = sum(map(len, groups))
        found.append(
            f"{count} calibration pictures in {len(groups)} groups may show the same parts several times "
            f"(such as {groups[0][0]} and {groups[0][1]}); they count as "
            + (
                "one part per group."
                if merging
                else "separate parts. If they are not, the promise is too optimistic: name the parts in the data set, "
                "or pass --merge-near-duplicates."
            )
        )
    pictures = Counter(sample.part for sample in samples if sample.part is not None and sample.camera is None)
    if several := [part for part, count in pictures.items() if count > 1]:
        found.append(
            f"{len(several)} calibration parts have several pictures and name no camera, such as {several[0]}: each "
            "counts as one part, judged by its worst picture. The promise holds where the line takes as many."
        )
    if nameless := sum(sample.part is None for sample in samples):
        found.append(
            f"{nameless} calibration pictures have no part name: near-duplicates count as one part, "
            "every other picture as a separate part."
            if all(sample.part or sample.group is not None for sample in samples)
            else f"{nameless} calibration pictures have no part name: each counts as a separate part."
        )
    lots = {sample.lot for sample in samples if sample.lot is not None}
    if len(lots) < 2:
        found.append(
            f"The calibration parts name {len(lots) or 'no'} lot{'' if len(lots) == 1 else 's'}: "
            "there is no evidence that the promise holds for other lots."
        )
    return found


def _samples(dataset: Dataset, judged: Evaluation) -> list[Sample]:
    by_name = {sample.file_name: sample for sample in dataset.samples}
    return [by_name[picture.file] for picture in judged.pictures]
