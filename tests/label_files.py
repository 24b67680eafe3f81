"""Random data sets for the round trips of label formats, and what must survive one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gonogo import images
from gonogo.dataset import Dataset, ImportOptions, Sample, import_folder, write_metadata
from gonogo.dataset.exporting import Format, export_dataset, pictures_folder

KINDS = ("scratch", "Kratzer groß", "stain, dark", 'a "quoted" kind', "crack & <chip>")
NAMES = (
    "part 1.png",
    "Teil-ü.png",
    "a.png",
    "A.jpg",
    "#7.png",
    "100%.png",
    "名前.png",
    "x.y.png",
    "o'hara.png",
    "b.png",
)


SPLITS = ("train", "val", "calibrate", "test")
CLASSES = ["chip", "plug"]


def random_dataset(root: Path, rng: np.random.Generator, pictures: int = 8) -> Dataset:
    """Write a data set with boxes, masks with holes and specks, kinds, splits, parts, lots and awkward names."""
    samples = []
    for index in range(pictures):
        width, height = (int(side) for side in rng.integers(12, 60, 2))
        frame = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        name = f"images/{('left', 'right')[index % 2]}/{NAMES[int(rng.integers(len(NAMES)))]}"
        if any(sample["file_name"].casefold() == name.casefold() for sample in samples):
            name = name.replace("images/", f"images/{index}/")
        put(root / name, images.encode_png(frame) if name.endswith(".png") else images.encode_jpeg(frame))
        samples.append(random_record(rng, name, (width, height)) | {"part": f"{index:03d}", "lot": "lot 0.50"})
        if samples[-1]["label"] == "bad" and rng.random() < 0.8:
            samples[-1]["mask_file_name"] = f"masks/{index}.png"
            mask = random_mask(rng, (height, width))
            put(root / samples[-1]["mask_file_name"], images.encode_png(mask.astype(np.uint8) * 255))
    write_metadata(root, [Sample.model_validate(record) for record in samples])
    return Dataset.read(root)


def random_record(rng: np.random.Generator, name: str, size_wh: tuple[int, int]) -> dict[str, Any]:
    label = (None, "good", "bad", "bad")[int(rng.integers(4))]
    kind = KINDS[int(rng.integers(len(KINDS)))] if label == "bad" and rng.random() < 0.8 else None
    record = {
        "file_name": name,
        "label": label,
        "defect": kind,
        "split": SPLITS[int(rng.integers(4))],
    }
    shape = int(rng.integers(4))
    if shape in (0, 1):
        record["box_xyxy"] = random_box(rng, size_wh)
    if shape == 1:
        x1, y1, x2, y2 = record["box_xyxy"]
        record["quad"] = ((x1, y1), (x2, y1 + 0.1), (x2 - 0.3, y2), (x1, y2))
    if shape == 2:
        boxes = [random_box(rng, size_wh) for _ in range(2)]
        record["objects"] = {
            "bbox": [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes],
            "categories": CLASSES,
        }
        if rng.random() < 0.5:
            record["box_xyxy"] = random_box(rng, size_wh)
    if shape == 3:
        record["present"] = False
    return record


def random_box(rng: np.random.Generator, size_wh: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size_wh
    x1, y1 = rng.uniform(0, width - 8), rng.uniform(0, height - 8)
    return float(x1), float(y1), float(rng.uniform(x1 + 4, width)), float(rng.uniform(y1 + 4, height))


def random_mask(rng: np.random.Generator, shape_hw: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """A rectangle, one with a hole, specks, or a thin line; the picture's corners and edges included."""
    mask = np.zeros(shape_hw, np.bool_)
    kind = int(rng.integers(4))
    x, y = (int(rng.integers(0, side - 6)) for side in shape_hw[::-1])
    if kind in (0, 1):
        mask[y : y + int(rng.integers(4, 40)), x : x + int(rng.integers(4, 40))] = True
    if kind == 1:
        mask[y + 1 : y + 3, x + 2 : x + 4] = False
    if kind == 2:
        mask = rng.random(shape_hw) < 0.3
    mask[y, x] = True
    if kind == 3:
        mask[np.arange(6) + y, np.arange(6) + x] = True
    return mask


def round_trip(dataset: Dataset, folder: Path, to: Format) -> Dataset:
    """Export a data set and import it again."""
    out = folder / to
    export_dataset(dataset, out, to)
    options = ImportOptions(annotations=out, unlabelled=True)
    return import_folder(out / pictures_folder(to), folder / f"{to} again", options).dataset


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
