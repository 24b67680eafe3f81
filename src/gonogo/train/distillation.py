"""Distillation: a small network learns from what people said of the parts and from what a large one saw in them.

Three losses, each in the unit of the logit. Cross entropy with the labels; the Kullback-Leibler divergence from the
teacher's verdict to the student's, both softened by a temperature (Hinton, Vinyals and Dean, 2015, for two classes with
the logits 0 and the score); and the same divergence cell by cell between the two defect maps, so that the student also
learns *where*. Parts near the teacher's go threshold weigh more: there a student earns or loses its place.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gonogo.array_types import Float32, Float64, Int, UInt8
from gonogo.augment import Augmentation
from gonogo.dataset import Sample, fingerprint
from gonogo.files import write_beside
from gonogo.heatmap import spread
from gonogo.model import Network, batch_norms
from gonogo.progress import console, track
from gonogo.runtime import Graph, Picture
from gonogo.schema import Box
from gonogo.source import TrainingSource, labels
from gonogo.train.checkpoint import RunState, resume, run_identity, save_checkpoint
from gonogo.train.finetune import METRICS, FineTuning, learning_rate
from gonogo.train.head import class_weights
from gonogo.train.precision import reduced_precision
from gonogo.train.statistics import restore_statistics

MOST_GRADIENT = 5.0
"""Norm at which gradients are cut: a network that starts from random weights takes some wild first steps."""
STATISTICS_MOMENTUM = 0.1
"""Of batch normalisations. MobileNetV3 comes with 0.01, made for a million pictures: after a few hundred steps its
statistics would still be those it started with."""
VALIDATED_AT_ONCE = 32
LEAST_CONTRAST = 1.0
"""Least logits between a cell that just passes and a hot one, see `cell_units`."""


@dataclass(frozen=True, kw_only=True)
class Distillation(FineTuning):
    """How a student is taught."""

    epochs: int = 40
    batch: int = 16
    learning_rate: float = 0.03
    temperature: float = 2.0
    """Softens the logits of both."""
    label_share: float = 0.5
    """Weight of the labels against the teacher's verdicts, 0 to 1."""
    map_weight: float = 1.0
    """Weight of the defect maps beside the two."""
    near_weight: float = 1.0
    """How much more a part at the teacher's threshold weighs than one far from it."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a teacher saw in some samples, in all their views."""

    scores: Float32[np.ndarray, "samples views"]
    maps: Float32[np.ndarray, "samples views rows columns"]
    """In score units, the bias left out."""


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What a student learns from."""

    pictures: UInt8[np.ndarray, "samples views height width 3"]
    bad: Int[np.ndarray, " samples"]
    """1 for a bad part, 0 for a good one."""
    scores: Float32[np.ndarray, "samples views"]
    """The teacher's."""
    maps: Float32[np.ndarray, "samples views rows columns"]
    """The teacher's as logits of single cells, on the student's grid."""
    weights: Float32[np.ndarray, "samples views"]
    """Mean 1 over all of them."""


def watch_teacher(
    graph: Graph,
    source: TrainingSource,
    samples: Sequence[Sample],
    augmentation: Augmentation,
    *,
    seed: int,
    cache: Path,
    teacher_sha256: str,
) -> Seen:
    """Judge every view of some samples once, or take it from the cache where this was done before.

    Args:
        graph: The teacher, compiled for many pictures in flight.
        source: Gives the pictures at the teacher's size.
        samples: Labelled samples.
        augmentation: Views per picture; the first is the untouched one.
        seed: Of the jittered crops.
        cache: Folder for what was seen.
        teacher_sha256: Names the teacher.
    """
    names = [sample.file_name for sample in samples]
    facts = (teacher_sha256, source.identity, source.size_wh, augmentation, seed, names)
    key = hashlib.sha256(f"{facts}{fingerprint(source.dataset, samples)}".encode()).hexdigest()[:32]
    file = cache / f"{key}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            return Seen(scores=stored["scores"], maps=stored["maps"])
    total = len(samples) * augmentation.views
    views = (view.picture for view in source.views(samples, augmentation, seed=seed))
    scores, maps = [], []
    for found in track(graph.stream(views), "the teacher judges", total=total):
        scores.append(found["score"][0])
        maps.append(found["heatmap"][0])
    shape = (len(samples), augmentation.views)
    seen = Seen(
        scores=np.array(scores, np.float32).reshape(shape),
        maps=np.stack(maps).astype(np.float32).reshape(*shape, *maps[0].shape),
    )
    buffer = io.BytesIO()
    np.savez(buffer, scores=seen.scores, maps=seen.maps)
    write_beside(file, buffer.getvalue())
    return seen


