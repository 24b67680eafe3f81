"""Compare tiled inspection with the whole region, on pitted ball screws: ``python benchmarks/tiling.py [BSDATA]``.

Of 1,104 photographs 394 carry polygons around pits; the others are not known to be good. So a good part here is half
of a labelled photograph, cut out at full resolution, that no polygon comes near, and a bad one is a half that holds a
pit: what nobody marked counts as sound. The places of the screws (position and angle, photographed again and again
while they wear) are shared out, so that no place is both learned from and judged. ``QUICK=1`` takes a third of the
pictures.

Each inspector learns from the halves of some places and judges those of others: by AUROC, by AUPRO (the share of each
pit that is hot, up to a false-positive rate of 0.3 over unmarked pixels of the halves with pits) and by whether the
hottest point lies on a pit. The first one judges whole photographs too, labelled against unlabelled ones of the same
places. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gonogo import heatmap, images
from gonogo.config import Tiling
from gonogo.dataset import Dataset, Sample, Split
from gonogo.evaluate.curves import auroc
from gonogo.inspector import Inspector
from gonogo.progress import console
from gonogo.schema import Frame, Label, Verdict
from gonogo.workflow import TrainingOptions, train_inspector

QUICK = bool(os.environ.get("QUICK"))
SHARES = {Split.TRAIN: 0.4, Split.VAL: 0.1, Split.CALIBRATE: 0.1, Split.TEST: 0.4}
"""Splits of the places."""
MOST = {Split.TRAIN: 90, Split.VAL: 20, Split.CALIBRATE: 15, Split.TEST: 90}
"""Largest number of halves per class and split."""
LEAST_MARKED, CLEAR = 64, 32
"""Smallest number of marked pixels of a bad half; smallest distance of a good half to a polygon, in pixels."""
LARGEST_FALSE_RATE = 0.3


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One labelled photograph."""

    path: Path
    place: str
    polygons: list[np.ndarray]


def place_of(name: str) -> str:
    """Return the spot of the screw that a photograph shows: its name without the capture time."""
    pieces = name.split("_")
    return "_".join(pieces[2:4]) if pieces[0].isdigit() else pieces[0].split("-")[0]


def labelled(root: Path) -> list[Photograph]:
    """Return the photographs with polygons."""
    found = []
    for file in sorted((root / "labels").glob("*.json")):
        shapes = json.loads(file.read_text())["shapes"]
        polygons = [np.array(each["points"], np.float64) for each in shapes]
        path = root / "images" / f"{file.stem}.jpg"
        found.append(Photograph(path=path, place=place_of(file.stem), polygons=polygons))
    return found


def share_out(places: list[str], seed: int) -> dict[str, Split]:
    """Assign a split to every place."""
    order = np.random.default_rng(seed).permutation(places).tolist()
    edges = np.rint(np.cumsum(list(SHARES.values())) * len(order)).astype(int)
    return {
        place: split
        for split, part in zip(SHARES, np.split(np.array(order), edges[:-1]), strict=True)
        for place in part
    }


def halves(photograph: Photograph) -> list[tuple[Frame, np.ndarray | None, str]]:
    """Return left and right half with their masks (``None`` if good); ambiguous halves are left out."""
    frame = images.load_picture(photograph.path)
    mask = np.zeros(frame.shape[:2], np.uint8)
    for polygon in photograph.polygons:
        cv2.fillPoly(mask, [np.rint(polygon).astype(np.int32)], 255)
    near = cv2.dilate(mask, np.ones((2 * CLEAR + 1, 2 * CLEAR + 1), np.uint8))
    middle = frame.shape[1] // 2
    found: list[tuple[Frame, np.ndarray | None, str]] = []
    for side, columns in (("left", slice(0, middle)), ("right", slice(middle, None))):
        if not near[:, columns].any():
            found.append((frame[:, columns], None, side))
        elif (mask[:, columns] > 0).sum() >= LEAST_MARKED:
            found.append((frame[:, columns], mask[:, columns], side))
    return found


