"""Photographs of one bright turned plate on dark noise, with its box and corners; bad ones carry a dark spot."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from gonogo.dataset import Dataset, Sample, Split
from gonogo.images import encode_png
from gonogo.images.geometry import Corners, as_quad, box_around, upright
from gonogo.schema import Frame, Label

SIZE_WH = (128, 96)
PARTS = {Split.TRAIN: 24, Split.VAL: 6, Split.CALIBRATE: 8}


def empty_frame(rng: np.random.Generator) -> Frame:
    """No plate at all."""
    return np.clip(rng.normal(60, 12, (SIZE_WH[1], SIZE_WH[0], 3)), 0, 255).astype(np.uint8)


def plate_frame(rng: np.random.Generator, *, bad: bool = False) -> tuple[Frame, Corners]:
    """A plate of about 48 x 32 pixels, turned by up to 12 degrees, and its corners."""
    frame = empty_frame(rng)
    centre = (float(rng.uniform(40, 88)), float(rng.uniform(36, 60)))
    sides = (float(rng.uniform(44, 52)), float(rng.uniform(30, 34)))
    corners = upright(cv2.boxPoints((centre, sides, float(rng.uniform(-12, 12)))).astype(np.float64))
    points = np.rint((corners - 0.5) * 16).astype(np.int32)
    cv2.fillConvexPoly(frame, points, (210, 205, 190), cv2.LINE_AA, 4)
    if bad:
        cv2.circle(frame, (round(centre[0]), round(centre[1])), 7, (30, 30, 30), -1, cv2.LINE_AA)
    return frame, corners


def make_plates(root: Path, *, empty: int = 6) -> Dataset:
    """Plates to train on, choose with and certify on, every other one bad; and pictures without a plate."""
    rng = np.random.default_rng(5)
    (root / "images").mkdir(parents=True)
    samples = []
    for split, count in PARTS.items():
        for number in range(count):
            bad = number % 2 == 1
            frame, corners = plate_frame(rng, bad=bad)
            name = f"images/{split}-{number:02d}.png"
            (root / name).write_bytes(encode_png(frame))
            samples.append(
                Sample(
                    file_name=name,
                    label=Label.BAD if bad else Label.GOOD,
                    part=f"{split}-{number}",
                    box_xyxy=box_around(corners).xyxy,
                    quad=as_quad(corners),
                    split=split,
                )
            )
    for number in range(empty):
        name = f"images/empty-{number}.png"
        (root / name).write_bytes(encode_png(empty_frame(rng)))
        samples.append(Sample(file_name=name, present=False))
    dataset = Dataset(root=root, samples=tuple(samples))
    dataset.write()
    return dataset
