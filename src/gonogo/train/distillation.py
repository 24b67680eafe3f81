"""Distillation: trains a small network on labels and on the scores and maps of a large one.

The loss has three terms: cross entropy with the labels; the Kullback-Leibler divergence from the score of the teacher
to that of the student, both softened by a temperature (Hinton, Vinyals and Dean, 2015, for two classes with
the logits 0 and the score); and the same divergence per cell between the two defect maps, so that the student also
learns *where*. Parts near the go threshold of the teacher have a higher weight, because verdicts change there.
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
"""Norm at which gradients are clipped, because the first steps from random weights can be very large."""
STATISTICS_MOMENTUM = 0.1
"""Momentum of batch normalisations. MobileNetV3 uses 0.01, meant for a million pictures; with a few hundred steps its
statistics would hardly change."""
VALIDATED_AT_ONCE = 32
LEAST_CONTRAST = 1.0
"""Smallest difference in logits between a cell that just passes and a hot one, see `cell_units`."""


@dataclass(frozen=True, kw_only=True)
class Distillation(FineTuning):
    """Hyperparameters of a distillation."""

    epochs: int = 40
    batch: int = 16
    learning_rate: float = 0.03
    temperature: float = 2.0
    """Temperature that softens the logits of both networks."""
    label_share: float = 0.5
    """Weight of the labels relative to the teacher's scores, 0 to 1."""
    map_weight: float = 1.0
    """Weight of the defect maps relative to labels and scores."""
    near_weight: float = 1.0
    """Additional weight of a part at the teacher's threshold compared with one far from it."""


@dataclass(frozen=True, kw_only=True)
class TeacherOutput:
    """Scores and maps of a teacher for some samples in all their augmentations."""

    scores: Float32[np.ndarray, "samples views"]
    maps: Float32[np.ndarray, "samples views rows columns"]
    """In score units, without the bias."""


@dataclass(frozen=True, kw_only=True)
class DistillationSet:
    """Pictures with targets for training or validating a student."""

    pictures: UInt8[np.ndarray, "samples views height width 3"]
    bad: Int[np.ndarray, " samples"]
    """1 for a bad part, 0 for a good one."""
    scores: Float32[np.ndarray, "samples views"]
    """Scores of the teacher."""
    maps: Float32[np.ndarray, "samples views rows columns"]
    """Maps of the teacher as logits of single cells, on the grid of the student."""
    weights: Float32[np.ndarray, "samples views"]
    """Sample weights with mean 1."""


def run_teacher(
    graph: Graph,
    source: TrainingSource,
    samples: Sequence[Sample],
    augmentation: Augmentation,
    *,
    seed: int,
    cache: Path,
    teacher_sha256: str,
) -> TeacherOutput:
    """Run the teacher on every augmentation of some samples, with a cache.

    Args:
        graph: The teacher, compiled for throughput.
        source: Source of the pictures at the teacher's size.
        samples: Labelled samples.
        augmentation: Augmentations per picture; the first is the original.
        seed: Random seed of the jittered crops.
        cache: Folder of the cache.
        teacher_sha256: Identifies the teacher in the cache.
    """
    names = [sample.file_name for sample in samples]
    facts = (teacher_sha256, source.identity, source.size_wh, augmentation, seed, names)
    key = hashlib.sha256(f"{facts}{fingerprint(source.dataset, samples)}".encode()).hexdigest()[:32]
    file = cache / f"{key}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            return TeacherOutput(scores=stored["scores"], maps=stored["maps"])
    total = len(samples) * augmentation.views
    views = (view.picture for view in source.views(samples, augmentation, seed=seed))
    scores, maps = [], []
    for found in track(graph.stream(views), "the teacher judges", total=total):
        scores.append(found["score"][0])
        maps.append(found["heatmap"][0])
    shape = (len(samples), augmentation.views)
    seen = TeacherOutput(
        scores=np.array(scores, np.float32).reshape(shape),
        maps=np.stack(maps).astype(np.float32).reshape(*shape, *maps[0].shape),
    )
    buffer = io.BytesIO()
    np.savez(buffer, scores=seen.scores, maps=seen.maps)
    write_beside(file, buffer.getvalue())
    return seen


