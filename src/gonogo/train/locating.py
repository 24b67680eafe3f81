"""Trains a locator: a head on frozen features of augmented pictures, which are computed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gonogo.array_types import Bool, Float16, Float32, Float64, Int
from gonogo.dataset import Dataset, Sample
from gonogo.model.locator import COLOURS, EdgesHead, LocatorHead, RegressionHead, Scaling, Sightings, make_head
from gonogo.prefetch import prefetch
from gonogo.progress import track
from gonogo.runtime import Graph, Picture
from gonogo.source import generator_of, labelled_box, labelled_corners
from gonogo.train.augmentations import AugmentedPicture, plain_picture, random_picture
from gonogo.train.box_losses import BoxLoss
from gonogo.train.features import store_maps

STEPS, FROM_PIXELS_STEPS = 1100, 2200
LOOSE_STEPS = 600
PRESENCE_WEIGHT = 0.2
"""Weight of the presence term relative to the box loss."""
_LEAST_DEVIATION = 0.02
"""Smallest standard deviation of a channel, as a share of the mean over all channels."""
_PRESENCES = (0.02, 0.98)

Logits: TypeAlias = Float64[np.ndarray, " views"]


@dataclass(frozen=True, kw_only=True)
class Locating:
    """Hyperparameters of a locator: AdamW with a one-cycle rate for a fixed number of steps.

    Nothing is chosen on val, so that val parts can calibrate the margin. The presence threshold, which needs held-out
    pictures, is chosen by cross-validation on the training pictures.
    """

    head: LocatorHead = LocatorHead.EDGES
    loss: BoxLoss = BoxLoss.GIOU
    views: int | None = None
    """Augmentations per picture, including the original; default as many as give about 2,400 in total."""
    steps: int | None = None
    """Optimiser steps; default 1,100 on pretrained features and 2,200 from pixels."""
    presence_folds: int = 3
    """Folds of the cross-validation for the presence threshold; with fewer than two the threshold is 0.5."""
    presence_steps: int = 250
    """Optimiser steps in each of these folds."""
    batch: int = 32
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    dropout: float = 0.0
    """Spatial dropout: share of channels dropped at every step (Tompson et al., 2015); not used from pixels."""

    def views_of(self, pictures: int) -> int:
        """Number of augmentations per picture for a number of pictures."""
        return self.views or min(24, max(2, math.ceil(2400 / pictures)))

    def for_loose_parts(self) -> Locating:
        """Stronger regularisation for loose parts of varying size on varying backgrounds.

        On parts in a fixed setup, such as the rendered boards, this would cost accuracy and reject unseen types.
        """
        return replace(self, steps=self.steps or LOOSE_STEPS, weight_decay=0.02, dropout=0.2)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Frozen features of augmented pictures, and the position of the part in each."""

    maps: Float16[np.ndarray, "views channels rows columns"]
    boxes: Float32[np.ndarray, "views 4"]
    """As shares of the picture; NaN without a single whole part."""
    corners: Float32[np.ndarray, "views 8"]
    """As shares of the picture; NaN also without a labelled rotated rectangle."""

    @property
    def present(self) -> Bool[np.ndarray, " views"]:
        """Whether each picture shows exactly one whole part."""
        there: Bool[np.ndarray, " views"] = np.isfinite(self.boxes).all(1)
        return there

    def only(self, views: Int[np.ndarray, " chosen"]) -> Places:
        """Select some of the pictures."""
        return Places(maps=self.maps[views], boxes=self.boxes[views], corners=self.corners[views])


def compute_places(
    graph: Graph,
    dataset: Dataset,
    samples: Sequence[Sample],
    size_wh: tuple[int, int],
    *,
    views: int,
    seed: int,
    scratch: Path,
) -> Places:
    """Compute features of the augmentations of every sample with the frozen backbone.

    Args:
        graph: The compiled backbone with an output ``features``.
        dataset: The data set of the samples.
        samples: Samples with a box, or without a part.
        size_wh: Input size of the network.
        views: Augmentations per picture; the first is the original.
        seed: Random seed; the augmentations of a sample depend only on the seed and its name.
        scratch: Folder for the features, which may not fit in memory.
    """
    boxes: list[np.ndarray] = []
    corners: list[np.ndarray] = []

    def pictures() -> Iterator[Picture]:
        for shown in prefetch(lambda sample: _views(dataset, sample, size_wh, views, seed), samples, workers=1):
            for view in shown:
                boxes.append(np.full(4, np.nan) if view.box is None else view.box)
                corners.append(np.full(8, np.nan) if view.corners is None else view.corners)
                yield view.picture

    count = len(samples) * views
    results = track(graph.stream(pictures()), "computing features", total=count)
    maps = store_maps((result["features"][0] for result in results), count, scratch=scratch)
    return Places(maps=maps, boxes=np.array(boxes, np.float32), corners=np.array(corners, np.float32))


