"""Fine-tune a tiny network as one of several processes, or alone: ``torchrun ... tests/ddp_run.py DATASET FOLDER``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import safetensors.torch
import torch

from gonogo.augment import PLAIN
from gonogo.dataset import Dataset, Split
from gonogo.model import IMAGENET, FeatureNetwork, MapHead, Network, Pool, load_backbone
from gonogo.ranks import Ranks
from gonogo.source import TrainingSource
from gonogo.train import FineTuning, fine_tune
from gonogo.train.head import CellLogit


def main() -> None:
    """Train, and let the first process write the weights; with ``fail``, the second process fails in between."""
    data, folder, *rest = sys.argv[1:]
    ranks = Ranks.of(os.environ)
    torch.set_num_threads(1)
    dataset = Dataset.read(data)
    stack = load_backbone("resnet18", weights="none", cuts=("layer1",), seed=0).eval()
    torch.manual_seed(ranks.rank)  # the first process's head must reach the others
    network = Network(FeatureNetwork(stack, IMAGENET), MapHead(64, Pool.LSE)).eval()
    torch.nn.init.normal_(network.head.conv.weight, std=0.1)
    if "fail" in rest and ranks.rank == 1:
        raise SystemExit(7)
    rows = fine_tune(
        network,
        TrainingSource(dataset=dataset, size_wh=(64, 64)),
        dataset.split(Split.TRAIN)[:17],  # three batches of 8, 8 and 1: one share is empty
        dataset.split(Split.VAL)[:5],
        FineTuning(epochs=2, batch=8),
        PLAIN,
        seed=0,
        work=Path(folder) / "work",
        cells=CellLogit(bias=0.0, shift_xy=(0.0, 0.0)),
        ranks=ranks,
    )
    if ranks.first:
        assert [row["epoch"] for row in rows] == [0, 1, 2]
        safetensors.torch.save_file(
            {key: value.contiguous() for key, value in network.state_dict().items()}, Path(folder) / "network"
        )


if __name__ == "__main__":
    main()
