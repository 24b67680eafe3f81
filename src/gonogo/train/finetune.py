"""Fine-tunes the whole network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from gonogo.array_types import Int
from gonogo.augment import Augmentation
from gonogo.dataset import Sample
from gonogo.evidence.cells import cell_targets
from gonogo.model import Network, pool_map
from gonogo.progress import console, track
from gonogo.runtime import Picture
from gonogo.source import SourceView, TrainingSource, labels
from gonogo.train.cells import cell_loss
from gonogo.train.checkpoint import RunState, resume, run_identity, save_checkpoint
from gonogo.train.head import CellLogit, best_bias, class_weights
from gonogo.train.precision import device_of, reduced_precision, training_device
from gonogo.train.statistics import restore_statistics

METRICS = "metrics.jsonl"
SOFTER = tuple(2.0**-exponent for exponent in range(5))
"""Candidate scales of the map of a trained network, chosen on val."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Hyperparameters: SGD with Nesterov momentum and small batches, as in the article."""

    epochs: int = 24
    batch: int = 12
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 1.0
    """Number of epochs of linear warm-up; afterwards the rate falls to zero along a cosine."""
    longest_gradient: float = 1.0
    """Norm at which the gradient of a batch is clipped, to protect the pretrained weights in the first epoch."""
    cell_weight: float = 1.0
    """Weight of the loss over cells relative to that over pictures, with masks."""


