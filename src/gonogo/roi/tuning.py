"""Search for the best classical ROI config on labelled boxes, so that a new product needs no new code.

Random configs from a few templates are tried on a few pictures, the best of them on all pictures, and the best of
those are improved by changing one parameter at a time until nothing helps. Steps and pixels that hardly help are then
removed, because they cost time on every part. The expected range, the expected position and the growth beyond the
region are not searched but computed from the labels (medians over the pictures).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from gonogo.dataset.splits import deal_folds
from gonogo.errors import DatasetError
from gonogo.images.geometry import area_and_aspect, box_of, grown, side_lengths
from gonogo.progress import track
from gonogo.roi.classical import Blob, ClassicalRoi, pick, reduced_frame
from gonogo.roi.config import ClassicalConfig
from gonogo.roi.refine import refine
from gonogo.roi.scoring import Example, RoiScore, score
from gonogo.roi.templates import draw_template, halved, neighbours
from gonogo.schema import Box, Region

MAX_EXAMPLES = 120
"""Largest number of pictures used in the search; a larger set is sampled with the seed."""
_FIRST_LOOK = 16
_KEPT = 8
"""One in this many random configs is tried on all pictures."""
_FINALISTS = 3
_SLACK = 1.3
"""The expected range is that of the labelled parts, extended by this factor in both directions."""
_BANDS = (0.02, 0.04, 0.08)
_BETTER = 1e-4
_WORTH = 0.005
"""Smallest gain in mean IoU that justifies the time of a step, of finer pixels, or of refinement at full size."""
LEAST_SIDE_PX = 80
"""Smallest long side of the reduced picture, in pixels."""
_MEETS = 0.15
"""Smallest IoU at which a region is related to the part."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Result of a search: the best config."""

    recipe: ClassicalConfig
    seen: RoiScore
    """Mean IoU on the pictures it was tuned on, which is too optimistic."""
    trials: int
    """Number of configs tried, neighbours included."""
    complete: bool
    """False if the search was interrupted or ran out of time."""
    interrupted: bool


