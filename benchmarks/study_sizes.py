"""How well are sizes measured, and are missing items found? Rendered parts whose truth is known.

1. Sizes: an inspector is trained on plates with and without scratches, calibrated on a rendered checkerboard, and
   measures scratches of 0.5 to 5 mm on plates that it has never seen.
2. Gauge study: ten scratches, three ways of taking pictures, three trials each; crossed ANOVA.
3. Presence: boards with zero to four of four screws missing.

``make study-sizes``; QUICK=1 takes a few minutes. ``--pictures FOLDER`` also writes the pictures of docs/measuring.md
and docs/presence.md. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import sizes_pictures as pictures
from command import print_figures, run
from gonogo import images
from gonogo.cli.grr import grr_as_json, rows_of
from gonogo.config import Checks, PresenceZone
from gonogo.dataset import Dataset, Sample, Split
from gonogo.evaluate.rates import Rate
from gonogo.files import write_beside
from gonogo.heatmap import overlay
from gonogo.images.zones import Place
from gonogo.inspector import Inspector
from gonogo.measure import calibrate_checkerboard, draw_calibration, draw_measurements
from gonogo.msa import analyse_variables, read_measured_study
from gonogo.presence import count_items, draw_counts, learn_presence
from gonogo.progress import console, track
from gonogo.rules import set_checks
from gonogo.schema import Box, Label, Measurement
from gonogo.workflow import TrainingOptions, train_inspector
from sizes_pictures import MM_PER_PX, SIZE_WH, Light, Scratch

LENGTHS_MM = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)
GAUGE_MM = (0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0, 3.6, 4.2, 4.8)
OPERATORS = {
    "A": Light(),
    "B": Light(brightness=1.15, blur_px=1.2, turn_deg=8),
    "C": Light(brightness=0.85, noise=4.5, turn_deg=-6),
}
PLACE = Place(region=Box(x1=0, y1=0, x2=SIZE_WH[0], y2=SIZE_WH[1]))
AROUND = ((0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98))


def make_plates(root: Path, parts: Mapping[Split, int], seed: int) -> Dataset:
    """Plates, every other one with a scratch and its mask."""
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    samples = []
    for split, count in parts.items():
        for number in range(count):
            bad = number % 2 == 1
            scratch = Scratch.drawn(float(rng.uniform(0.5, 5)), rng) if bad else None
            light = OPERATORS["ABC"[number % 3]]
            frame, mask = pictures.plate(scratch, rng, light)
            name = f"{split.value}-{number:03d}.png"
            (root / "images" / name).write_bytes(images.encode_png(frame))
            if bad:
                shown = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
                (root / "masks" / name).write_bytes(images.encode_png(shown))
            samples.append(
                Sample(
                    file_name=f"images/{name}",
                    label=Label.BAD if bad else Label.GOOD,
                    part=f"{split.value}-{number}",
                    defect="scratch" if bad else None,
                    mask_file_name=f"masks/{name}" if bad else None,
                    split=split,
                )
            )
    dataset = Dataset(root=root, samples=tuple(samples))
    dataset.write()
    return dataset


def trained(folder: Path, *, quick: bool) -> Inspector:
    """Train, calibrate on a checkerboard, and put the scale into the bundle."""
    few = 16 if quick else 40
    parts = {Split.TRAIN: 2 * few, Split.VAL: few, Split.CALIBRATE: few}
    out = folder / "plate.inspector"
    train_inspector(make_plates(folder / "plates", parts, 1), out, TrainingOptions(size_wh=(320, 256)))
    board = pictures.checkerboard(2.0, (9, 7), np.random.default_rng(2))
    found = calibrate_checkerboard(board, (9, 7), 2.0)
    error = found.scale.mm_per_px / MM_PER_PX - 1
    console.print(f"scale {found.scale.mm_per_px:.5f} mm per pixel, wrong by {error:+.2%}", markup=False)
    made = set_checks(Inspector.load(out).bundle, Checks(scale=found.scale), now="2026-01-01T00:00:00+00:00")
    return Inspector.load(made.bundle.root)


def longest(inspector: Inspector, scratch: Scratch, rng: np.random.Generator, light: Light) -> Measurement | None:
    """Photograph a scratch and measure it; ``None`` if the map shows nothing."""
    frame, _ = pictures.plate(scratch, rng, light)
    return next(iter(inspector.inspect(frame).measurements), None)


def study_lengths(inspector: Inspector, *, quick: bool) -> list[dict[str, Any]]:
    """Bias, 95 % error and coverage for every length."""
    rng, rows = np.random.default_rng(3), []
    repeats = 12 if quick else 30
    for length in track(LENGTHS_MM, "Lengths"):
        found = [
            longest(inspector, Scratch.drawn(length, rng), rng, OPERATORS["ABC"[number % 3]])
            for number in range(repeats)
        ]
        seen = [each for each in found if each is not None]
        off = np.array([each.length_mm - length for each in seen])
        claimed = np.array([each.length_error_mm for each in seen])
        rows.append(
            {
                "length_mm": length,
                "scratches": repeats,
                "measured": len(seen),
                "refined": sum(each.refined for each in seen),
                "bias_mm": float(off.mean()),
                "error_95_mm": float(np.quantile(np.abs(off), 0.95)),
                "claimed_95_mm": float(np.median(claimed)),
                "inside_claim": float((np.abs(off) <= claimed).mean()),
            }
        )
    return rows


def study_gauge(inspector: Inspector, folder: Path) -> dict[str, Any]:
    """Repeatability and reproducibility of the measured length."""
    rng = np.random.default_rng(4)
    scratches = [Scratch.drawn(length, rng) for length in GAUGE_MM]
    path = folder / "scratches.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["operator", "trial", "part", "value", "reference"])
        for operator, light in OPERATORS.items():
            for trial in (1, 2, 3):
                for number, scratch in enumerate(scratches):
                    found = longest(inspector, scratch, rng, light)
                    value = 0.0 if found is None else found.length_mm
                    writer.writerow([operator, trial, f"scratch-{number}", value, scratch.length_mm])
    study = read_measured_study(path)
    found_grr = analyse_variables(study, tolerance=2.0)
    for name, text in rows_of(found_grr):
        console.print(f"  {name:38s} {text}", markup=False, highlight=False)
    return dict(grr_as_json(study, found_grr))


def learn_screws() -> PresenceZone:
    """Learn the screws from one complete board."""
    frame = pictures.screwed_board(frozenset(), np.random.default_rng(5))
    x1, y1, x2, y2 = pictures.SCREW_BOX
    learned = learn_presence(
        frame,
        PLACE,
        name="screws",
        polygon=AROUND,
        item=Box(x1=x1, y1=y1, x2=x2, y2=y2),
        count=4,
        round_item=True,
        turn_deg=180,
    )
    return learned.zone


def study_presence(*, quick: bool) -> dict[str, Any]:
    """Boards with 0 to 4 screws missing."""
    rng, zone = np.random.default_rng(6), learn_screws()
    boards, miscounted = (50 if quick else 200), 0
    detected, alarms = list[bool](), list[bool]()
    for number in track(range(boards), "Boards"):
        gone = number % 5
        missing = frozenset(int(each) for each in rng.choice(4, gone, replace=False))
        count = count_items(pictures.screwed_board(missing, rng), PLACE, zone)
        miscounted += len(count.items) != 4 - gone
        (detected if gone else alarms).append(not count.complete)
    found, false = (Rate.of_outcomes(each, confidence=0.95) for each in (detected, alarms))
    return {
        "boards": boards,
        "miscounted": miscounted,
        **found.to_json("detected_rate"),
        **false.to_json("false_alarm_rate"),
    }


def write_pictures(inspector: Inspector, folder: Path) -> None:
    """The pictures of the documentation."""
    rng = np.random.default_rng(8)
    board = pictures.checkerboard(2.0, (9, 7), np.random.default_rng(2))
    calibrated = draw_calibration(board, calibrate_checkerboard(board, (9, 7), 2.0))
    write_beside(folder / "calibration.jpg", images.encode_jpeg(calibrated))
    scratch = Scratch(length_mm=4.2, width_mm=0.15, contrast=60, bend_rad=0.6, angle_rad=0.5, centre=(0.45, 0.5))
    frame, _ = pictures.plate(scratch, rng)
    verdict = inspector.inspect(frame)
    drawn = overlay(frame, verdict, inspector.heat_scale)
    draw_measurements(drawn, verdict.measurements)
    write_beside(folder / "measured.jpg", images.encode_jpeg(drawn))
    zone = learn_screws()
    board = pictures.screwed_board(frozenset({1}), rng)
    counted = board.copy()
    draw_counts(counted, [count_items(board, PLACE, zone)])
    write_beside(folder / "presence.jpg", images.encode_jpeg(counted))


def _print_lengths(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        console.print(
            f"{row['length_mm']:.1f} mm: {row['measured']} of {row['scratches']} measured, bias {row['bias_mm']:+.3f} "
            f"mm, 95 % of errors below {row['error_95_mm']:.3f} mm, claimed {row['claimed_95_mm']:.3f} mm, inside "
            f"{row['inside_claim']:.0%}",
            markup=False,
            highlight=False,
        )


def main() -> None:
    """Run the three studies."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        presence = study_presence(quick=arguments.quick)
        inspector = trained(Path(folder), quick=arguments.quick)
        lengths = study_lengths(inspector, quick=arguments.quick)
        _print_lengths(lengths)
        gauge = study_gauge(inspector, Path(folder))
        if arguments.pictures is not None:
            write_pictures(inspector, arguments.pictures)
    print_figures({"lengths": lengths, "gauge": gauge, "presence": presence})


if __name__ == "__main__":
    run(main)
