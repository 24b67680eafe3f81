"""Reads an export for YOLO with Ultralytics' own loader of segmentation data.

Run by ``make check-formats``, in an environment of its own with ultralytics. Prints one JSON object like
``datumaro_reader.py``; the pixels of a mask are the area inside its polygons.

Usage: ``ultralytics_reader.py FOLDER``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset


def main() -> None:
    """Load the labels of every split."""
    folder = Path(sys.argv[1]).resolve()
    data = check_det_dataset(str(folder / "data.yaml"), autodownload=False)
    found = {}
    for place in sorted(path for path in (folder / "images").iterdir() if path.is_dir() and any(path.iterdir())):
        for item in YOLODataset(img_path=str(place), data=data, task="segment", augment=False).labels:
            found[Path(item["im_file"]).stem] = described(item, data["names"]) | {"split": place.name}
    print(json.dumps(found))  # noqa: T201


def described(item: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    """Return what Ultralytics read about one picture: rectangles are boxes, the others outlines."""
    found: dict[str, Any] = {"boxes": [], "masks": {}, "labels": [], "opened": True}
    height, width = item["shape"]
    segments = item["segments"] or [None] * len(item["cls"])
    for (index,), (cx, cy, w, h), ring in zip(item["cls"], item["bboxes"], segments, strict=True):
        name = names[int(index)]
        if ring is None or len(ring) == 4:
            edges = [(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height]
            found["boxes"].append([name, *map(float, edges), False])
        else:
            x, y = np.asarray(ring, np.float64).T
            area = abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 2 * width * height
            found["masks"][name] = found["masks"].get(name, 0.0) + area
    return found


if __name__ == "__main__":
    main()