def make_lessons(
    source: TrainingSource,
    samples: Sequence[Sample],
    augmentation: Augmentation,
    seen: Seen,
    *,
    seed: int,
    grid: tuple[int, int],
    scale: float = 1.0,
    bias: float,
    shift_xy: tuple[float, float],
    threshold: float | None,
    near_weight: float,
    scratch: Path,
) -> Lessons:
    """Put the views that the teacher saw, at the student's size, beside what it saw in them.

    Args:
        source: Gives the pictures at the student's size.
        samples: As given to `watch_teacher`, and so the augmentation and the seed.
        augmentation: See there.
        seen: What the teacher saw.
        seed: See there.
        grid: Rows and columns of the student's map.
        scale: See ``bias``.
        bias: ``scale * map + bias`` is the logit of a cell: 1 and the teacher's bias where each cell of its map is one
            but for the bias; see `cell_units` for maps of evidence.
        shift_xy: Where a cell of the teacher's map looks, see `gonogo.heatmap.HeatScale`.
        threshold: The teacher's go threshold; ``None`` weighs all parts alike.
        near_weight: See `Distillation`.
        scratch: Folder for the pictures, which can be larger than memory.
    """
    pictures = (view.picture for view in source.views(samples, augmentation, seed=seed))
    views = track(pictures, "cutting out views", total=len(samples) * augmentation.views)
    bad = labels(samples)
    return Lessons(
        pictures=_stored(views, (len(samples), augmentation.views), source.size_wh, scratch),
        bad=bad,
        scores=seen.scores,
        maps=np.float32(scale) * _on_grid(seen.maps, grid, shift_xy) + np.float32(bias),
        weights=_weights(bad, seen.scores, threshold, near_weight),
    )


def cell_units(*, cold: float, hot: float, go_below: float, bad_score: float) -> tuple[float, float]:
    """Scale and bias that make logits of the cells of an evidence map, which are in units of their own.

    A cell on the cold end of the teacher's heat scale is one that just passes, one on its hot end looks as bad as a
    typical bad part as a whole: the hottest place of a part makes its score, for a student as well.

    Args:
        cold: The value on the teacher's map at which heat begins.
        hot: The hottest cell of its typical bad part.
        go_below: The score below which a part is good.
        bad_score: The score of a typical bad part; at least `LEAST_CONTRAST` above the other.
    """
    scale = max(bad_score - go_below, LEAST_CONTRAST) / (hot - cold)
    return scale, go_below - scale * cold