def make_distillation_set(
    source: TrainingSource,
    samples: Sequence[Sample],
    augmentation: Augmentation,
    seen: TeacherOutput,
    *,
    seed: int,
    grid: tuple[int, int],
    scale: float = 1.0,
    bias: float,
    shift_xy: tuple[float, float],
    threshold: float | None,
    near_weight: float,
    scratch: Path,
) -> DistillationSet:
    """Combine pictures at the student's size with the scores and maps of the teacher.

    Args:
        source: Source of the pictures at the student's size.
        samples: The same as for `run_teacher`.
        augmentation: The same as for `run_teacher`.
        seen: Scores and maps of the teacher.
        seed: The same as for `run_teacher`.
        grid: Rows and columns of the map of the student.
        scale: See ``bias``.
        bias: ``scale * map + bias`` is the logit of a cell: 1 and the bias of the teacher if its cells are logits
            without the bias; for evidence maps see `cell_units`.
        shift_xy: Spatial offset of the teacher's map, see `gonogo.heatmap.HeatScale`.
        threshold: The teacher's go threshold; ``None`` for equal weights.
        near_weight: See `Distillation`.
        scratch: Folder for the pictures, which may not fit in memory.
    """
    pictures = (view.picture for view in source.views(samples, augmentation, seed=seed))
    views = track(pictures, "preparing pictures", total=len(samples) * augmentation.views)
    bad = labels(samples)
    return DistillationSet(
        pictures=_stored(views, (len(samples), augmentation.views), source.size_wh, scratch),
        bad=bad,
        scores=seen.scores,
        maps=np.float32(scale) * _on_grid(seen.maps, grid, shift_xy) + np.float32(bias),
        weights=_weights(bad, seen.scores, threshold, near_weight),
    )


def cell_units(*, cold: float, hot: float, go_below: float, bad_score: float) -> tuple[float, float]:
    """Scale and bias that convert the cells of an evidence map to logits.

    A cell at the cold end of the teacher's heat scale gets the logit of a part that just passes, one at the hot end
    that of a typical bad part, because the hottest place of a part dominates its score.

    Args:
        cold: Cold end of the teacher's heat scale.
        hot: Hot end of the teacher's heat scale: the hottest cell of a typical bad part.
        go_below: The score below which a part is good.
        bad_score: The score of a typical bad part; taken to be at least `LEAST_CONTRAST` above ``go_below``.
    """
    scale = max(bad_score - go_below, LEAST_CONTRAST) / (hot - cold)
    return scale, go_below - scale * cold


