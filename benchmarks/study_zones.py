"""Do ignore zones do what they promise? ``python benchmarks/study_zones.py --out FOLDER``: ``make study-zones``.

Chips are rendered, rectified, and stamped with random date codes of random contrast. An inspector is trained and
certified on the chips with and without codes, and with and without an ignore zone around the code. For each, the AUROC
on parts that it was not trained on, and over many calibrations drawn from these parts the review rate and how often a
certified limit was broken. Further arms change the colour that fills the zone and the cells that are left out, and let
the located part drift. Renderings and bundles are kept in ``OUT``. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import cv2
import numpy as np

from command import print_figures, run
from gonogo import images, zoning
from gonogo.config import IgnoreZone, Zone
from gonogo.dataset import Dataset, Sample, write_metadata
from gonogo.errors import InputError
from gonogo.evaluate import auroc
from gonogo.files import folder_beside, write_beside
from gonogo.images.geometry import as_quad
from gonogo.images.zones import Place, zone_in_frame
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise, clopper_pearson
from gonogo.operating_point.rule import certified_point
from gonogo.progress import console, track
from gonogo.schema import Box, Frame, Label, Located, Mask, Scores, State
from gonogo.synthetic import ChipType, Defect, Mix, render_with
from gonogo.workflow import TrainingOptions, train_inspector

SEED = 25
RENDERED_WH = (448, 336)
WIDE = 0.3
"""Margin of the stored chips; the judged ones have `MARGIN`, so that they can drift."""
MARGIN = 0.1
SIZE_WH = (224, 160)
STORED_WH = (296, 212)
CODE = IgnoreZone(kind="ignore", name="date code", polygon=((0.10, 0.58), (0.62, 0.58), (0.62, 0.78), (0.10, 0.78)))
WIDER = IgnoreZone(kind="ignore", name="date code", polygon=((0.05, 0.53), (0.67, 0.53), (0.67, 0.83), (0.05, 0.83)))
USUAL_DRIFT, LARGE_DRIFT = 0.005, 0.05
MAX_RATE, CONFIDENCE = 0.1, 0.95
PROMISE = Promise(max_escape=0.15, max_overkill=0.15, keep_hidden=True)
"""Of the bundle itself; the limits that are counted are `MAX_RATE`, on drawn calibrations."""
CALIBRATION_PARTS = 60
"""Of each class, in every drawn calibration."""
LINE = 0.05
"""Share of bad parts for the stated review rate."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train and judge."""

    name: str
    codes: bool = True
    zones: tuple[Zone, ...] = (CODE,)
    drift: float = USUAL_DRIFT
    """Standard deviation of the position of pictures that are judged, as a share of the part's sides."""
    fill: Literal["median", "mean", "grey"] = "median"
    """What fills a zone: median or mean colour of its rim, or mid-grey."""
    left_out: float = zoning.LEFT_OUT_COVERED
    """Share of a cell that must be covered for it to be left out; above 1 none is."""


ARMS = (
    Arm(name="no codes, no zone", codes=False, zones=()),
    Arm(name="no codes, zone", codes=False),
    Arm(name="codes, no zone", zones=()),
    Arm(name="codes, zone"),
    Arm(name="codes, zone, filled with the mean", fill="mean"),
    Arm(name="codes, zone, filled with grey", fill="grey"),
    Arm(name="codes, zone, cells touched are left out", left_out=1e-3),
    Arm(name="codes, zone, no cell left out", left_out=2.0),
    Arm(name="no codes, no zone, drift 5 %", codes=False, zones=(), drift=LARGE_DRIFT),
    Arm(name="codes, no zone, drift 5 %", zones=(), drift=LARGE_DRIFT),
    Arm(name="codes, zone, drift 5 %", drift=LARGE_DRIFT),
    Arm(name="codes, zone 5 % wider, drift 5 %", zones=(WIDER,), drift=LARGE_DRIFT),
)


