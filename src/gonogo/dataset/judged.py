"""Record of the pictures that were judged to certify or to test: a certificate needs parts that were not used before.

The record is ``judged.jsonl`` beside the metadata, one picture per line; the last line about a picture is valid.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from gonogo.dataset.records import Dataset, Split, read_json_lines
from gonogo.errors import DatasetError

JUDGED = "judged.jsonl"


def judged_before(dataset: Dataset) -> dict[str, Split]:
    """Return the pictures that were judged before, and their split at that time.

    Raises:
        DatasetError: The file is malformed.
    """
    path = dataset.root / JUDGED
    if dataset.study or not path.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in read_json_lines(path) if line.strip()]
        return {str(row["file_name"]): Split(row["split"]) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: expected a picture and its split per line ({error}). Restore the file.") from error


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
    if not lines:
        return True
    try:
        with (dataset.root / JUDGED).open("a", encoding="utf-8") as file:
            file.write("".join(lines))
    except OSError:
        return False
    return True


def refuse_redealt(dataset: Dataset) -> None:
    """Refuse to certify on a new split whose calibrate parts were judged under an earlier split.

    Splitting again after seeing the scores is a second attempt, and a certificate is valid for the first attempt only.
    Parts that no inspector has judged to certify or to test are fresh. Adding pictures does not move existing ones.

    Raises:
        DatasetError: Judged pictures have moved to another split, and calibrate is not fresh.
    """
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
