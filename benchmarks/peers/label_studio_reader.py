"""Reads an export for Label Studio with the SDK's own validation, converter and brush decoder.

Run by ``make check-formats``, in an environment of its own with label-studio-sdk. Prints one JSON object like
``datumaro_reader.py``.

Usage: ``label_studio_reader.py FOLDER``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from label_studio_sdk.converter import Converter
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface


def main() -> None:
    """Validate every task against the labeling configuration, then read it as the converter does."""
    folder = Path(sys.argv[1])
    config = (folder / "label_config.xml").read_text("utf-8")
    interface = LabelInterface(config)
    interface.validate()
    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    valid = {
        task["id"]: interface.validate_task({"data": task["data"]})
        and all(interface.validate_annotation(each) for each in task["annotations"])
        for task in tasks
    }
    converter = Converter(config, str(folder), download_resources=False)
    found = {}
    for item in converter.iter_from_json_file(str(folder / "tasks.json")):
        name = PurePosixPath(parse_qs(urlsplit(item["input"]["image"]).query)["d"][0])
        found[name.stem] = described(item) | {"opened": bool(valid[item["id"]]) and (folder / name).is_file()}
    print(json.dumps(found))  # noqa: T201


def described(item: dict[str, Any]) -> dict[str, Any]:
    """Return what the converter read about one task."""
    found: dict[str, Any] = {"split": item["input"].get("split", "default"), "boxes": [], "masks": {}, "labels": []}
    for each in item["output"].get("box", []):
        width, height = each["original_width"] / 100, each["original_height"] / 100
        x, y = each["x"] * width, each["y"] * height
        edges = [x, y, x + each["width"] * width, y + each["height"] * height]
        found["boxes"].append([each["rectanglelabels"][0], *edges, False])
    for each in item["output"].get("defect", []):
        size = (each["original_height"], each["original_width"], 4)
        found["masks"][each["brushlabels"][0]] = int(np.count_nonzero(decode_rle(each["rle"]).reshape(size)[:, :, 3]))
    found["labels"] = [choice for each in item["output"].get("label", []) for choice in each["choices"]]
    return found


if __name__ == "__main__":
    main()