def main(words: Sequence[str] | None = None) -> None:
    """Render, train, judge, draw calibrations, and print the figures."""
    given = _arguments(words)
    train, pool = (24, 40) if given.quick else (80, 200)
    draws = given.draws or (100 if given.quick else 500)
    chips = _render(given.out / "chips", train + pool)
    arms = ARMS[:4] if given.quick else ARMS
    figures = [_arm(arm, given.out / ("quick" if given.quick else "arms"), chips, train, draws) for arm in arms]
    for row in figures:
        console.print(json.dumps(row), markup=False, highlight=False, soft_wrap=True)
    print_figures({"parts_of_each_class": {"train": train, "judged": pool}, "draws": draws, "arms": figures})


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="study_zones", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="Folder for renderings, bundles and results.")
    parser.add_argument("--quick", action="store_true", help="64 parts of each class and 100 draws, four arms.")
    parser.add_argument("--draws", type=int, help="Number of drawn calibrations. Default: 500.")
    return parser.parse_args(words)


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A rectified chip with a wide margin, and the mask of its defect."""

    number: int
    picture: Frame
    mask: Frame

    @property
    def bad(self) -> bool:
        """Whether it has a defect."""
        return bool(self.mask.any())


def _render(folder: Path, of_each: int) -> list[Chip]:
    """Render good and bad chips alternately; finished ones are taken from the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    chips = []
    for number in track(range(2 * of_each), "rendering"):
        file = folder / f"{number:05d}.png"
        if not file.is_file():
            defect = [*Defect][number // 2 % len(Defect)] if number % 2 else None
            made = render_with(
                number, defect=defect, seed=SEED, difficulty=0.3, size_wh=RENDERED_WH, mix=Mix(chips=(ChipType.SOIC8,))
            )
            assert made.quad is not None, "it shows one chip"
            region = Located(present=True, quad=as_quad(np.array(made.quad)), margin=WIDE).region
            assert region is not None, "it has a quad"
            frame = images.decode(made.jpeg)
            marks = (
                np.zeros(frame.shape, np.uint8)
                if made.mask is None
                else np.repeat(made.mask[..., None] * np.uint8(255), 3, axis=2)
            )
            both = np.vstack([images.cut(each, region, STORED_WH) for each in (frame, marks)])
            write_beside(file, images.encode_png(both))
        both = images.load_picture(file)
        half = len(both) // 2
        chips.append(Chip(number=number, picture=both[:half], mask=_marked(both[half:])))
    return chips


def _marked(mask: Frame) -> Frame:
    return np.where(mask > 127, 255, 0).astype(np.uint8)


def _stamped(picture: Frame, rng: np.random.Generator, *, later: bool) -> Frame:
    """Print a date code where the zone is.

    The parts that are trained on are of two lots: two codes, printed alike. Those of later lots have codes of random
    text, size, position, slant and contrast, and some are signed with pen strokes.
    """
    height, width = picture.shape[:2]
    inside = zone_in_frame(CODE.polygon, Place(region=Box.whole(picture), margin=WIDE), (width, height))
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    top, left, tall, wide = int(rows[0]) + 2, int(columns[0]) + 2, len(rows) - 4, len(columns) - 4
    patch = np.full((tall, wide), round(rng.uniform(25, 90)), np.uint8)
    if not later:
        text = ("2517 B205", "2518 B206")[int(rng.integers(2))]
        patch[:] = 45
        cv2.putText(patch, text, (3, tall - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, 180, 1, cv2.LINE_AA)
        return _pasted(picture, patch, top, left)
    text = f"{rng.integers(20, 27)}{rng.integers(1, 53):02d} {'ABCDEFGHKM'[rng.integers(10)]}{rng.integers(1000):03d}"
    ink, bold = round(rng.uniform(110, 245)), 1 + int(rng.random() < 0.4)
    at = (int(rng.integers(0, max(1, wide // 4))), int(rng.integers(tall // 2, tall)))
    cv2.putText(patch, text, at, cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.35, 0.6), ink, bold, cv2.LINE_AA)
    slant = np.array([[1.0, rng.uniform(-0.4, 0.4), 0.0], [rng.uniform(-0.15, 0.15), 1.0, 0.0]])
    patch = np.asarray(cv2.warpAffine(patch, slant, (wide, tall), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    for _ in range(int(rng.integers(0, 4))):  # whoever checked it signed it
        stroke = np.cumsum(rng.normal(0, (wide / 7, tall / 7), (6, 2)), axis=0) + rng.uniform(0, (wide, tall))
        shade = round(rng.uniform(0, 20) if rng.random() < 0.5 else rng.uniform(150, 245))
        cv2.polylines(patch, [np.rint(stroke).astype(np.int32)], False, shade, 1, cv2.LINE_AA)
    return _pasted(picture, patch, top, left)


def _pasted(picture: Frame, patch: np.ndarray, top: int, left: int) -> Frame:
    """The picture with a grey patch, on which its own texture stays visible."""
    stamped = picture.copy()
    own = stamped[top : top + patch.shape[0], left : left + patch.shape[1]]
    own[:] = np.clip(patch[..., None] + (own.astype(np.float32) - own.mean()), 0, 255).astype(np.uint8)
    return stamped


def _view(chip: Chip, arm: Arm, *, judged: bool) -> tuple[Frame, Frame]:
    """A chip and its mask as a camera with this drift shows it."""
    rng = np.random.default_rng((SEED, chip.number))
    picture = _stamped(chip.picture, rng, later=judged) if arm.codes else chip.picture
    height, width = picture.shape[:2]
    grown = (1 + 2 * WIDE) / (1 + 2 * MARGIN)
    part_wh = np.array([width, height]) / (1 + 2 * WIDE)
    moved = rng.normal(0, 1, 2).clip(-2, 2) * (arm.drift if judged else USUAL_DRIFT) * part_wh
    middle, half = np.array([width, height]) / 2 + moved, np.array([width, height]) / grown / 2
    (x1, y1), (x2, y2) = (middle - half).tolist(), (middle + half).tolist()
    quad = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    return images.cut(picture, quad, SIZE_WH), images.cut(chip.mask, quad, SIZE_WH)


def _hidden(chip: Chip, zone: Zone) -> bool:
    """Whether the whole defect lies in the zone."""
    height, width = chip.mask.shape[:2]
    inside = zone_in_frame(zone.polygon, Place(region=Box.whole(chip.mask), margin=WIDE), (width, height))
    return chip.bad and not (chip.mask[..., 0][~inside] > 0).any()


def _dataset(arm: Arm, folder: Path, chips: Sequence[Chip], train: int) -> Dataset:
    """Write the chips of an arm as a data set: train and val, then calibrate and test."""
    if not (folder / "metadata.jsonl").is_file():
        with folder_beside(folder) as partial:
            for name in ("images", "masks"):
                (partial / name).mkdir()
            write_metadata(partial, [*_samples(arm, partial, chips, train)])
    return Dataset.read(folder)


def _samples(arm: Arm, folder: Path, chips: Sequence[Chip], train: int) -> Iterator[Sample]:
    for chip in chips:
        if chip.number % 2 and (not chip.bad or _hidden(chip, WIDER)):  # a good part by the zone's definition
            continue
        pair, judged = chip.number // 2, chip.number // 2 >= train
        picture, mask = _view(chip, arm, judged=judged)
        name = f"{chip.number:05d}.png"
        write_beside(folder / "images" / name, images.encode_png(picture))
        split = ("calibrate" if pair % 2 else "test") if judged else "val" if pair % 4 == 0 else "train"
        row = {"file_name": f"images/{name}", "part": f"p{chip.number}", "split": split, "label": "good"}
        if chip.bad:
            write_beside(folder / "masks" / name, images.encode_png(_marked(mask)[..., 0]))
            row |= {"label": "bad", "defect": str([*Defect][pair % len(Defect)]), "mask_file_name": f"masks/{name}"}
        yield Sample.model_validate(row)


@contextmanager
def _as_in(arm: Arm) -> Iterator[None]:
    """Judge with the constants of an arm."""

    def grey(*_: object) -> np.ndarray:
        return np.full(3, 128, np.uint8)

    def mean(window: Frame, own: Mask, hides: Mask, rim_px: int) -> np.ndarray:
        kernel = np.ones((2 * rim_px + 1, 2 * rim_px + 1), np.uint8)
        rim = (cv2.dilate(own.astype(np.uint8), kernel) > 0) & ~hides
        return np.asarray(np.rint(window[rim].mean(axis=0)), np.uint8)

    fills = {"median": zoning._colour_around, "mean": mean, "grey": grey}
    zoning.zone_numbers.cache_clear()
    with (
        mock.patch.object(zoning, "LEFT_OUT_COVERED", arm.left_out),
        mock.patch.object(zoning, "_colour_around", fills[arm.fill]),
    ):
        yield
    zoning.zone_numbers.cache_clear()


def _arm(arm: Arm, out: Path, chips: Sequence[Chip], train: int, draws: int) -> dict[str, Any]:
    """Train, judge and draw calibrations; finished scores are taken from the folder."""
    name = "".join(letter if letter.isalnum() else "-" for letter in arm.name)
    stored = out / f"{name}.json"
    if not stored.is_file():
        dataset = _dataset(arm, out / name, chips, train)
        # The zones of a margin that was cut off before: the part of these pictures is the picture without its margin.
        zones = tuple(_in_picture(zone) for zone in arm.zones)
        options = TrainingOptions(size_wh=SIZE_WH, zones=zones, promise=PROMISE)
        with _as_in(arm):
            train_inspector(dataset, out / f"{name}.inspector", options, overwrite=True)
            inspector = Inspector.load(out / f"{name}.inspector")
            judged = {
                sample.file_name: inspector.inspect_file(dataset.path(sample))[1]
                for sample in track([each for each in dataset.samples if each.split in ("calibrate", "test")], arm.name)
            }
        faults = [verdict.reason for verdict in judged.values() if verdict.state is State.FAULT]
        if faults:
            raise InputError(f"{arm.name}: {len(faults)} faults, first: {faults[0]}")
        rows = {
            label: [judged[s.file_name].score for s in dataset.samples if s.label is label and s.file_name in judged]
            for label in Label
        }
        write_beside(stored, json.dumps(rows).encode())
    scores = {Label(label): np.array(rows) for label, rows in json.loads(stored.read_bytes()).items()}
    return {"arm": arm.name, **_figures(scores[Label.GOOD], scores[Label.BAD], draws)}


def _in_picture(zone: Zone) -> Zone:
    """A zone in the coordinates of the stored pictures, which are judged as a whole and show the margin too."""
    corners = tuple(tuple((value + MARGIN) / (1 + 2 * MARGIN) for value in corner) for corner in zone.polygon)
    return zone.model_copy(update={"polygon": corners})


def _figures(good: Scores, bad: Scores, draws: int) -> dict[str, Any]:
    """AUROC with its bootstrap interval; over drawn calibrations the review rate and the broken limits.

    A calibration is drawn with replacement from the judged parts, so that their error rates are the true ones.
    """
    rng = np.random.default_rng(SEED)
    resampled = [auroc(rng.choice(good, len(good)), rng.choice(bad, len(bad))) for _ in range(500)]
    escapes = overkills = 0
    reviews = []
    for _ in range(draws):
        point = certified_point(
            rng.choice(good, CALIBRATION_PARTS),
            rng.choice(bad, CALIBRATION_PARTS),
            max_escape=MAX_RATE,
            max_overkill=MAX_RATE,
            confidence=CONFIDENCE,
        )
        escapes += float(np.mean(bad < point.go_below)) > MAX_RATE
        overkills += float(np.mean(good > point.no_go_above)) > MAX_RATE
        between = [float(np.mean((each >= point.go_below) & (each <= point.no_go_above))) for each in (good, bad)]
        reviews.append((1 - LINE) * between[0] + LINE * between[1])
    low, high = np.quantile(np.array(resampled, np.float64), (0.025, 0.975))
    return {
        "good": len(good),
        "bad": len(bad),
        "auroc": round(auroc(good, bad) or 0.0, 4),
        "auroc_95": [round(float(low), 4), round(float(high), 4)],
        "review_rate": round(float(np.mean(reviews)), 4),
        "broken_escape": escapes / draws,
        "broken_overkill": overkills / draws,
        "broken_95": [round(each, 4) for each in clopper_pearson(max(escapes, overkills), draws)],
    }


if __name__ == "__main__":
    run(main)