def train_student(
    network: Network, train: Lessons, val: Lessons, recipe: Distillation, *, seed: int, work: Path
) -> list[dict[str, float]]:
    """Teach the network in place and leave it at its lowest validation loss.

    After every epoch a checkpoint and a line of metrics are written to ``work``; the same call takes up where they end.
    Interrupted, it returns with the best so far. The features are computed in BF16 where the processor has it, the head
    and the losses in FP32; validation is in FP32, as the line computes.

    Returns:
        One row per epoch: ``epoch``, ``val_loss`` and, after epoch 0, ``train_loss`` and ``learning_rate``.
    """
    work.mkdir(parents=True, exist_ok=True)
    network.to(memory_format=torch.channels_last)
    if restore_statistics(network, (views[0] for views in train.pictures)):
        console.print("The weights carried no batch statistics; they were estimated anew (the function is the same).")
    for norm in batch_norms(network):
        norm.momentum = STATISTICS_MOMENTUM
    optimiser = torch.optim.SGD(
        network.parameters(), momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
    )
    identity = run_identity(network, recipe, seed, train.scores.tobytes(), train.maps.shape, train.pictures.shape)
    state = resume(work, network, optimiser, identity=identity)
    if state is None:
        state = RunState(best=copy.deepcopy(network.state_dict()), best_loss=validate(network, val, recipe))
        (work / METRICS).write_text(json.dumps({"epoch": 0, "val_loss": state.best_loss}) + "\n")
    else:
        console.print(f"Taking up after epoch {state.epoch}, from {work}.")
    try:
        while state.epoch < recipe.epochs:
            epoch = state.epoch + 1
            train_loss = _train_epoch(network, optimiser, train, recipe, seed=seed, epoch=epoch)
            val_loss = validate(network, val, recipe)
            if val_loss < state.best_loss:
                state.best, state.best_loss, state.best_epoch = copy.deepcopy(network.state_dict()), val_loss, epoch
            state.epoch = epoch
            row = {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss}
            row["learning_rate"] = optimiser.param_groups[0]["lr"]
            with (work / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            save_checkpoint(work, network, optimiser, state, identity=identity)
            console.print(f"epoch {epoch}/{recipe.epochs}: val loss {val_loss:.4f}, best {state.best_loss:.4f}")
    except KeyboardInterrupt:
        console.print(f"Interrupted: keeping epoch {state.best_epoch}, the best so far.")
    network.load_state_dict(state.best)
    network.eval()
    return [json.loads(line) for line in (work / METRICS).read_text().splitlines()]


def validate(network: Network, lessons: Lessons, recipe: Distillation) -> float:
    """The weighted loss on the untouched views, in nats; infinite if the network diverged."""
    network.eval()
    total = 0.0
    with torch.no_grad():
        for chosen in np.array_split(np.arange(len(lessons.bad)), math.ceil(len(lessons.bad) / VALIDATED_AT_ONCE)):
            score, defect_map, _ = network(torch.from_numpy(lessons.pictures[chosen, 0]))
            loss = _loss(score, defect_map, network.head.bias, lessons, chosen, np.zeros_like(chosen), recipe)
            total += float(loss) * len(chosen)
    return total / len(lessons.bad) if math.isfinite(total) else math.inf


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(teacher || student)`` of two Bernoulli verdicts given as logits, element by element, in nats."""
    soft = torch.sigmoid(teacher / temperature)
    cross = functional.binary_cross_entropy_with_logits(student / temperature, soft, reduction="none")
    entropy = functional.binary_cross_entropy_with_logits(teacher / temperature, soft, reduction="none")
    return temperature**2 * (cross - entropy)


def _train_epoch(
    network: Network,
    optimiser: torch.optim.Optimizer,
    lessons: Lessons,
    recipe: Distillation,
    *,
    seed: int,
    epoch: int,
) -> float:
    """One pass over the samples in a new order, one view of each, drawn at random; returns the mean loss."""
    network.train()
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lessons.bad))
    views = rng.integers(lessons.pictures.shape[1], size=len(order))
    batches = math.ceil(len(order) / recipe.batch)
    total = 0.0
    for step in track(range(batches), f"epoch {epoch}"):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch - 1 + (step + 1) / batches)
        chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
        pictures = torch.from_numpy(lessons.pictures[chosen, views[chosen]])
        with reduced_precision():
            features = network.features(pictures)
        score, defect_map = network.head(features.float())
        loss = _loss(score, defect_map, network.head.bias, lessons, chosen, views[chosen], recipe)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), MOST_GRADIENT)
        optimiser.step()
        total += float(loss.detach()) * len(chosen)
    return total / len(order)


def _loss(
    score: Tensor,
    defect_map: Tensor,
    bias: Tensor,
    lessons: Lessons,
    chosen: Int[np.ndarray, " batch"],
    views: Int[np.ndarray, " batch"],
    recipe: Distillation,
) -> Tensor:
    """The mean over a batch of the weighted sum of the three losses."""
    bad = torch.from_numpy(lessons.bad[chosen]).float()
    taught, taught_map = (torch.from_numpy(each[chosen, views]) for each in (lessons.scores, lessons.maps))
    told = functional.binary_cross_entropy_with_logits(score, bad, reduction="none")
    judged = softened_divergence(score, taught, recipe.temperature)
    seen = softened_divergence(defect_map + bias, taught_map, recipe.temperature).mean((1, 2))
    each = recipe.label_share * told + (1.0 - recipe.label_share) * judged + recipe.map_weight * seen
    return (torch.from_numpy(lessons.weights[chosen, views]) * each).mean()


def _weights(
    bad: Int[np.ndarray, " samples"],
    scores: Float32[np.ndarray, "samples views"],
    threshold: float | None,
    near_weight: float,
) -> Float32[np.ndarray, "samples views"]:
    """Both classes weigh the same; a view at the threshold ``1 + near_weight`` times as much as one far from it.

    Near is measured by the median distance of all views.
    """
    balance: Float64[np.ndarray, "samples 1"] = class_weights(torch.from_numpy(bad).float()).double().numpy()[:, None]
    nearness = np.zeros(scores.shape)
    if threshold is not None:
        distance = np.abs(scores.astype(np.float64) - threshold)
        nearness = np.exp(-distance / max(float(np.median(distance)), 1e-6))
    weights = balance * (1.0 + near_weight * nearness)
    found: Float32[np.ndarray, "samples views"] = (weights / weights.mean()).astype(np.float32)
    return found


def _on_grid(
    maps: Float32[np.ndarray, "samples views rows columns"], grid: tuple[int, int], shift_xy: tuple[float, float]
) -> Float32[np.ndarray, "samples views rows_out columns_out"]:
    """Defect maps as they lie over the picture, resampled to another grid."""
    whole = Box.whole_of(grid[1], grid[0])
    flat = maps.reshape(-1, *maps.shape[2:])
    laid = np.stack([spread(each, whole, grid, shift_xy=shift_xy) for each in flat])
    return laid.reshape(*maps.shape[:2], *grid)


def _stored(
    views: Iterator[Picture],
    shape: tuple[int, int],
    size_wh: tuple[int, int],
    scratch: Path,
) -> UInt8[np.ndarray, "samples views height width 3"]:
    """Pictures in a file that vanishes with the array."""
    scratch.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=scratch)
    os.close(handle)
    pictures = np.memmap(name, np.uint8, "w+", shape=(*shape, size_wh[1], size_wh[0], 3))
    Path(name).unlink()  # the mapping keeps the space until it is released
    for index, view in enumerate(views):
        pictures[divmod(index, shape[1])] = view
    return pictures
