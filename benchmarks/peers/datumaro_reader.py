"""Reads or converts an exported data set with Datumaro's own readers and writers.

Run by ``make check-formats``, in an environment of its own with datumaro. Prints one JSON object: for each picture its
split, boxes (class, edges), pixels per class of mask, and labels.

Usage: ``datumaro_reader.py FORMAT FOLDER`` or ``datumaro_reader.py FORMAT FOLDER TO OUT``
"""

from __future__ import annotations

import json
import sys
from typing import Any

from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset
from datumaro.components.media import Image


def main() -> None:
    """Read one data set, and write it in another format if one is named."""
    dataset = Dataset.import_from(sys.argv[2], sys.argv[1])
    if len(sys.argv) > 3:
        dataset.export(sys.argv[4], sys.argv[3], save_media=True)
    labels = dataset.categories()[AnnotationType.label]
    print(json.dumps({item.id: described(item, labels) for item in dataset}))  # noqa: T201


def described(item: Any, labels: Any) -> dict[str, Any]:
    """Return what Datumaro read about one picture."""
    masked = {each.group for each in item.annotations if each.type is AnnotationType.mask and each.group}
    found: dict[str, Any] = {"split": item.subset, "boxes": [], "masks": {}, "labels": [], "opened": False}
    found["opened"] = isinstance(item.media, Image) and item.media.data.shape[:2] == item.media.size
    for each in item.annotations:
        name = None if each.label is None else labels[each.label].name
        if each.type is AnnotationType.bbox:
            found["boxes"].append([name, *(float(edge) for edge in each.points), each.group in masked])
        elif each.type is AnnotationType.mask:
            found["masks"][name] = found["masks"].get(name, 0) + int(each.image.sum())
        elif each.type is AnnotationType.label:
            found["labels"].append(name)
    return found


if __name__ == "__main__":
    main()
