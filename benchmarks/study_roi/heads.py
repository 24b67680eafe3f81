"""Compare heads, losses and numbers of labels for a learned box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, partial

import numpy as np
from jaxtyping import Float64

from gonogo.config import settings
from gonogo.dataset import Dataset, Split
from gonogo.evaluate import Rate
from gonogo.model import LocatorHead
from gonogo.progress import console
from gonogo.roi import FIXED_MARGIN, conformal_margin
from gonogo.runtime import Graph, compile_graph
from gonogo.train import BoxLoss, Locating, Places, compute_places, fit_locator, fit_scaling, sight
from gonogo.workflow import LocatorOptions
from gonogo.workflow.learned_region import input_wh, locator_features
from gonogo.workflow.options import MISS_RATE
from study_roi.pieces import Pieces

Boxes = Float64[np.ndarray, "pictures 4"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How well boxes fit. IoU counts the tight box, areas the one with the fixed margin of 5 %."""

    iou: float
    share_above_095: float
    missed_of_picture: float
    missed_of_truth: float
    excess_of_truth: float


@dataclass(frozen=True, kw_only=True)
class HeadRow(Measured):
    """Result of one head with one loss on a number of labels, mean over the seeds."""

    head: str
    loss: str
    labels: int
    seeds: int
    iou_spread: float
    """Standard deviation over the seeds; 0 with one."""


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
    """The table, the shipped combination, and the coverage of its margins."""

    rows: list[HeadRow]
    shipped: HeadRow
    """The default head and loss on 300 labels, with the full schedule."""
    margins: list[MarginRow]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of one head with one loss."""

    head: str
    loss: str
    labels: int
    measured: Measured
    margin: MarginRow | None = None
    """``None`` where none was tried, or where val is too small to prove one."""


def compare_heads(
    dataset: Dataset,
    options: LocatorOptions,
    labels: Sequence[int],
    seeds: Sequence[int],
    pieces: Pieces,
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
        pieces: Where the runs of each seed and number of labels are kept.
        table_steps: Of the optimiser for each entry of the table: enough to compare by.
        best_labels: What the shipped head and loss are given.
    """
    bench = _Bench(dataset, options)
    table: dict[tuple[str, str, int], list[Measured]] = {}
    best: list[Run] = []
    for seed in seeds:
        for count in labels:
            grid = partial(bench.runs, count, seed, tuple(_grid(options.locating or Locating(), table_steps)))
            for run in pieces.once(f"heads-seed{seed}-{count}", list[Run], grid):
                table.setdefault((run.head, run.loss, run.labels), []).append(run.measured)
        shipped = partial(bench.runs, best_labels, seed, (options.locating or Locating(),), margins=True)
        best += pieces.once(f"heads-seed{seed}-shipped", list[Run], shipped)
    return HeadStudy(
        rows=[_row(key, runs) for key, runs in table.items()],
        shipped=_row((best[0].head, best[0].loss, best_labels), [run.measured for run in best]),
        margins=[run.margin for run in best if run.margin is not None],
    )


class _Bench:
    """What all runs share: the backbone, and its features of the boards that are tried."""

    def __init__(self, dataset: Dataset, options: LocatorOptions) -> None:
        self._dataset, self._options = dataset, options

    @cached_property
    def _graph(self) -> Graph:
        return compile_graph(locator_features(self._options)[0].joined(input_wh(self._options)), many=True)

    @cached_property
    def _test(self) -> Places:
        return self._places(Split.TEST, 1, 0)

    @cached_property
    def _val(self) -> Places:
        return self._places(Split.VAL, 1, 0)

    def _places(self, split: Split, views: int, seed: int, most: int | None = None) -> Places:
        samples = [sample for sample in self._dataset.split(split) if sample.box is not None]
        order = np.random.default_rng(seed).permutation(len(samples))[:most]
        chosen = [samples[index] for index in order]
        scratch = settings().cache_dir / "scratch"
        size_wh = input_wh(self._options)
        return compute_places(self._graph, self._dataset, chosen, size_wh, views=views, seed=seed, scratch=scratch)

    def runs(self, labels: int, seed: int, recipes: Sequence[Locating], *, margins: bool = False) -> list[Run]:
        """Train each recipe on the features of the same boards."""
        train = self._places(Split.TRAIN, (self._options.locating or Locating()).views_of(labels), seed, labels)
        scaling = fit_scaling(train)
        runs = []
        for recipe in recipes:
            head = fit_locator(train, scaling, recipe, seed=seed)
            boxes = sight(head, scaling, self._test).box.double().numpy()
            margin = None
            if margins:
                own = sight(head, scaling, self._val).box.double().numpy()
                margin = _try_margin(own, self._val, boxes, self._test, seed=seed, labels=labels)
            measured = measure_boxes(boxes, self._test.boxes.astype(np.float64))
            runs.append(
                Run(head=recipe.head.value, loss=recipe.loss.value, labels=labels, measured=measured, margin=margin)
            )
            console.print(f"seed {seed}, {labels} labels, {recipe.head} + {recipe.loss}: IoU {measured.iou:.4f}")
        return runs


def _grid(locating: Locating, steps: int) -> Iterator[Locating]:
    for head in LocatorHead:
        for loss in BoxLoss:
            # The fully connected head diverges at the rate that suits the convolutions.
            rate = locating.learning_rate if head is LocatorHead.EDGES else locating.learning_rate / 5
            yield replace(locating, head=head, loss=loss, learning_rate=rate, steps=steps)


def measure_boxes(boxes: Boxes, truth: Boxes) -> Measured:
    """How well boxes fit the truth; both as shares of the picture."""
    iou = _shared(boxes, truth) / (_area(boxes) + _area(truth) - _shared(boxes, truth))
    grown = _grown(boxes, FIXED_MARGIN)
    missed = _area(truth) - _shared(grown, truth)
    return Measured(
        iou=float(iou.mean()),
        share_above_095=float((iou > 0.95).mean()),
        missed_of_picture=float(missed.mean()),
        missed_of_truth=float((missed / _area(truth)).mean()),
        excess_of_truth=_excess(grown, truth),
    )


def _try_margin(own: Boxes, val: Places, boxes: Boxes, test: Places, *, seed: int, labels: int) -> MarginRow | None:
    """Calibrate on val, which trained nothing, and count on test; ``None`` where val is too small."""
    margin = conformal_margin(_residuals(own, val.boxes).tolist(), MISS_RATE)
    if margin is None:
        return None
    residuals, truth = _residuals(boxes, test.boxes), test.boxes.astype(np.float64)
    return MarginRow(
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


def _row(key: tuple[str, str, int], runs: Sequence[Measured]) -> HeadRow:
    head, loss, labels = key
    means = {field.name: float(np.mean([getattr(run, field.name) for run in runs])) for field in fields(Measured)}
    spread = float(np.std([run.iou for run in runs], ddof=1)) if len(runs) > 1 else 0.0
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
