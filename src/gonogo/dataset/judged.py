"""Which pictures were judged to certify or to test, and in which split: a proof takes parts unseen until then.

``judged.jsonl`` beside the records, one picture a line; of several lines about a picture the last counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from gonogo.dataset.records import Dataset, Split, read_json_lines
from gonogo.errors import DatasetError

JUDGED = "judged.jsonl"


def judged_before(dataset: Dataset) -> dict[str, Split]:
    """The pictures whose scores were seen, and the split in which they stood then.

    Raises:
        DatasetError: the file is malformed.
    """
    path = dataset.root / JUDGED
    if dataset.study or not path.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in read_json_lines(path) if line.strip()]
        return {str(row["file_name"]): Split(row["split"]) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: expected one picture and its split a line ({error}). Restore the file.") from error


def record_judged(dataset: Dataset, splits: Sequence[Split], *, certified: bool = False) -> bool:
    """Write down that the pictures of some splits were judged.

    Args:
        dataset: Where they stand.
        splits: Those judged; train and val prove nothing and are left out.
        certified: Whether a threshold was set on them, after `refuse_redealt`: then the split in which earlier
            pictures stand now is written down as well.

    Returns:
        Whether it could be written; a data set may lie where nothing can be.
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
    """Refuse to certify on a new split whose calibrate parts were judged under an earlier one.

    Who sees the scores of one split and then deals another has a second try, and a promise holds for the first. Parts
    that no inspector has judged to certify or to test are fresh; pictures that are only added move none.

    Raises:
        DatasetError: pictures that were judged stand in another split by now, and calibrate is not fresh.
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
            f"{dataset.root}: the pictures were split anew after scores were seen, and {stale} of {len(calibrate)} "
            "calibrate parts were judged under the earlier split. A second split is a second try, so nothing is "
            "certified on it. Put only parts into calibrate that no inspector has judged, or go back to the earlier "
            "split."
        )
