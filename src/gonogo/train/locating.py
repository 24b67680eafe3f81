"""Learning where the part is: frozen features of random views, computed once, and a head trained on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
"""Of the presence term beside the box loss."""
_LEAST_DEVIATION = 0.02
"""Of a channel, as a share of the mean over all channels."""
_PRESENCES = (0.02, 0.98)

Logits: TypeAlias = Float64[np.ndarray, " views"]


@dataclass(frozen=True, kw_only=True)
class Locating:
    """How a locator is trained: Adam with decoupled weight decay and a one-cycle rate, for a fixed time.

    Nothing is chosen on val, so that val parts can calibrate the margin: what has to be chosen on pictures that taught
    nothing, the least presence, is chosen by cross-validation within the training pictures.
    """

    head: LocatorHead = LocatorHead.EDGES
    loss: BoxLoss = BoxLoss.GIOU
    views: int | None = None
    """Of each picture, the untouched one among them; so many that there are about 2,400 in all where omitted."""
    steps: int | None = None
    """Of the optimiser; 1,100 on pretrained features and 2,200 from pixels where omitted."""
    presence_folds: int = 3
    """Of the cross-validation that chooses the least presence; with fewer than two it is one half."""
    presence_steps: int = 250
    """Of the optimiser, in each of these folds."""
    batch: int = 32
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    dropout: float = 0.0
    """Share of a view's channels that are left out at every step (Tompson et al., 2015); none from pixels."""

    def views_of(self, pictures: int) -> int:
        """Views of each of so many pictures."""
        return self.views or min(24, max(2, math.ceil(2400 / pictures)))

    def for_loose_parts(self) -> Locating:
        """The same for parts that lie about, large and small, on any ground: learned less by heart.

        On rendered boards, which the camera is set up for, this would cost accuracy, and refuse types never seen.
        """
        return replace(self, steps=self.steps or LOOSE_STEPS, weight_decay=0.02, dropout=0.2)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Frozen features of some views, and where the part is in each."""

    maps: Float16[np.ndarray, "views channels rows columns"]
    boxes: Float32[np.ndarray, "views 4"]
    """Shares of the picture; NaN where there is no single, whole part."""
    corners: Float32[np.ndarray, "views 8"]
    """The same; NaN as well where no turned rectangle is labelled."""

    @property
    def present(self) -> Bool[np.ndarray, " views"]:
        """Where there is exactly one whole part."""
        there: Bool[np.ndarray, " views"] = np.isfinite(self.boxes).all(1)
        return there

    def only(self, views: Int[np.ndarray, " chosen"]) -> Places:
        """Some of the views."""
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
    """Features of every sample's views through the frozen backbone.

    Args:
        graph: The compiled backbone with an output ``features``.
        dataset: Where the pictures are.
        samples: With a box, or without a part.
        size_wh: The network's input.
        views: Of each picture; the first is the untouched one.
        seed: Of the random views; a sample's views depend on it and the sample's name alone.
        scratch: Folder for the features, which can be larger than memory.
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
    """Mean and deviation of every channel over some of the views."""
    some = places.maps[:: max(1, len(places.maps) // most)].astype(np.float32)
    deviation = some.std((0, 2, 3))
    # A channel that these views hardly wake would drown all others in the first picture that does.
    floor = _LEAST_DEVIATION * deviation.mean() + 1e-6
    return Scaling(torch.from_numpy(some.mean((0, 2, 3))), torch.from_numpy(np.maximum(deviation, floor)))


def fit_locator(
    places: Places,
    scaling: Scaling,
    recipe: Locating,
    *,
    seed: int,
    among: Int[np.ndarray, " chosen"] | None = None,
) -> RegressionHead | EdgesHead:
    """Train a head on frozen features.

    The loss is that of the boxes, plus smooth L1 on the corners where they are labelled, plus cross entropy of
    presence.

    Args:
        places: Features of the views.
        scaling: Of their channels.
        recipe: Head, loss and schedule.
        seed: Of the head's first weights and the order of the views.
        among: The views to learn from; all where omitted.
    """
    among = np.arange(len(places.maps)) if among is None else among
    # A trunk that learns everything from pixels takes longer.
    pixels = places.maps.shape[1] == COLOURS
    steps = recipe.steps or (FROM_PIXELS_STEPS if pixels else STEPS)
    dropout = 0.0 if pixels else recipe.dropout
    torch.manual_seed(seed)
    head = make_head(recipe.head, places.maps.shape[1])
    head.to(memory_format=torch.channels_last).train()  # twice as fast on a CPU
    optimiser = torch.optim.AdamW(head.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=steps)
    batch = min(recipe.batch, len(among))
    # Filled anew at every step: new memory would cost it more than all arithmetic on what is in it.
    features = torch.empty((batch, *places.maps.shape[1:])).contiguous(memory_format=torch.channels_last)
    for chosen in track(_draws(among, batch, steps, seed), "learning the place", total=steps):
        features.copy_(torch.from_numpy(places.maps[chosen])).sub_(scaling.mean).div_(scaling.deviation)
        loss = _loss(head(functional.dropout2d(features, dropout)), places, chosen, recipe.loss)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return head.to(memory_format=torch.contiguous_format).eval()


def choose_presence(
    places: Places, scaling: Scaling, folds: Int[np.ndarray, " views"], recipe: Locating, *, seed: int
) -> float:
    """The probability of presence below which a picture is best refused, by cross-validation.

    Heads trained on all folds but one say how probable a single whole part is in each view of that one. Few training
    pictures make them too sure of themselves, so one half is seldom the best cut; this one refuses the fewest views
    that show a part and accepts the fewest that do not, both as shares.

    Args:
        places: Features of the training views.
        scaling: Of all of them.
        folds: A number per view; views of one part share it.
        recipe: Trained with fewer steps here.
        seed: Of the training.
    """
    said, shorter = np.zeros(len(folds)), replace(recipe, steps=recipe.presence_steps)
    for held_out in track(np.unique(folds), "choosing the least presence"):
        own, others = np.flatnonzero(folds == held_out), np.flatnonzero(folds != held_out)
        head = fit_locator(places, scaling, shorter, seed=seed, among=others)
        said[own] = sight(head, scaling, places.only(own)).presence.double().numpy()
    return least_presence(said[places.present], said[~places.present])


def least_presence(present: Logits, absent: Logits) -> float:
    """The cut between logits with the least sum of the share of ``present`` below it and of ``absent`` above it.

    The one nearest to one half, where several are equally good; one half without both kinds. Within 0.02 and 0.98.

    Returns:
        A probability.
    """
    if not len(present) or not len(absent):
        return 0.5
    said = np.unique(np.concatenate([present, absent]))
    cuts = np.concatenate([[0.0, said[0] - 1, said[-1] + 1], (said[1:] + said[:-1]) / 2])
    refused = np.searchsorted(np.sort(present), cuts) / len(present)
    accepted = 1 - np.searchsorted(np.sort(absent), cuts) / len(absent)
    wrong = refused + accepted
    best = cuts[wrong <= wrong.min() + 1e-12]
    cut = best[np.argmin(np.abs(best))]
    return float(np.clip(1 / (1 + np.exp(-np.clip(cut, -50, 50))), *_PRESENCES))


def sight(head: nn.Module, scaling: Scaling, places: Places) -> Sightings:
    """What a head says of stored features."""
    found = []
    with torch.no_grad():
        for chunk in np.array_split(places.maps, max(1, math.ceil(len(places.maps) / 64))):
            found.append(head(scaling(torch.from_numpy(chunk.astype(np.float32)))))
    return Sightings(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def probe_error(places: Places, groups: Sequence[str], *, penalty: float = 10.0) -> float:
    """How badly a linear regression on coarsely pooled features places boxes that it has not seen, by two folds.

    Tells which input normalisation a backbone's weights were made for, without training anything twice.
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
    """Batches of indices, all views in a new order each time round."""
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
