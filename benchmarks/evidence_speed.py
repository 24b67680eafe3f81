"""Measure the time of the evidence relative to its backbone: ``python benchmarks/evidence_speed.py [--repeats N]``.

EfficientNet-Lite0 with all three kinds of evidence at their full size: 1,000 kept patches over the channels of all
three strides. Their numbers are random, as speed does not depend on what was learned. First, in FP32 at two input
sizes, the whole graph and the whole judgement of a frame in memory against the bare backbone. Second, at 224 x 224 from
a rendered JPEG of 1.2 megapixels, the whole judgement in FP32 and in INT8 against ResNet-50 with Grad-CAM in torch
eager. By turns, as ratios of medians; the last line is the figures. ``QUICK=1`` takes fewer turns. ``--one-thread``
takes the processor time of one thread each, which other programs on the machine hardly change.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import torch

import gonogo
from bench.clock import take_turns
from bench.making import FRAME_WH, MIX, SEED
from bench.rivals import GradCam, from_jpeg
from gonogo import bundle, images, roi, runtime
from gonogo.backbone import pretrained
from gonogo.config import Recipe, Reduction
from gonogo.dataset import Fractions, Split
from gonogo.evidence import Weighted, classifier_graph
from gonogo.evidence.cells import SHARPNESS, CellEvidence
from gonogo.evidence.context import ContextEvidence
from gonogo.evidence.memory import DIRECTIONS, FULL, MemoryEvidence, main_directions
from gonogo.heatmap import HeatScale
from gonogo.inspector import Inspector
from gonogo.manifest import Classifier, Evidence, Manifest
from gonogo.schema import Box, Frame
from gonogo.synthetic import write_dataset
from gonogo.workflow.int8 import to_int8

SIZES_WH = ((224, 224), (640, 320))
Clock = Callable[[], float]
CALIBRATED_ON = 8
"""Number of pictures for the INT8 ranges."""


def full_evidence(widths: list[int]) -> Weighted:
    """Return all three kinds of evidence at full size, with random weights."""
    rng = np.random.default_rng(0)
    total = sum(widths)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    patches = draw(FULL.kept, total)
    directions = main_directions(patches, DIRECTIONS)
    return Weighted(
        memory=MemoryEvidence(
            channels=slice(0, total),
            centre=draw(total),
            scale=np.ones(total, np.float32),
            patches=patches @ directions.T,
            directions=directions,
        ),
        memory_weight=1.0,
        context=ContextEvidence(mean_weight=draw(total), max_weight=draw(total), bias=0.0),
        context_weight=1.0,
        cells=CellEvidence(weight=draw(total), bias=0.0),
        cells_weight=1.0,
        bias=0.0,
    )


def whole_graph(size_wh: tuple[int, int]) -> ov.Model:
    """Build the graph of backbone and evidence."""
    features = pretrained("efficientnet_lite0").graph(size_wh)
    widths = [int(features.output(f"stride_{stride}").shape[1]) for stride in (8, 16, 32)]
    return classifier_graph(features, full_evidence(widths), labels=("good", "bad"))


def inspector_of(
    model: ov.Model, size_wh: tuple[int, int], folder: Path, threads: int, reduction: Reduction = 1
) -> Inspector:
    """Return an uncertified inspector that judges whole frames with a graph."""
    folder.mkdir(parents=True)
    ov.save_model(model, folder / bundle.CLASSIFIER, compress_to_fp16=False)
    kinds = tuple(Evidence(kind=kind, weight=1.0) for kind in ("context", "memory", "cells"))
    manifest = Manifest(
        name=folder.name,
        created="",
        gonogo_version=gonogo.__version__,
        recipe=Recipe(size_wh=size_wh, roi="none", reduction=reduction),
        classifier=Classifier(
            backbone="efficientnet_lite0",
            cuts=("stride_8", "stride_16", "stride_32"),
            pool="evidence",
            sharpness=SHARPNESS,
            bias=0.0,
            weights="imagenet",
            evidence=kinds,
        ),
        proven_on={},
        heat_scale=HeatScale(cold=0.0, hot=1.0),
        data_fingerprint="",
    )
    return Inspector(
        bundle.write_manifest(folder, manifest), runtime.compile_graph(folder / bundle.CLASSIFIER, threads=threads)
    )


def over_the_backbone(folder: Path, frame: Frame, repeats: int, threads: int, clock: Clock) -> dict[str, float]:
    """Compare the graph, and judging a frame in memory, with the bare backbone, in FP32."""
    found = {}
    for size_wh in SIZES_WH:
        name = f"{size_wh[0]}x{size_wh[1]}"
        inspector = inspector_of(whole_graph(size_wh), size_wh, folder / name, threads)
        bare = runtime.compile_graph(pretrained("efficientnet_lite0").graph(size_wh), threads=threads)
        picture = images.crop_resize(frame, Box.whole(frame), size_wh)
        times = take_turns(
            {
                "bare": lambda bare=bare, picture=picture: bare(picture),  # type: ignore[misc]
                "graph": lambda inspector=inspector, picture=picture: inspector._graph(picture),  # type: ignore[misc]
                "judgement": lambda inspector=inspector: inspector.inspect(frame),  # type: ignore[misc]
            },
            repeats=repeats,
            clock=clock,
        )
        for part in ("graph", "judgement"):
            found[f"{part}_over_backbone_{name}"] = times[part].median_ms / times["bare"].median_ms
    return found


def against_torch(folder: Path, encoded: bytes, repeats: int, threads: int, clock: Clock) -> dict[str, float]:
    """Return the speed-up over eager torch with Grad-CAM, from the bytes of a JPEG."""
    size_wh = SIZES_WH[0]
    frame = images.decode(encoded)
    rng = np.random.default_rng(0)
    height, width = frame.shape[:2]
    corners = rng.integers(0, (width // 2, height // 2), (CALIBRATED_ON, 2))
    fed = [
        images.crop_resize(frame, Box(x1=x, y1=y, x2=x + width // 2, y2=y + height // 2), size_wh) for x, y in corners
    ]
    model = whole_graph(size_wh)
    int8 = to_int8(model, fed).model
    judges = {
        "fp32": inspector_of(model, size_wh, folder / "fp32", threads),
        "int8": inspector_of(int8, size_wh, folder / "int8", threads),
        "int8_reduced": inspector_of(int8, size_wh, folder / "int8_reduced", threads, reduction=4),
    }
    contenders: dict[str, Callable[[], object]] = {
        name: lambda judge=judge: judge.inspect_encoded(encoded)  # type: ignore[misc]
        for name, judge in judges.items()
    }
    torch_whole = from_jpeg(GradCam(whole=True), roi.WholeRoi(), size_wh)
    contenders["torch"] = lambda: torch_whole(encoded)
    times = take_turns(contenders, repeats=repeats, clock=clock)
    return {f"times_torch_{name}": times["torch"].median_ms / times[name].median_ms for name in judges}


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    quick = os.environ.get("QUICK", "") not in ("", "0")
    parser.add_argument("--repeats", type=int, default=20 if quick else 150)
    parser.add_argument("--one-thread", action="store_true", help="processor time of one thread each")
    asked = parser.parse_args(arguments)
    threads, clock = (1, time.process_time) if asked.one_thread else (0, time.perf_counter)
    if asked.one_thread:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        boards = folder / "boards"
        shares = Fractions.parse("40/20/20/20")
        dataset = write_dataset(
            boards, 8, seed=SEED, difficulty=0.0, size_wh=FRAME_WH, mix=MIX, workers=1, fractions=shares
        )
        encoded = dataset.path(dataset.split(*Split)[0]).read_bytes()
        found = over_the_backbone(folder, images.decode(encoded), asked.repeats, threads, clock)
        found |= against_torch(folder, encoded, asked.repeats, threads, clock)
    facts = {"kept_patches": FULL.kept, "repeats": asked.repeats, "threads": threads or len(os.sched_getaffinity(0))}
    print(json.dumps({**{name: round(value, 3) for name, value in found.items()}, **facts}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