def make_dataset(photographs: list[Photograph], splits: dict[str, Split], root: Path, seed: int) -> Dataset:
    """Write the halves as a data set, at most `MOST` per class and split."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    samples: list[Sample] = []
    left = {(split, label): most // (3 if QUICK else 1) for split, most in MOST.items() for label in Label}
    for index in np.random.default_rng(seed).permutation(len(photographs)):
        photograph = photographs[index]
        split = splits[photograph.place]
        if not any(left[split, label] for label in Label):
            continue
        for frame, mask, side in halves(photograph):
            label = Label.GOOD if mask is None else Label.BAD
            if not left[split, label]:
                continue
            left[split, label] -= 1
            stem = f"{photograph.path.stem}-{side}"
            (root / f"images/{stem}.png").write_bytes(images.encode_png(frame))
            if mask is not None:
                (root / f"masks/{stem}.png").write_bytes(images.encode_png(mask))
            masked = None if mask is None else f"masks/{stem}.png"
            samples.append(
                Sample(file_name=f"images/{stem}.png", label=label, part=stem, split=split, mask_file_name=masked)
            )
    dataset = Dataset(root=root, samples=tuple(samples))
    dataset.write()
    return dataset


def aupro(maps: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """Area under the per-region overlap up to `LARGEST_FALSE_RATE`, as a share of that rate (Bergmann et al., 2020)."""
    sound = np.concatenate([values[~mask] for values, mask in zip(maps, masks, strict=True)])
    rates = np.linspace(0.0, LARGEST_FALSE_RATE, 61)
    thresholds = np.quantile(sound, 1.0 - rates)
    overlaps = []
    for values, mask in zip(maps, masks, strict=True):
        count, regions = cv2.connectedComponents(mask.astype(np.uint8))
        overlaps += [(values[regions == each][:, None] >= thresholds).mean(0) for each in range(1, count)]
    return float(np.trapezoid(np.mean(overlaps, axis=0), rates) / LARGEST_FALSE_RATE)


def measure(inspector: Inspector, dataset: Dataset) -> dict[str, Any]:
    """Judge the test halves."""
    scores: dict[Label, list[float]] = {label: [] for label in Label}
    maps, masks, hits, windows, network_ms = [], [], [], [], []
    for sample in dataset.split(Split.TEST):
        frame = dataset.load(sample)
        verdict = inspector.inspect(frame)
        assert verdict.score is not None, verdict.reason
        assert sample.label is not None, "all are labelled"
        scores[sample.label].append(verdict.score)
        windows.append(verdict.windows)
        network_ms.append(verdict.timings_ms["network"])
        if (mask := dataset.load_mask(sample, frame.shape[:2])) is not None:
            maps.append(full_map(verdict, frame))
            masks.append(mask)
            hits.append(hits_mask(verdict, mask))
    return {
        "auroc": auroc(np.array(scores[Label.GOOD]), np.array(scores[Label.BAD])),
        "aupro": aupro(maps, masks),
        "pointing": float(np.mean(hits)),
        "good": len(scores[Label.GOOD]),
        "bad": len(scores[Label.BAD]),
        "windows": float(np.median(windows)),
        "network_ms": float(np.median(network_ms)),
    }


def full_map(verdict: Verdict, frame: Frame) -> np.ndarray:
    """Return the heat map at the resolution of the frame."""
    assert verdict.heatmap is not None, "it was judged"
    assert verdict.region is not None, "it was judged"
    return heatmap.spread(verdict.heatmap, verdict.region, frame.shape[:2], shift_xy=verdict.shift_xy)


def hits_mask(verdict: Verdict, mask: np.ndarray) -> bool:
    """Whether the peak of the map is on a pit."""
    assert verdict.heatmap is not None, "it was judged"
    assert verdict.region is not None, "it was judged"
    x, y = heatmap.hottest_point(verdict.heatmap, verdict.region, shift_xy=verdict.shift_xy)
    return bool(mask[min(mask.shape[0] - 1, int(y)), min(mask.shape[1] - 1, int(x))])


def measure_whole(inspector: Inspector, root: Path, photographs: list[Photograph], splits: dict[str, Split]) -> Any:
    """Judge whole photographs of the test places: labelled ones against unlabelled ones."""
    bad = {each.path.name for each in photographs}
    rng, most = np.random.default_rng(0), 10 if QUICK else MOST[Split.TEST]
    scores: dict[bool, list[float]] = {True: [], False: []}
    names = [each.name for each in sorted((root / "images").glob("*.jpg"))]
    for name in rng.permutation(names).tolist():
        kind = name in bad
        if not name[0].isdigit():  # of this screw every photograph is labelled: it would tell the two apart
            continue
        if splits.get(place_of(Path(name).stem)) is not Split.TEST or len(scores[kind]) >= most:
            continue
        verdict = inspector.inspect_file(root / "images" / name)[1]
        assert verdict.score is not None, verdict.reason
        scores[kind].append(verdict.score)
    found = auroc(np.array(scores[False]), np.array(scores[True]))
    return {"auroc": found, "labelled": len(scores[True]), "unlabelled": len(scores[False])}


def main() -> None:
    """Train and evaluate, for each method and each random split of the places."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bsdata", type=Path, nargs="?", default=Path("../shared/data/bsdata"))
    parser.add_argument("--seeds", type=int, default=1, help="Number of random splits of the places.")
    parser.add_argument("--window", type=int, default=224, help="Side of a window in pixels.")
    given = parser.parse_args()
    photographs = labelled(given.bsdata)
    places = sorted({each.place for each in photographs})
    window = (given.window, given.window)
    ways = {
        "windows, masks": TrainingOptions(tiling=Tiling(), size_wh=window),
        "whole": TrainingOptions(),
        "windows, good only": TrainingOptions(tiling=Tiling(), size_wh=window, masks=False),
    }
    found: dict[str, Any] = {"places": len(places), "quick": QUICK}
    for seed in range(given.seeds):
        splits = share_out(places, seed)
        with tempfile.TemporaryDirectory() as folder:
            dataset = make_dataset(photographs, splits, Path(folder) / "halves", seed)
            for way, options in ways.items():
                taught = without_bad(dataset) if way == "windows, good only" else dataset
                started = time.perf_counter()
                out = Path(folder) / f"{way}.inspector"
                train_inspector(taught, out, options)
                took_s = time.perf_counter() - started
                inspector = Inspector.load(out, replay=False)
                measured = {**measure(inspector, dataset), "training_s": round(took_s, 1)}
                if way == "windows, masks":
                    measured["whole_photographs"] = measure_whole(inspector, given.bsdata, photographs, splits)
                found[f"{way}, seed {seed}"] = measured
                console.print(f"{way}, seed {seed}: {measured}", markup=False, highlight=False)
    print(json.dumps(found))  # noqa: T201


def without_bad(dataset: Dataset) -> Dataset:
    """Return the data set without bad training pictures."""
    learned = (Split.TRAIN, Split.VAL)
    kept = tuple(each for each in dataset.samples if each.label is Label.GOOD or each.split not in learned)
    return Dataset(root=dataset.root, samples=kept)


if __name__ == "__main__":
    main()
