"""Time to find the region on one large frame."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from gonogo import images, runtime
from gonogo.export import export_locator
from gonogo.model import Locator, LocatorHead, Scaling
from gonogo.model.locator import make_head
from gonogo.roi import ClassicalConfig, LearnedConfig, LearnedRoi, read_roi_config, time_roi
from gonogo.roi.opening import make_roi
from gonogo.roi.scoring import read_examples
from gonogo.roi.tuning import tune
from gonogo.schema import Box
from gonogo.synthetic import render_scene, write_dataset
from gonogo.workflow import LocatorOptions
from gonogo.workflow.learned_region import input_wh, locator_features

FRAME_WH = (1920, 1080)


@dataclass(frozen=True, kw_only=True)
class RegionTiming:
    """Medians over interleaved repeats in one run: compare the ratios, not the milliseconds."""

    decode_ms: float
    """OpenCV's decoding of the frame's JPEG."""
    classical_ms: float
    network_ms: float
    """The bare compiled network of the locator on a picture that is ready."""
    learned_ms: float
    """From the frame to the box with the same network."""

    def to_json(self) -> dict[str, float]:
        """Return the two ratios with limits, and their components."""
        return {
            "classical_over_decode": self.classical_ms / self.decode_ms,
            "learned_over_network": self.learned_ms / self.network_ms,
            "decode_ms": self.decode_ms,
            "classical_ms": self.classical_ms,
            "network_ms": self.network_ms,
            "learned_ms": self.learned_ms,
        }


def time_regions(recipe: Path | None, options: LocatorOptions, *, repeats: int = 60) -> RegionTiming:
    """Time a classical recipe and a locator on one rendered 1080p frame.

    The locator's own weights do not matter for its speed, so they are not trained.

    Args:
        recipe: A classical recipe's file; one tuned on a few rendered boards where omitted.
        options: Backbone and size of the locator.
        repeats: Of each; they take turns.
    """
    encoded = render_scene(0, seed=1, size_wh=FRAME_WH).jpeg
    frame = images.decode(encoded)
    search = make_roi(_quick_recipe() if recipe is None else read_roi_config(recipe))
    classical = time_roi(search, encoded, repeats=repeats)
    size_wh, features = input_wh(options), locator_features(options)[0].features
    with torch.no_grad():
        channels = features(torch.zeros(1, size_wh[1], size_wh[0], 3, dtype=torch.uint8)).shape[1]
    locator = Locator(
        features, make_head(LocatorHead.EDGES, channels), Scaling(torch.zeros(channels), torch.ones(channels))
    )
    graph = runtime.compile_graph(export_locator(locator.eval(), size_wh))
    # Nothing is refused, so that the whole way is timed.
    learned = LearnedRoi(
        LearnedConfig(size_wh=size_wh, turned=True, least_presence=0.0, area=(0.0, 1.0), aspect=(1.0, 1e6)), graph
    )
    picture = images.crop_resize(frame, Box.whole(frame), size_wh)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        rows = [(_ms(lambda: graph(picture)), _ms(lambda: learned.locate(frame))) for _ in range(repeats)]
    finally:
        cv2.setNumThreads(threads)
    network_ms, learned_ms = np.median(rows[len(rows) // 6 :], axis=0)
    return RegionTiming(
        decode_ms=classical.decode_ms,
        classical_ms=classical.locate_ms,
        network_ms=float(network_ms),
        learned_ms=float(learned_ms),
    )


def _quick_recipe() -> ClassicalConfig:
    with tempfile.TemporaryDirectory() as folder:
        boards = write_dataset(Path(folder) / "boards", 40, seed=3)
        boxed = [sample for sample in boards.samples if sample.box is not None]
        return tune(read_examples(boards, boxed, side_px=320), trials=40).recipe


def _ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)
