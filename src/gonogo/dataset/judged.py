"""Record of the pictures that were judged to certify or to test: a certificate needs parts that were not used before.

The record is ``judged.jsonl`` beside the metadata, one picture per line; the last line about a picture is valid.
Lines with ``"unlabelled": true`` name pictures whose score was known before a person labelled them. Such a label may
follow the score, and a person who has seen the score may choose which pictures to label, so these pictures prove
nothing about an inspector: like those that a rule collected, they may only be in train.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from gonogo.dataset.records import Dataset, Sample, Split, read_json_lines
from gonogo.errors import DatasetError

JUDGED = "judged.jsonl"


def judged_before(dataset: Dataset) -> dict[str, Split]:
    """Return the pictures that were judged before, and their split at that time.

    Raises:
        DatasetError: The file is malformed.
    """
    return {file: split for file, split in _rows(dataset) if split is not None}


def judged_unlabelled(dataset: Dataset) -> frozenset[str]:
    """Return the pictures whose score was known before they were labelled.

    Raises:
        DatasetError: The file is malformed.
    """
    return frozenset(file for file, split in _rows(dataset) if split is None)


def record_judged(dataset: Dataset, splits: Sequence[Split], *, certified: bool = False) -> bool:
    """Record that the pictures of some splits were judged.

    Args:
        dataset: The data set.
        splits: The judged splits; train and val are ignored, because they prove nothing.
        certified: Whether thresholds were set on them, after `refuse_redealt`. The current split of pictures that were
            judged before is then recorded as well.

    Returns:
        Whether the record could be written; the data set may be read-only.
    """
    if dataset.study:
        return True
    before = judged_before(dataset)
    proving = {Split.CALIBRATE, Split.TEST} & set(splits)
    lines = []
    for sample in dataset.samples:
        known, now = before.get(sample.file_name), sample.split
        fresh = known is None and now in proving and sample.label is not None
        if now is not None and (fresh or (certified and known is not None and known is not now)):
            lines.append(json.dumps({"file_name": sample.file_name, "split": now.value}) + "\n")
    return _append(dataset, lines)


def record_unlabelled(dataset: Dataset, samples: Iterable[Sample]) -> bool:
    """Record which of these judged pictures have no label yet; see `judged_unlabelled`.

    A picture that was judged with a label before stays evidence, also if its label has been removed since.

    Returns:
        Whether the record could be written; the data set may be read-only.
    """
    if dataset.study:
        return True
    known = judged_unlabelled(dataset) | judged_before(dataset).keys()
    new = [each.file_name for each in samples if each.label is None and each.present is not False]
    return _append(
        dataset, [json.dumps({"file_name": file, "unlabelled": True}) + "\n" for file in new if file not in known]
    )


def judged_too_early(dataset: Dataset) -> list[str]:
    """Describe the labelled calibrate and test pictures whose score was known before their label, one sentence each."""
    early = judged_unlabelled(dataset)
    return [
        f"{sample.file_name} is in {sample.split}, but was judged before it was labelled: its label may follow the "
        "score, so it may only be in train. Move it to train on the page Pictures."
        for sample in dataset.split(Split.CALIBRATE, Split.TEST)
        if sample.label is not None and sample.file_name in early
    ]


def refuse_redealt(dataset: Dataset) -> None:
    """Refuse to certify on a new split whose calibrate parts were judged under an earlier split.

    Splitting again after seeing the scores is a second attempt, and a certificate is valid for the first attempt only.
    Parts that no inspector has judged to certify or to test are fresh. Adding pictures does not move existing ones.
    Pictures that were judged before they were labelled are refused in calibrate and test, whatever the split.

    Raises:
        DatasetError: Judged pictures have moved to another split, and calibrate is not fresh; or a calibrate or test
            picture was judged before it was labelled.
    """
    if early := judged_too_early(dataset):
        more = f" ({len(early)} such pictures.)" if len(early) > 1 else ""
        raise DatasetError(f"{dataset.root}: {early[0]}{more}")
    before = judged_before(dataset)
    moved = any(
        sample.split is not None and before.get(sample.file_name, sample.split) is not sample.split
        for sample in dataset.samples
    )
    if not moved:
        return
    seen = {sample.part_id for sample in dataset.samples if sample.file_name in before}
    calibrate = {sample.part_id for sample in dataset.split(Split.CALIBRATE) if sample.label is not None}
    if stale := len(calibrate & seen):
        raise DatasetError(
            f"{dataset.root}: the pictures were split again after they were judged, and {stale} of {len(calibrate)} "
            "calibrate parts were judged under the earlier split. A second split is a second attempt, so it cannot be "
            "certified. Put only parts into calibrate that no inspector has judged, or go back to the earlier "
            "split."
        )


def _rows(dataset: Dataset) -> list[tuple[str, Split | None]]:
    """The pictures in the record, each with its split; ``None`` if it was not labelled when it was judged."""
    path = dataset.root / JUDGED
    if dataset.study or not path.is_file():
        return []
    try:
        rows = [json.loads(line) for line in read_json_lines(path) if line.strip()]
        return [(str(row["file_name"]), None if row.get("unlabelled") is True else Split(row["split"])) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: expected a picture and its split per line ({error}). Restore the file.") from error


def _append(dataset: Dataset, lines: Sequence[str]) -> bool:
    if not lines:
        return True
    try:
        with (dataset.root / JUDGED).open("a", encoding="utf-8") as file:
            file.write("".join(lines))
    except OSError:
        return False
    return True