def train_student(
    network: Network,
    train: DistillationSet,
    val: DistillationSet,
    hyperparameters: Distillation,
    *,
    seed: int,
    work: Path,
) -> list[dict[str, float]]:
    """Train the network in place and leave it at its lowest validation loss.

    After every epoch a checkpoint and a line of metrics are written to ``work``; the same call resumes from them. On a
    keyboard interrupt it returns the best state so far. Features are computed in BF16 if the processor supports it, the
    head and the losses in FP32; validation is in FP32, as on the line.

    Returns:
        One row per epoch: ``epoch``, ``val_loss`` and, after epoch 0, ``train_loss`` and ``learning_rate``.
    """
    work.mkdir(parents=True, exist_ok=True)
    network.to(memory_format=torch.channels_last)
    if restore_statistics(network, (views[0] for views in train.pictures)):
        console.print(
            "The weights have no batch statistics; they were estimated from the data (the function is unchanged)."
        )
    for norm in batch_norms(network):
        norm.momentum = STATISTICS_MOMENTUM
    optimiser = torch.optim.SGD(
        network.parameters(),
        momentum=hyperparameters.momentum,
        nesterov=True,
        weight_decay=hyperparameters.weight_decay,
    )
    identity = run_identity(
        network, hyperparameters, seed, train.scores.tobytes(), train.maps.shape, train.pictures.shape
    )
    state = resume(work, network, optimiser, identity=identity)
    if state is None:
        state = RunState(best=copy.deepcopy(network.state_dict()), best_loss=validate(network, val, hyperparameters))
        (work / METRICS).write_text(json.dumps({"epoch": 0, "val_loss": state.best_loss}) + "\n")
    else:
        console.print(f"Resuming after epoch {state.epoch}, from {work}.")
    try:
        while state.epoch < hyperparameters.epochs:
            epoch = state.epoch + 1
            train_loss = _train_epoch(network, optimiser, train, hyperparameters, seed=seed, epoch=epoch)
            val_loss = validate(network, val, hyperparameters)
            if val_loss < state.best_loss:
                state.best, state.best_loss, state.best_epoch = copy.deepcopy(network.state_dict()), val_loss, epoch
            state.epoch = epoch
            row = {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss}
            row["learning_rate"] = optimiser.param_groups[0]["lr"]
            with (work / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            save_checkpoint(work, network, optimiser, state, identity=identity)
            console.print(
                f"epoch {epoch}/{hyperparameters.epochs}: val loss {val_loss:.4f}, best {state.best_loss:.4f}"
            )
    except KeyboardInterrupt:
        console.print(f"Interrupted: keeping the best epoch so far, {state.best_epoch}.")
    network.load_state_dict(state.best)
    network.eval()
    return [json.loads(line) for line in (work / METRICS).read_text().splitlines()]


def validate(network: Network, targets: DistillationSet, hyperparameters: Distillation) -> float:
    """The weighted loss on pictures without augmentation, in nats; infinite if the network diverged."""
    network.eval()
    total = 0.0
    with torch.no_grad():
        for chosen in np.array_split(np.arange(len(targets.bad)), math.ceil(len(targets.bad) / VALIDATED_AT_ONCE)):
            score, defect_map = network(torch.from_numpy(targets.pictures[chosen, 0]))[:2]
            loss = _loss(score, defect_map, network.head.bias, targets, chosen, np.zeros_like(chosen), hyperparameters)
            total += float(loss) * len(chosen)
    return total / len(targets.bad) if math.isfinite(total) else math.inf


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(teacher || student)`` of two Bernoulli verdicts given as logits, element by element, in nats."""
    soft = torch.sigmoid(teacher / temperature)
    cross = functional.binary_cross_entropy_with_logits(student / temperature, soft, reduction="none")
    entropy = functional.binary_cross_entropy_with_logits(teacher / temperature, soft, reduction="none")
    return temperature**2 * (cross - entropy)


def _train_epoch(
    network: Network,
    optimiser: torch.optim.Optimizer,
    targets: DistillationSet,
    hyperparameters: Distillation,
    *,
    seed: int,
    epoch: int,
) -> float:
    """One pass over the samples in random order, with a random augmentation of each; returns the mean loss."""
    network.train()
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(targets.bad))
    views = rng.integers(targets.pictures.shape[1], size=len(order))
    batches = math.ceil(len(order) / hyperparameters.batch)
    total = 0.0
    for step in track(range(batches), f"epoch {epoch}"):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(hyperparameters, epoch - 1 + (step + 1) / batches)
        chosen = order[step * hyperparameters.batch : (step + 1) * hyperparameters.batch]
        pictures = torch.from_numpy(targets.pictures[chosen, views[chosen]])
        with reduced_precision():
            features = network.features(pictures)
        score, defect_map = network.head(features.float())
        loss = _loss(score, defect_map, network.head.bias, targets, chosen, views[chosen], hyperparameters)
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
    targets: DistillationSet,
    chosen: Int[np.ndarray, " batch"],
    views: Int[np.ndarray, " batch"],
    hyperparameters: Distillation,
) -> Tensor:
    """The mean over a batch of the weighted sum of the three losses."""
    bad = torch.from_numpy(targets.bad[chosen]).float()
    teacher, teacher_map = (torch.from_numpy(each[chosen, views]) for each in (targets.scores, targets.maps))
    label_loss = functional.binary_cross_entropy_with_logits(score, bad, reduction="none")
    score_loss = softened_divergence(score, teacher, hyperparameters.temperature)
    map_loss = softened_divergence(defect_map + bias, teacher_map, hyperparameters.temperature).mean((1, 2))
    each = hyperparameters.label_share * label_loss + (1.0 - hyperparameters.label_share) * score_loss
    each = each + hyperparameters.map_weight * map_loss
    return (torch.from_numpy(targets.weights[chosen, views]) * each).mean()


def _weights(
    bad: Int[np.ndarray, " samples"],
    scores: Float32[np.ndarray, "samples views"],
    threshold: float | None,
    near_weight: float,
) -> Float32[np.ndarray, "samples views"]:
    """Sample weights: equal for both classes, ``1 + near_weight`` times higher at the threshold than far from it.

    The length scale is the median distance from the threshold.
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
    """Resample defect maps to another grid, corrected for their shift."""
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
    """Store pictures in a memory-mapped file that is deleted with the array."""
    scratch.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=scratch)
    os.close(handle)
    pictures = np.memmap(name, np.uint8, "w+", shape=(*shape, size_wh[1], size_wh[0], 3))
    Path(name).unlink()  # the mapping keeps the space until it is released
    for index, view in enumerate(views):
        pictures[divmod(index, shape[1])] = view
    return pictures