@dataclass(kw_only=True)
class _Search:
    """Mutable state of the search."""

    examples: Sequence[Example]
    deadline: float
    tried: int = 0
    interrupted: bool = False
    best: list[tuple[float, ClassicalConfig]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.interrupted or time.monotonic() > self.deadline

    def look(self, recipe: ClassicalConfig, examples: Sequence[Example]) -> tuple[float, ClassicalConfig]:
        """Complete a config from the labels, and return its mean IoU and the config."""
        self.tried += 1
        return fit(recipe, examples)

    def keep(self, found: tuple[float, ClassicalConfig]) -> None:
        self.best = sorted([*self.best, found], key=lambda pair: -pair[0])[:_FINALISTS]


def tune(
    examples: Sequence[Example],
    *,
    trials: int = 400,
    seed: int = 0,
    side_px: int = 320,
    least_side_px: int = LEAST_SIDE_PX,
    limit_s: float = 300.0,
) -> Tuned:
    """Search for the ROI config with the highest mean IoU. Ctrl-C ends the search and keeps the best so far.

    Args:
        examples: Pictures with boxes, from `read_examples` at the same ``side_px``.
        trials: Number of random configs; the same number may be tried around the best ones.
        seed: Random seed; the result is reproducible unless the time runs out.
        side_px: Long side of the reduced picture during the search.
        least_side_px: The side is halved repeatedly after the search, down to this, while the config finds the part
            nearly as well.
        limit_s: Time limit in seconds; no new config is tried after it.
    """
    rng = np.random.default_rng(seed)
    if len(examples) > MAX_EXAMPLES:
        examples = [examples[index] for index in sorted(rng.choice(len(examples), MAX_EXAMPLES, replace=False))]
    search = _Search(examples=examples, deadline=time.monotonic() + limit_s)
    try:
        _search_at_random(search, rng, trials, side_px)
        _search_around_the_best(search, trials)
        _leave_out_what_hardly_helps(search)
    except KeyboardInterrupt:
        search.interrupted = True
    complete = not search.over
    if not search.best:  # interrupted before any config was tried on all pictures
        search.keep(fit(draw_template(rng, side_px), examples))
    recipe = search.best[0][1]
    if not search.interrupted:
        recipe = _on_fewest_pixels(_with_best_band(recipe, examples), examples, least_side_px)
    seen = score(ClassicalRoi(recipe), examples)
    return Tuned(recipe=recipe, seen=seen, trials=search.tried, complete=complete, interrupted=search.interrupted)


def cross_validate(
    examples: Sequence[Example], folds: int, tuned: Callable[[list[Example]], ClassicalConfig], *, seed: int = 0
) -> RoiScore:
    """Cross-validate the tuning: for each fold, tune on the others and score on that fold.

    Pictures of one part, lot or near-duplicate group share a fold.

    Raises:
        DatasetError: There are fewer independent groups than folds.
    """
    fold = deal_folds([example.sample for example in examples], folds, seed=seed)
    if (groups := len(np.unique(fold))) < folds:
        raise DatasetError(
            f"expected at least {folds} independent groups of pictures with a box for {folds} folds, found "
            f"{groups}. Label more parts, or use fewer --folds."
        )
    scores = []
    for number in range(folds):
        recipe = tuned([example for example, own in zip(examples, fold, strict=True) if own != number])
        held_out = [example for example, own in zip(examples, fold, strict=True) if own == number]
        scores.append(score(ClassicalRoi(recipe), held_out))
    return RoiScore.pooled(scores)


def fit(recipe: ClassicalConfig, examples: Sequence[Example]) -> tuple[float, ClassicalConfig]:
    """Run a config's steps, and compute range, target, growth and the best choice from the labels.

    Returns:
        Mean IoU on the reduced pictures, and the completed config.
    """
    roi = ClassicalRoi(recipe)
    try:
        found = [roi.find_blobs(example.picture, example.frame_shape) for example in examples]
    except cv2.error:  # the pictures are too small for a kernel or a grid of tiles
        return 0.0, recipe
    expected = _expected_range(recipe, examples)
    pairs = [pair for blobs, example in zip(found, examples, strict=True) for pair in _nearest_to_truth(blobs, example)]
    grow_long, grow_short = _growth(recipe, pairs)
    candidates = []
    for choose in ("largest", "most-rectangular", "nearest"):
        values = {**expected, "choose": choose, "grow_long": grow_long, "grow_short": grow_short}
        completed = recipe.model_copy(update=values)
        ious = [_chosen_iou(completed, blobs, example) for blobs, example in zip(found, examples, strict=True)]
        candidates.append((float(np.mean(ious)), completed))
    return max(candidates, key=lambda pair: pair[0])


def _search_at_random(search: _Search, rng: np.random.Generator, trials: int, side_px: int) -> None:
    few = search.examples[:: max(1, len(search.examples) // _FIRST_LOOK)][:_FIRST_LOOK]
    first: list[tuple[float, ClassicalConfig]] = []
    try:
        for _ in track(_until_over(search, trials), "random configs", total=trials):
            first.append(search.look(draw_template(rng, side_px), few))
    except KeyboardInterrupt:
        search.interrupted = True
    first.sort(key=lambda pair: -pair[0])
    kept = 1 if search.over else max(_FINALISTS, len(first) // _KEPT)
    for _, recipe in track(first[:kept], "the best configs"):
        search.keep(search.look(recipe, search.examples))


def _search_around_the_best(search: _Search, trials: int) -> None:
    finalists = list(search.best)
    for recipe in finalists:
        walk = _walk(search, recipe, max(1, trials // len(finalists)))
        for _ in track(walk, "neighbours of the best", total=trials // len(finalists)):
            pass


def _walk(search: _Search, start: tuple[float, ClassicalConfig], trials: int) -> Iterator[None]:
    """Move to the first better neighbour until there is none; yields after each config tried."""
    best, left = start, trials
    moved = True
    while moved:
        moved = False
        for neighbour in neighbours(best[1]):
            if left == 0 or search.over:
                return
            left -= 1
            found = search.look(neighbour, search.examples)
            yield
            if found[0] > best[0] + _BETTER:
                best, moved = found, True
                search.keep(found)
                break


def _leave_out_what_hardly_helps(search: _Search) -> None:
    """Remove the least useful step of the best config repeatedly, while the total loss is less than `_WORTH`."""
    best = search.best[0]
    least = best[0] - _WORTH
    while not search.over:
        steps = len(best[1].steps)
        shorter = [recipe for recipe in neighbours(best[1]) if len(recipe.steps) < steps]
        tried = [search.look(recipe, search.examples) for recipe in track(shorter, f"{steps - 1} steps, not {steps}")]
        simpler = max(tried, key=lambda pair: pair[0], default=None)
        if simpler is None or simpler[0] < least:
            break
        best = simpler
    search.best[0] = best


def _until_over(search: _Search, trials: int) -> Iterator[int]:
    for number in range(trials):
        if search.over:
            return
        yield number


def _on_fewest_pixels(
    found: tuple[float, ClassicalConfig], examples: Sequence[Example], least_side_px: int
) -> ClassicalConfig:
    """Carry the config to the smallest pictures on which it loses less than `_WORTH`, refinement included."""
    least, recipe = found[0] - _WORTH, found[1]
    while (coarser := halved(recipe)) is not None and coarser.side_px >= least_side_px:
        frames = track(examples, f"on {coarser.side_px} pixels")
        examples = [replace(one, picture=reduced_frame(one.load(), coarser.side_px)) for one in frames]
        iou, coarser = _with_best_band(fit(coarser, examples)[1], examples)
        if iou < least:
            break
        recipe = coarser
    return recipe


def _with_best_band(recipe: ClassicalConfig, examples: Sequence[Example]) -> tuple[float, ClassicalConfig]:
    """Choose the narrowest band for refinement that is as good as any, and fit the growth to the refined edges.

    Returns:
        Mean IoU at full size, and the completed config.
    """
    roi, chosen = ClassicalRoi(recipe), []
    for example in track(examples, "edges at full size"):
        best = pick(roi.find_blobs(example.picture, example.frame_shape), recipe, example.frame_wh)
        if best is not None:
            frame = example.load()
            chosen.append((example, [best.shape, *(refine(frame, best.shape, band) for band in _BANDS)]))
    candidates = []
    for number, band in enumerate((0.0, *_BANDS)):
        pairs = [(example, shapes[number]) for example, shapes in chosen]
        long, short = _growth(recipe, pairs) if band else (recipe.grow_long, recipe.grow_short)
        total = sum(_iou(grown(shape, long, short), example) for example, shape in pairs)
        values = {"refine_band": band, "grow_long": long, "grow_short": short}
        candidates.append((total, recipe.model_copy(update=values)))
    enough = max(total for total, _ in candidates) - _WORTH * len(chosen)
    total, recipe = next(candidate for candidate in candidates if candidate[0] >= enough)
    return total / len(examples), recipe


def _expected_range(recipe: ClassicalConfig, examples: Sequence[Example]) -> dict[str, tuple[float, float]]:
    extents = np.array([area_and_aspect(_truth(example, recipe), example.frame_wh) for example in examples])
    (area, aspect), (most_area, most_aspect) = extents.min(axis=0), extents.max(axis=0)
    target = np.mean([np.divide(example.box.centre_xy, example.frame_wh) for example in examples], axis=0)
    return {
        "area": (float(round(area / _SLACK, 5)), float(round(min(1.0, most_area * _SLACK), 5))),
        "aspect": (float(round(max(1.0, aspect / _SLACK), 3)), float(round(most_aspect * _SLACK, 3))),
        "target_xy": (float(round(target[0], 3)), float(round(target[1], 3))),
    }


def _growth(recipe: ClassicalConfig, pairs: Sequence[tuple[Example, Region]]) -> tuple[float, float]:
    """Median extent of the parts beyond their regions, over the pictures where a region overlaps the part."""
    ratios = []
    for example, shape in pairs:
        if _iou(shape, example) < _MEETS:
            continue
        if recipe.shape == "quad" and example.quad is None:  # the part's rotation is unknown: grow evenly
            ratios.append(np.full(2, np.sqrt(example.box.area / box_of(shape).area)))
        else:
            ratios.append(np.divide(sorted(side_lengths(_truth(example, recipe))), sorted(side_lengths(shape))))
    if not ratios:
        return 0.0, 0.0
    short, long = np.clip((np.median(ratios, axis=0) - 1) / 2, -0.4, 2.0)
    return float(round(long, 4)), float(round(short, 4))


def _nearest_to_truth(blobs: Sequence[Blob], example: Example) -> list[tuple[Example, Region]]:
    nearest = max((blob.shape for blob in blobs), key=lambda shape: _iou(shape, example), default=None)
    return [] if nearest is None else [(example, nearest)]


def _chosen_iou(recipe: ClassicalConfig, blobs: Sequence[Blob], example: Example) -> float:
    best = pick(blobs, recipe, example.frame_wh)
    return 0.0 if best is None else _iou(grown(best.shape, recipe.grow_long, recipe.grow_short), example)


def _iou(shape: Region, example: Example) -> float:
    """IoU of the labelled box and the box around a shape, clipped to the frame."""
    return box_of(shape).intersection(Box.whole_of(*example.frame_wh)).iou(example.box)


def _truth(example: Example, recipe: ClassicalConfig) -> Region:
    return example.quad if recipe.shape == "quad" and example.quad is not None else example.box
