"""Measure the throughput of training: ``python benchmarks/training_speed.py DATASET [--weights FILE]``.

First, frozen features: the train split from its files (decoded, cropped, resized, augmented, through the backbone)
against the bare backbone on the same views already in memory, both with several requests in flight; with the mean
features that labels teach, and with the maps that masks teach. Second, fine-tuning: one step of the usual batch in FP32
against BF16 features with channels last. Third, the graphs of a backbone that a training needs, converted one by one
and from one conversion, in seconds of processor time. By turns, as ratios of medians; the last line is the figures.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections import deque
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from bench.clock import take_turns
from gonogo.augment import PLAIN, Augmentation
from gonogo.dataset import Dataset, Split
from gonogo.export import frozen_networks
from gonogo.model import FeatureStack, MapHead, Network, Normalisation, Pool, architecture, load_backbone
from gonogo.runtime import Graph, compile_graph
from gonogo.source import TrainingSource
from gonogo.train import FineTuning, stream_maps
from gonogo.train.precision import reduced_precision

GRAPHS = 3


def frozen(graph: Graph, source: TrainingSource, pictures: int, augmentation: Augmentation, repeats: int) -> float:
    """Return the throughput on files as a share of that of the bare network."""
    samples = source.dataset.split(Split.TRAIN)[: max(1, pictures // augmentation.views)]
    in_memory = [view.picture for view in source.views(samples, augmentation, seed=0)]
    times = take_turns(
        {
            "files": lambda: deque(stream_maps(graph, source, samples, augmentation, seed=0), maxlen=0),
            "bare": lambda: deque(graph.stream(in_memory), maxlen=0),
        },
        repeats=repeats,
    )
    return times["bare"].median_ms / times["files"].median_ms


def conversions(stack: FeatureStack, normalisation: Normalisation, size_wh: tuple[int, int]) -> tuple[float, float]:
    """Return the seconds of the graphs for the shift of the cells, for the features and to seal: alone, then together.

    Several sizes or input normalisations to choose from, and fine-tuning, take more graphs.
    """

    def together() -> None:
        converted = frozen_networks(stack, [normalisation])[0]
        for _ in range(GRAPHS):
            converted.maps(size_wh)

    def alone() -> None:
        for _ in range(GRAPHS):
            frozen_networks(stack, [normalisation])[0].maps(size_wh)

    times = take_turns({"alone": alone, "together": together}, repeats=3, clock=time.process_time)
    return times["alone"].median_ms / 1e3, times["together"].median_ms / 1e3


def fine_tuning(network: Network, size_wh: tuple[int, int], repeats: int) -> float:
    """Return the speed-up of a step in BF16 with channels last over FP32."""
    width, height = size_wh
    rng = np.random.default_rng(0)
    pictures = torch.from_numpy(rng.integers(0, 256, (FineTuning().batch, height, width, 3), dtype=np.uint8))
    bad = torch.from_numpy(rng.integers(0, 2, len(pictures))).float()

    def step(trained: Network, *, reduced: bool) -> None:
        with reduced_precision() if reduced else nullcontext():
            maps = trained.features.maps(pictures)
        score, _ = trained.head(*(each.float() for each in maps))
        functional.binary_cross_entropy_with_logits(score, bad).backward()  # type: ignore[no-untyped-call]

    plain = copy.deepcopy(network).train()
    last = copy.deepcopy(network).to(memory_format=torch.channels_last).train()
    times = take_turns(
        {"fp32": lambda: step(plain, reduced=False), "bf16": lambda: step(last, reduced=True)}, repeats=repeats
    )
    return times["fp32"].median_ms / times["bf16"].median_ms


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--size", type=int)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    chosen = architecture(given.backbone)
    side = given.size or chosen.side
    source = TrainingSource(dataset=Dataset.read(given.dataset), size_wh=(side, side))
    figures: dict[str, float] = {}
    every = load_backbone(given.backbone, weights=given.weights, cuts=(*chosen.fine, chosen.last))
    figures["graphs_alone_s"], figures["graphs_together_s"] = conversions(every, chosen.normalisation, source.size_wh)
    for name, cuts in (("labels", ()), ("masks", (*chosen.fine, chosen.last))):
        stack = load_backbone(given.backbone, weights=given.weights, cuts=cuts)
        converted = frozen_networks(stack, [chosen.normalisation])[0]
        features = converted.features
        graph = compile_graph((converted.maps if cuts else converted.pooled)(source.size_wh), many=True)
        for views, augmentation in (("plain", PLAIN), ("augmented", Augmentation())):
            key = f"{name}_{views}_over_bare"
            figures[key] = frozen(graph, source, given.pictures, augmentation, given.repeats)
        with torch.no_grad():
            channels = features(torch.zeros(1, side, side, 3, dtype=torch.uint8)).shape[1]
        network = Network(features, MapHead(channels, Pool.MEAN))
        figures[f"{name}_bf16_over_fp32"] = fine_tuning(network, source.size_wh, given.repeats)
    sys.stdout.write(json.dumps({name: round(value, 3) for name, value in figures.items()}) + "\n")


if __name__ == "__main__":
    main()
