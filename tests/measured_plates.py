"""Plates with a red scratch of known length, and an inspector that sees it, for tests of sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gonogo import bundle
from gonogo.bundle import Bundle
from gonogo.dataset import Sample, Split, write_metadata
from gonogo.heatmap import HeatScale
from gonogo.images import encode_png
from gonogo.schema import Frame, Label
from gonogo.testing import write_fake_bundle

SIZE_WH = (128, 128)


def plate(length: int, *, seed: int = 0) -> Frame:
    """A plate with a scratch of so many pixels; the fake bundle lets all of them pass."""
    rng = np.random.default_rng(seed)
    frame = np.full((*SIZE_WH[::-1], 3), (60, 90, 90), np.int64)
    if length:
        frame[67:77, 64 - length // 2 : 64 - length // 2 + length, 0] = 255
    return np.clip(frame + rng.integers(-2, 3, frame.shape), 0, 255).astype(np.uint8)


def make_measured(datasets: Path, bundles: Path) -> Bundle:
    """A data set ``plates``, of which 2 of 8 pictures are for calibration, and the inspector ``plate.inspector``.

    Of the other six, two bad ones have a scratch of 80 pixels, one good one has one of 30 pixels.
    """
    root, samples = datasets / "plates", []
    (root / "images").mkdir(parents=True)
    for number, length in enumerate((0, 0, 30, 0, 80, 80, 0, 80)):
        file = f"images/{number}.png"
        (root / file).write_bytes(encode_png(plate(length, seed=number)))
        label = Label.BAD if length == 80 else Label.GOOD
        split = Split.CALIBRATE if number > 5 else Split.VAL if number % 2 else Split.TRAIN
        samples.append(Sample(file_name=file, label=label, split=split, part=f"p{number}"))
    write_metadata(root, samples)
    made = write_fake_bundle(bundles / "plate.inspector")
    scale = HeatScale(cold=150.0, hot=180.0)
    return bundle.write_manifest(made.root, made.manifest.model_copy(update={"heat_scale": scale}))
