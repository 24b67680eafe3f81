"""Training curves of the box losses: ``python benchmarks/study_losses.py [--data DATASET] [--weights FILE]``.

Deka and Mittal (2018) regress the box of the chip with two losses, squared distance and area, for 20 epochs. Here a
regression head as theirs is trained with each loss for as many epochs, on frozen features of rendered boards or of a
data set with boxes, and after every epoch the boxes of the test split are compared with the labelled ones: IoU, and the
share of the picture that is missed with a margin of 5 %. Writes ``losses.svg`` and keeps what is finished in ``--out``;
the last line is the figures. ``--quick`` (QUICK=1) takes fewer boards, epochs and seeds.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from command import print_figures, run
from gonogo.config import settings
from gonogo.dataset import Dataset, Split
from gonogo.files import write_beside
from gonogo.model import IMAGENET, LocatorHead
from gonogo.progress import console
from gonogo.runtime import compile_graph
from gonogo.synthetic import write_dataset
from gonogo.train import BoxLoss, Locating, Places, compute_places, fit_locator, fit_scaling, sight
from gonogo.workflow import LocatorOptions
from gonogo.workflow.learned_region import input_wh, locator_features
from loss_plot import plot_losses
from study_roi.heads import measure_boxes
from study_roi.pieces import Pieces
from study_roi.study import ARTICLE


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of one training."""

    loss: float
    """Mean over its steps."""
    iou: float
    """Mean over the test pictures."""
    missed_of_picture: float
    """Mean area of the part that lies outside the box with a margin of 5 %, as a share of the picture."""


Curves = Mapping[str, Sequence[Sequence[Epoch]]]
"""The epochs of every seed, by loss."""


def main() -> None:
    """Train with every loss and seed, and print the table."""
    given = _arguments()
    dataset = _boards(given) if given.data is None else Dataset.read(given.data)
    options = LocatorOptions(backbone=given.backbone, weights=given.weights, normalisation=IMAGENET)
    kept = {"data": str(given.data), "boards": given.boards, "weights": given.weights, "epochs": given.epochs}
    pieces = Pieces(given.out / "pieces", {**kept, "views": given.views})
    losses = [BoxLoss(name) for name in given.losses]
    curves: dict[str, list[list[Epoch]]] = {}
    for seed in range(given.seeds):
        train, test = (_places(dataset, split, options, given, seed) for split in (Split.TRAIN, Split.TEST))
        for loss in losses:
            make = partial(_train, train, test, loss, epochs=given.epochs, seed=seed)
            epochs = pieces.once(f"{loss}-{seed}", list[Epoch], make)
            curves.setdefault(loss.value, []).append(epochs)
            last = epochs[-1]
            console.print(f"seed {seed}, {loss}: IoU {last.iou:.3f}, missed {last.missed_of_picture:.2e}")
    file = given.out / "losses.svg"
    write_beside(file, plot_losses(curves).encode())
    console.print(f"Wrote {file}")
    print(as_markdown(curves))  # noqa: T201
    shown = {name: [[asdict(epoch) for epoch in run] for run in runs] for name, runs in curves.items()}
    print_figures({"pictures": len(test.boxes), "curves": shown, "article": ARTICLE})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", default=os.environ.get("QUICK", "") not in ("", "0"))
    parser.add_argument("--out", type=Path, default=Path("study/losses"))
    parser.add_argument("--data", type=Path, help="a data set with boxes and splits; default rendered boards")
    parser.add_argument("--weights", default="none", help="safetensors file, 'imagenet', or 'none': from pixels")
    parser.add_argument("--backbone", default="resnet18", help="torchvision backbone of the weights")
    parser.add_argument("--losses", nargs="+", choices=list(map(str, BoxLoss)), default=["squared", "area"])
    parser.add_argument("--boards", type=int, help="rendered boards (default 400; 80 with --quick)")
    parser.add_argument("--epochs", type=int, help="as the article: 20 (4 with --quick)")
    parser.add_argument("--seeds", type=int, help="default 3; 1 with --quick")
    parser.add_argument("--views", type=int, default=8, help="windows of each training picture")
    given = parser.parse_args()
    given.boards = given.boards or (80 if given.quick else 400)
    given.epochs = given.epochs or (4 if given.quick else 20)
    given.seeds = given.seeds or (1 if given.quick else 3)
    return given


def _boards(given: argparse.Namespace) -> Dataset:
    folder = given.out / f"boards-{given.boards}"
    if folder.is_dir():
        return Dataset.read(folder)
    return write_dataset(folder, given.boards, seed=1, difficulty=0.5, workers=len(os.sched_getaffinity(0)))


def _places(dataset: Dataset, split: Split, options: LocatorOptions, given: argparse.Namespace, seed: int) -> Places:
    """Features of the pictures of a split that have a box; training pictures in several windows."""
    size_wh = input_wh(options)
    graph = compile_graph(locator_features(options)[0].joined(size_wh), many=True)
    samples = [sample for sample in dataset.split(split) if sample.box is not None]
    views = given.views if split is Split.TRAIN else 1
    scratch = settings().cache_dir / "scratch"
    return compute_places(graph, dataset, samples, size_wh, views=views, seed=seed, scratch=scratch)


def _train(train: Places, test: Places, loss: BoxLoss, *, epochs: int, seed: int) -> list[Epoch]:
    """Train a regression head, and compare its boxes of the test pictures after every epoch."""
    usual = Locating()
    batch = min(usual.batch, len(train.boxes))
    steps = math.ceil(len(train.boxes) / batch)
    scaling, found, seen = fit_scaling(train), list[Epoch](), list[float]()

    def after_step(step: int, head: nn.Module, value: float) -> None:
        seen.append(value)
        if step % steps:
            return
        head.eval()
        boxes = sight(head, scaling, test).box.double().numpy()
        head.train()
        measured = measure_boxes(boxes, test.boxes.astype(np.float64))
        found.append(Epoch(loss=float(np.mean(seen)), iou=measured.iou, missed_of_picture=measured.missed_of_picture))
        seen.clear()

    # The fully connected head diverges at the rate that suits the convolutions.
    schedule = replace(
        usual, head=LocatorHead.REGRESSION, loss=loss, learning_rate=usual.learning_rate / 5, steps=epochs * steps
    )
    fit_locator(train, scaling, schedule, seed=seed, after_step=after_step)
    return found


def as_markdown(curves: Curves) -> str:
    """The last epoch of every loss, mean over the seeds, beside the article's."""
    lines = ["| loss | epochs | IoU | missed, of picture |", "|---|---|---|---|"]
    for name, runs in curves.items():
        ious, missed = ([getattr(run[-1], key) for run in runs] for key in ("iou", "missed_of_picture"))
        spread = f" ± {np.std(ious, ddof=1):.3f}" if len(runs) > 1 else ""
        lines.append(f"| {name} | {len(runs[0])} | {np.mean(ious):.3f}{spread} | {np.mean(missed):.1e} |")
    for name, theirs in ARTICLE.items():
        lines.append(f"| the article, {name} | 20 | {theirs['iou']:.3f} | {theirs['missed_of_picture']:.1e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
