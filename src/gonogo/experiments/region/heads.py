"""Heads against losses against labels: what makes a learned box good."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Float64

from gonogo.config import settings
from gonogo.dataset import Dataset, Split
from gonogo.evaluate import Rate
from gonogo.export import export_features
from gonogo.model import LocatorHead
from gonogo.progress import console
from gonogo.roi import FIXED_MARGIN, conformal_margin
from gonogo.runtime import compile_graph
from gonogo.train import BoxLoss, Locating, Places, compute_places, fit_locator, fit_scaling, sight
from gonogo.workflow import LocatorOptions
from gonogo.workflow.region import MISS_RATE, locator_features

Boxes = Float64[np.ndarray, "pictures 4"]


@dataclass(frozen=True, kw_only=True)
class HeadRow:
    """One head with one loss on so many labels, mean over the seeds. IoU counts the tight box, areas the one with the
    fixed margin of 5 %."""

    head: str
    loss: str
    labels: int
    seeds: int
    iou: float
    iou_spread: float
    """Standard deviation over the seeds; 0 with one."""
    share_above_095: float
    missed_of_picture: float
    missed_of_truth: float
    excess_of_truth: float


@dataclass(frozen=True, kw_only=True)
class MarginRow:
    """The conformal margin of one trained locator, tried on test parts."""

    seed: int
    labels: int
    miss_rate: float
    calibration_parts: int
    margin: float
    whole_inside: Rate
    excess_of_truth: float
    whole_inside_fixed: Rate
    """The same for the fixed margin."""
    excess_of_truth_fixed: float

    def to_json(self) -> dict[str, object]:
        """Flat, with the intervals of both rates."""
        flat = {name: value for name, value in asdict(self).items() if not name.startswith("whole_inside")}
        return flat | self.whole_inside.to_json("whole_inside") | self.whole_inside_fixed.to_json("whole_inside_fixed")


@dataclass(frozen=True, kw_only=True)
class HeadStudy:
    """The table, what is shipped, and what its margins are worth."""

    rows: list[HeadRow]
    shipped: HeadRow
    """The default head and loss on 300 labels, with the full schedule."""
    margins: list[MarginRow]


def compare_heads(
    dataset: Dataset,
    options: LocatorOptions,
    labels: Sequence[int],
    seeds: Sequence[int],
    *,
    table_steps: int,
    best_labels: int = 300,
) -> HeadStudy:
    """Train every head with every loss on every number of labels, and the shipped one on its full schedule.

    Args:
        dataset: Boards with one box each, split.
        options: Backbone, weights and schedule; head, loss and seed are replaced.
        labels: How many training pictures.
        seeds: Of the choice of labels, of the views and of the training.
        table_steps: Of the optimiser for each entry of the table: enough to compare by.
        best_labels: What the shipped head and loss are given.
    """
    features = locator_features(options)[0]
    graph = compile_graph(export_features(features, options.input_wh), many=True)
    scratch = settings().cache_dir / "scratch"

    def places(split: Split, views: int, seed: int, most: int | None = None) -> Places:
        samples = [sample for sample in dataset.split(split) if sample.box is not None]
        order = np.random.default_rng(seed).permutation(len(samples))[:most]
        chosen = [samples[index] for index in order]
        size_wh = options.input_wh
        return compute_places(graph, dataset, chosen, size_wh, views=views, seed=seed, scratch=scratch)

    test, val = places(Split.TEST, 1, 0), places(Split.VAL, 1, 0)
    found: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    margins: list[MarginRow] = []
    for seed in seeds:
        for count in labels:
            views = options.locating.views_of(count)
            train = places(Split.TRAIN, views, seed, count)
            scaling = fit_scaling(train)
            for locating in _grid(options.locating, table_steps):
                head = fit_locator(train, scaling, locating, seed=seed)
                boxes = sight(head, scaling, test).box.double().numpy()
                measured = _measure(boxes, test.boxes.astype(np.float64))
                key = (locating.head.value, locating.loss.value, len(train.maps) // views)
                found.setdefault(key, []).append(measured)
                console.print(f"seed {seed}, {key[2]} labels, {key[0]} + {key[1]}: IoU {measured['iou']:.4f}")
    best: list[dict[str, float]] = []
    for seed in seeds:
        train = places(Split.TRAIN, options.locating.views_of(best_labels), seed, best_labels)
        scaling = fit_scaling(train)
        head = fit_locator(train, scaling, options.locating, seed=seed)
        boxes = sight(head, scaling, test).box.double().numpy()
        best.append(_measure(boxes, test.boxes.astype(np.float64)))
        console.print(f"seed {seed}, {best_labels} labels, as shipped: IoU {best[-1]['iou']:.4f}")
        own = sight(head, scaling, val).box.double().numpy()
        margins += _try_margin(own, val, boxes, test, seed=seed, labels=best_labels)
    shipped = _row((options.locating.head.value, options.locating.loss.value, best_labels), best)
    return HeadStudy(rows=[_row(key, runs) for key, runs in found.items()], shipped=shipped, margins=margins)


def _grid(locating: Locating, steps: int) -> Iterator[Locating]:
    for head in LocatorHead:
        for loss in BoxLoss:
            # The fully connected head diverges at the rate that suits the convolutions.
            rate = locating.learning_rate if head is LocatorHead.EDGES else locating.learning_rate / 5
            yield replace(locating, head=head, loss=loss, learning_rate=rate, steps=steps)


def _measure(boxes: Boxes, truth: Boxes) -> dict[str, float]:
    iou = _shared(boxes, truth) / (_area(boxes) + _area(truth) - _shared(boxes, truth))
    grown = _grown(boxes, FIXED_MARGIN)
    missed = _area(truth) - _shared(grown, truth)
    return {
        "iou": float(iou.mean()),
        "share_above_095": float((iou > 0.95).mean()),
        "missed_of_picture": float(missed.mean()),
        "missed_of_truth": float((missed / _area(truth)).mean()),
        "excess_of_truth": _excess(grown, truth),
    }


def _try_margin(own: Boxes, val: Places, boxes: Boxes, test: Places, *, seed: int, labels: int) -> list[MarginRow]:
    """Calibrate on val, which trained nothing, and count on test; empty where val is too small."""
    margin = conformal_margin(_residuals(own, val.boxes).tolist(), MISS_RATE)
    if margin is None:
        return []
    residuals, truth = _residuals(boxes, test.boxes), test.boxes.astype(np.float64)
    return [
        MarginRow(
            seed=seed,
            labels=labels,
            miss_rate=MISS_RATE,
            calibration_parts=margin.parts,
            margin=margin.share,
            whole_inside=Rate(count=int((residuals <= margin.share).sum()), of=len(residuals)),
            excess_of_truth=_excess(_grown(boxes, margin.share), truth),
            whole_inside_fixed=Rate(count=int((residuals <= FIXED_MARGIN).sum()), of=len(residuals)),
            excess_of_truth_fixed=_excess(_grown(boxes, FIXED_MARGIN), truth),
        )
    ]


def _row(key: tuple[str, str, int], runs: Sequence[dict[str, float]]) -> HeadRow:
    head, loss, labels = key
    means = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    spread = float(np.std([run["iou"] for run in runs], ddof=1)) if len(runs) > 1 else 0.0
    return HeadRow(head=head, loss=loss, labels=labels, seeds=len(runs), iou_spread=spread, **means)


def _residuals(boxes: Boxes, truth: np.ndarray) -> Float64[np.ndarray, " pictures"]:
    """`gonogo.roi.outward_residual` for many boxes at once."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9)
    short = np.concatenate([(boxes[:, :2] - truth[:, :2]) / sides, (truth[:, 2:] - boxes[:, 2:]) / sides], axis=1)
    worst: Float64[np.ndarray, " pictures"] = short.max(axis=1)
    return worst


def _grown(boxes: Boxes, margin: float) -> Boxes:
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] - margin * sides, boxes[:, 2:] + margin * sides], axis=1).clip(0, 1)


def _excess(boxes: Boxes, truth: Boxes) -> float:
    return float(((_area(boxes) - _shared(boxes, truth)) / _area(truth)).mean())


def _shared(first: Boxes, second: Boxes) -> Float64[np.ndarray, " pictures"]:
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    area: Float64[np.ndarray, " pictures"] = sides.clip(0).prod(axis=1)
    return area


def _area(boxes: Boxes) -> Float64[np.ndarray, " pictures"]:
    area: Float64[np.ndarray, " pictures"] = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
    return area