def fit_scaling(places: Places, *, most: int = 256) -> Scaling:
    """Mean and standard deviation of every channel over some of the pictures."""
    some = places.maps[:: max(1, len(places.maps) // most)].astype(np.float32)
    deviation = some.std((0, 2, 3))
    # A channel that is nearly constant here would dominate all others in a picture that activates it.
    floor = _LEAST_DEVIATION * deviation.mean() + 1e-6
    return Scaling(torch.from_numpy(some.mean((0, 2, 3))), torch.from_numpy(np.maximum(deviation, floor)))


def fit_locator(
    places: Places,
    scaling: Scaling,
    hyperparameters: Locating,
    *,
    seed: int,
    among: Int[np.ndarray, " chosen"] | None = None,
    after_step: Callable[[int, nn.Module, float], None] | None = None,
) -> RegressionHead | EdgesHead:
    """Train a head on frozen features.

    The loss is the box loss, plus smooth L1 on labelled corners, plus cross entropy of presence.

    Args:
        places: Features of the training pictures.
        scaling: Scaling of their channels.
        hyperparameters: Hyperparameters.
        seed: Random seed of the initial weights and the order of pictures.
        among: Indices of the pictures to train on; default all.
        after_step: Called after every step with its number, from 1, the head and the loss, for example to follow how
            it learns.
    """
    among = np.arange(len(places.maps)) if among is None else among
    # Training from pixels needs more steps.
    pixels = places.maps.shape[1] == COLOURS
    steps = hyperparameters.steps or (FROM_PIXELS_STEPS if pixels else STEPS)
    dropout = 0.0 if pixels else hyperparameters.dropout
    torch.manual_seed(seed)
    head = make_head(hyperparameters.head, places.maps.shape[1])
    head.to(memory_format=torch.channels_last).train()  # twice as fast on a CPU
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=hyperparameters.learning_rate, weight_decay=hyperparameters.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, hyperparameters.learning_rate, total_steps=steps)
    batch = min(hyperparameters.batch, len(among))
    # Reused at every step, because allocating memory would take longer than the computation.
    features = torch.empty((batch, *places.maps.shape[1:])).contiguous(memory_format=torch.channels_last)
    for step, chosen in enumerate(track(_draws(among, batch, steps, seed), "training the locator", total=steps), 1):
        features.copy_(torch.from_numpy(places.maps[chosen])).sub_(scaling.mean).div_(scaling.deviation)
        loss = _loss(head(functional.dropout2d(features, dropout)), places, chosen, hyperparameters.loss)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if after_step is not None:
            after_step(step, head, loss.item())
    return head.to(memory_format=torch.contiguous_format).eval()


def choose_presence(
    places: Places, scaling: Scaling, folds: Int[np.ndarray, " views"], hyperparameters: Locating, *, seed: int
) -> float:
    """Choose the presence threshold below which pictures are refused, by cross-validation.

    Heads trained on all folds but one predict the presence of a part in the remaining fold. With few training pictures
    they are overconfident, so 0.5 is rarely the best threshold; the chosen one minimises the sum of the share of
    pictures with a part that are refused and of those without that are accepted.

    Args:
        places: Features of the training pictures.
        scaling: Scaling of their channels.
        folds: Fold of each picture; all pictures of one part share a fold.
        hyperparameters: Hyperparameters; trained with ``presence_steps``.
        seed: Random seed of the training.
    """
    logits, shorter = np.zeros(len(folds)), replace(hyperparameters, steps=hyperparameters.presence_steps)
    for held_out in track(np.unique(folds), "choosing the presence threshold"):
        own, others = np.flatnonzero(folds == held_out), np.flatnonzero(folds != held_out)
        head = fit_locator(places, scaling, shorter, seed=seed, among=others)
        logits[own] = sight(head, scaling, places.only(own)).presence.double().numpy()
    return least_presence(logits[places.present], logits[~places.present])


def least_presence(present: Logits, absent: Logits) -> float:
    """The threshold that minimises the share of ``present`` below it plus the share of ``absent`` above it.

    Ties go to the one closest to 0.5; without both kinds it is 0.5. Clipped to the range from 0.02 to 0.98.

    Returns:
        A probability.
    """
    if not len(present) or not len(absent):
        return 0.5
    logits = np.unique(np.concatenate([present, absent]))
    cuts = np.concatenate([[0.0, logits[0] - 1, logits[-1] + 1], (logits[1:] + logits[:-1]) / 2])
    refused = np.searchsorted(np.sort(present), cuts) / len(present)
    accepted = 1 - np.searchsorted(np.sort(absent), cuts) / len(absent)
    wrong = refused + accepted
    best = cuts[wrong <= wrong.min() + 1e-12]
    cut = best[np.argmin(np.abs(best))]
    return float(np.clip(1 / (1 + np.exp(-np.clip(cut, -50, 50))), *_PRESENCES))


def sight(head: nn.Module, scaling: Scaling, places: Places) -> Sightings:
    """Apply a head to stored features."""
    found = []
    with torch.no_grad():
        for chunk in np.array_split(places.maps, max(1, math.ceil(len(places.maps) / 64))):
            found.append(head(scaling(torch.from_numpy(chunk.astype(np.float32)))))
    return Sightings(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def probe_error(places: Places, groups: Sequence[str], *, penalty: float = 10.0) -> float:
    """Mean error of boxes predicted by a linear regression on coarsely pooled features, by two-fold cross-validation.

    Used to find the input normalisation that the weights of a backbone expect, without training twice.
    """
    there = places.present
    pooled = functional.adaptive_avg_pool2d(torch.from_numpy(places.maps[there].astype(np.float32)), 4).flatten(1)
    features = ((pooled - pooled.mean(0)) / (pooled.std(0) + 1e-6)).double().numpy()
    boxes = places.boxes[there].astype(np.float64)
    fold = np.unique(np.asarray(groups)[there], return_inverse=True)[1] % 2
    if len(np.unique(fold)) < 2:
        return 0.0
    errors = []
    for held_out in (0, 1):
        seen, unseen = features[fold != held_out], features[fold == held_out]
        middle = boxes[fold != held_out].mean(0)
        gram = seen @ seen.T + penalty * features.shape[1] * np.eye(len(seen))
        guess = unseen @ (seen.T @ np.linalg.solve(gram, boxes[fold != held_out] - middle)) + middle
        errors.append(np.abs(guess - boxes[fold == held_out]).mean())
    return float(np.mean(errors))


def _views(dataset: Dataset, sample: Sample, size_wh: tuple[int, int], views: int, seed: int) -> list[AugmentedPicture]:
    frame, box, corners = dataset.load(sample), labelled_box(sample), labelled_corners(sample)
    rng = generator_of(seed, sample)
    first = plain_picture(frame, box, corners, size_wh)
    return [first, *(random_picture(frame, box, corners, size_wh, rng) for _ in range(views - 1))]


def _draws(among: Int[np.ndarray, " chosen"], batch: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Yield batches of indices, with a new random order in each pass."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(among)
    for _ in range(steps):
        if len(order) < batch:
            order = rng.permutation(among)
        chosen, order = order[:batch], order[batch:]
        yield np.sort(chosen)


def _loss(found: Sightings, places: Places, chosen: np.ndarray, box_loss: BoxLoss) -> Tensor:
    there = torch.from_numpy(places.present[chosen])
    loss = PRESENCE_WEIGHT * functional.binary_cross_entropy_with_logits(found.presence, there.float())
    if bool(there.any()):
        loss = loss + box_loss(found.box[there], torch.from_numpy(places.boxes[chosen])[there])
    corners = torch.from_numpy(places.corners[chosen])
    turned = corners.isfinite().all(1)
    if bool(turned.any()):
        loss = loss + functional.smooth_l1_loss(found.corners[turned], corners[turned], beta=0.02)
    return loss