def fine_tune(
    network: Network,
    source: TrainingSource,
    train: Sequence[Sample],
    val: Sequence[Sample],
    hyperparameters: FineTuning,
    augmentation: Augmentation,
    *,
    seed: int,
    work: Path,
    cells: CellLogit | None = None,
    device: str = "cpu",
) -> list[dict[str, float]]:
    """Train the network in place and leave it at its lowest validation loss.

    Scale and bias of its map are fitted on val. Epoch 0, the initial network, is a candidate too, so the result is
    never worse on val than the start. After every epoch a checkpoint and a line of metrics are written to ``work``; the
    same call resumes from them. On a keyboard interrupt it returns the best state so far.

    Batch normalisations use batch statistics: with fixed statistics, weights with folded normalisations get gradients
    of the unnormalised network and diverge within an epoch at the usual learning rate.

    Features are computed in BF16 if the device supports it natively, the head and the losses in FP32; validation is in
    FP32, as on the line. A bad picture whose defect lies outside its random window contributes to the cell loss only.

    Args:
        network: On the CPU before and after; modified in place.
        source: Source of the pictures and their masks.
        train: Training samples.
        val: Samples for choosing the epoch.
        hyperparameters: Hyperparameters.
        augmentation: Every epoch uses one random augmentation of every picture.
        seed: Random seed of order and augmentations.
        work: Folder for checkpoints and metrics.
        cells: Bias and shift of single cells, to train on masks as well; ``None`` to train on labels only.
        device: Torch device.

    Returns:
        One row per epoch: ``epoch``, ``val_loss`` and, after epoch 0, ``train_loss`` and ``learning_rate``.

    Raises:
        InputError: the device is not available.
    """
    place = training_device(device)
    work.mkdir(parents=True, exist_ok=True)
    network.to(memory_format=torch.channels_last)
    if restore_statistics(network, source.plain(train)):
        console.print(
            "The weights have no batch statistics; they were estimated from the data (the function is unchanged)."
        )
    names = [sample.file_name for sample in (*train, *val)]
    identity = run_identity(network, names, hyperparameters, augmentation, source.size_wh, seed, cells)
    network.to(place)
    optimiser = torch.optim.SGD(
        network.parameters(),
        momentum=hyperparameters.momentum,
        nesterov=True,
        weight_decay=hyperparameters.weight_decay,
    )
    val_pictures, val_bad = list(source.plain(val)), labels(val)
    state = resume(work, network, optimiser, identity=identity)
    if state is None:
        start = fit_scale_and_bias(network, val_pictures, val_bad)
        state = RunState(best=start.of(network.state_dict()), best_loss=start.val_loss)
        (work / METRICS).write_text(_line({"epoch": 0, "val_loss": state.best_loss}))
    else:
        console.print(f"Resuming after epoch {state.epoch}, from {work}.")
    try:
        while state.epoch < hyperparameters.epochs:
            epoch = state.epoch + 1
            train_loss = _train_epoch(
                network, optimiser, source, train, hyperparameters, augmentation, seed=seed, epoch=epoch, cells=cells
            )
            fitted = fit_scale_and_bias(network, val_pictures, val_bad)
            val_loss = fitted.val_loss
            if val_loss < state.best_loss:
                state.best, state.best_loss, state.best_epoch = fitted.of(network.state_dict()), val_loss, epoch
            state.epoch = epoch
            rate = optimiser.param_groups[0]["lr"]
            with (work / METRICS).open("a", encoding="utf-8") as file:
                file.write(
                    _line({"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, "learning_rate": rate})
                )
            save_checkpoint(work, network, optimiser, state, identity=identity)
            console.print(
                f"epoch {epoch}/{hyperparameters.epochs}: val loss {val_loss:.4f}, best {state.best_loss:.4f}"
            )
    except KeyboardInterrupt:
        console.print(f"Interrupted: keeping the best epoch so far, {state.best_epoch}.")
    network.load_state_dict(state.best)
    network.cpu().eval()
    return [json.loads(line) for line in (work / METRICS).read_text().splitlines()]


@dataclass(frozen=True, kw_only=True)
class ScaleAndBias:
    """Scale and bias of a map, with the validation loss they give."""

    val_loss: float
    """Class-balanced cross entropy on the val pictures, in nats; infinite if the network diverged."""
    scale: float = 1.0
    """Factor of the whole map, including its context."""
    bias: float = 0.0

    def of(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy the weights of a network with this scale and bias applied to the head."""
        copied = {key: value.detach().clone() for key, value in weights.items()}
        for key in ("head.conv.weight", "head.context.weight"):
            if key in copied:
                copied[key] *= self.scale
        copied["head.bias"].fill_(self.bias)
        return copied


def fit_scale_and_bias(network: Network, pictures: Sequence[Picture], bad: Int[np.ndarray, " samples"]) -> ScaleAndBias:
    """Fit the scale (at most 1) and the bias of the head's map with the lowest loss on val.

    An overfitted network is overconfident. That does not show how well it separates good from bad parts and must not
    decide which epoch is kept. The scale and bias of a fitted head also come from val. Cells in ignore zones are not
    pooled.
    """
    network.eval()
    place = device_of(network)
    with torch.no_grad():
        maps = torch.cat([network(torch.from_numpy(picture[None]).to(place))[1].cpu() for picture in pictures])
    if not maps.isfinite().all():
        return ScaleAndBias(val_loss=math.inf)
    kept = None if network.head.zones is None else network.head.zones.kept
    found = []
    for scale in SOFTER:
        bias, loss = best_bias(pool_map(scale * maps, network.head.pool, own=kept).double().numpy(), bad)
        found.append(ScaleAndBias(val_loss=loss, scale=scale, bias=bias))
    return min(found, key=lambda each: each.val_loss)


def learning_rate(hyperparameters: FineTuning, epoch: float) -> float:
    """The learning rate at a fractional epoch: linear warm-up, then half a cosine."""
    if epoch < hyperparameters.warmup_epochs:
        return hyperparameters.learning_rate * epoch / hyperparameters.warmup_epochs
    done = (epoch - hyperparameters.warmup_epochs) / max(hyperparameters.epochs - hyperparameters.warmup_epochs, 1e-9)
    return hyperparameters.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _train_epoch(
    network: Network,
    optimiser: torch.optim.Optimizer,
    source: TrainingSource,
    train: Sequence[Sample],
    hyperparameters: FineTuning,
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int,
    cells: CellLogit | None,
) -> float:
    """One pass over the training samples in random order, one augmentation of each; returns the mean loss."""
    network.train()
    order = np.random.default_rng((seed, epoch)).permutation(len(train))
    samples = [train[i] for i in order]
    place = device_of(network)
    bad = torch.from_numpy(labels(samples)).float().to(place)
    weights = class_weights(bad)
    views = source.drawn(samples, augmentation, seed=seed + epoch, masks=cells is not None)
    batches = math.ceil(len(train) / hyperparameters.batch)
    total = 0.0
    shown = track(_batched(views, hyperparameters.batch), f"epoch {epoch}", total=batches)
    for step, batch in enumerate(shown):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(hyperparameters, epoch - 1 + (step + 1) / batches)
        chosen = slice(step * hyperparameters.batch, step * hyperparameters.batch + len(batch))
        with reduced_precision(place):
            maps = network.features.maps(torch.from_numpy(np.stack([view.picture for view in batch])).to(place))
        score, _ = network.head(*(each.float() for each in maps))
        weight = weights[chosen]
        if augmentation.window is not None:  # a window without the defect does not show a bad part
            seen = torch.tensor([view.marks is None or bool(view.marks.any()) for view in batch], device=place)
            weight = weight * (seen | (bad[chosen] == 0))
        loss = functional.binary_cross_entropy_with_logits(score, bad[chosen], weight=weight)
        if cells is not None:
            loss = loss + hyperparameters.cell_weight * _cell_loss(network, maps, batch, cells)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(network.parameters(), hyperparameters.longest_gradient)
        optimiser.step()
        total += float(loss.detach()) * len(batch)
    return total / len(train)


def _cell_loss(network: Network, maps: Sequence[Tensor], batch: Sequence[SourceView], cells: CellLogit) -> Tensor:
    """The loss over single cells of a batch."""
    local = network.head.local(*(each.float() for each in maps))
    shape = (local.shape[1], local.shape[2])
    targets = np.stack([cell_targets(view.marks, shape, cells.shift_xy) for view in batch])
    return cell_loss(local + cells.bias, torch.from_numpy(targets).to(local.device))


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _line(row: dict[str, float]) -> str:
    return json.dumps(row) + "\n"
