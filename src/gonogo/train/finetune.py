"""Fine-tuning the whole network after the article's recipe, as one loop that reads from top to bottom."""

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
from gonogo.source import TrainingSource, labels
from gonogo.train.cells import cell_loss
from gonogo.train.checkpoint import RunState, resume, run_identity, save_checkpoint
from gonogo.train.head import CellLogit, best_bias, class_weights
from gonogo.train.precision import device_of, reduced_precision, training_device
from gonogo.train.statistics import restore_statistics

METRICS = "metrics.jsonl"
SOFTER = tuple(2.0**-exponent for exponent in range(5))
"""Factors of a trained network's map that are tried on val."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """The article's recipe: SGD with Nesterov momentum, small batches, the lowest validation loss kept."""

    epochs: int = 24
    batch: int = 12
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 1.0
    """The rate rises linearly over so many epochs, then falls along a cosine to zero."""
    longest_gradient: float = 1.0
    """The gradient of a batch is shortened to this length, so that a steep first epoch destroys nothing."""
    cell_weight: float = 1.0
    """Of the loss over cells beside that over pictures, where masks teach."""


def fine_tune(
    network: Network,
    source: TrainingSource,
    train: Sequence[Sample],
    val: Sequence[Sample],
    recipe: FineTuning,
    augmentation: Augmentation,
    *,
    seed: int,
    work: Path,
    cells: CellLogit | None = None,
    device: str = "cpu",
) -> list[dict[str, float]]:
    """Train the network in place and leave it at its lowest validation loss, scale and bias of its map settled on val.

    Epoch 0, the network as it came, is among the candidates, so the result is never worse on val than its start. After
    every epoch a checkpoint and a line of metrics are written to ``work``; the same call takes up where they end.
    Interrupted, it returns with the best so far.

    Batch normalisations train on their batches: with statistics held fixed, weights whose normalisations were folded
    away get gradients of the unnormalised network, and collapse within an epoch at the usual rate.

    The features are computed in BF16 where the device does so natively, the head and the losses in FP32; validation
    is in FP32, as the line computes. A bad picture whose mask lies outside the window drawn of it teaches its cells
    only.

    Args:
        network: On the processor, before and after; changed in place.
        source: Gives the pictures, and their masks.
        train: Samples to learn from.
        val: Samples to choose the epoch on.
        recipe: How.
        augmentation: One of its views of every picture is drawn in every epoch.
        seed: Of order and views.
        work: Folder of this run.
        cells: How the head judges single cells, if masks are to go on teaching them; ``None``: labels alone.
        device: What torch computes on.

    Returns:
        One row per epoch: ``epoch``, ``val_loss`` and, after epoch 0, ``train_loss`` and ``learning_rate``.

    Raises:
        InputError: no such device here.
    """
    place = training_device(device)
    work.mkdir(parents=True, exist_ok=True)
    network.to(memory_format=torch.channels_last)
    if restore_statistics(network, source.plain(train)):
        console.print("The weights carried no batch statistics; they were estimated anew (the function is the same).")
    names = [sample.file_name for sample in (*train, *val)]
    identity = run_identity(network, names, recipe, augmentation, source.size_wh, seed, cells)
    network.to(place)
    optimiser = torch.optim.SGD(
        network.parameters(), momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
    )
    val_pictures, val_bad = list(source.plain(val)), labels(val)
    state = resume(work, network, optimiser, identity=identity)
    if state is None:
        start = settle(network, val_pictures, val_bad)
        state = RunState(best=start.of(network.state_dict()), best_loss=start.val_loss)
        (work / METRICS).write_text(_line({"epoch": 0, "val_loss": state.best_loss}))
    else:
        console.print(f"Taking up after epoch {state.epoch}, from {work}.")
    try:
        while state.epoch < recipe.epochs:
            epoch = state.epoch + 1
            train_loss = _train_epoch(
                network, optimiser, source, train, recipe, augmentation, seed=seed, epoch=epoch, cells=cells
            )
            settled = settle(network, val_pictures, val_bad)
            val_loss = settled.val_loss
            if val_loss < state.best_loss:
                state.best, state.best_loss, state.best_epoch = settled.of(network.state_dict()), val_loss, epoch
            state.epoch = epoch
            rate = optimiser.param_groups[0]["lr"]
            with (work / METRICS).open("a", encoding="utf-8") as file:
                file.write(
                    _line({"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, "learning_rate": rate})
                )
            save_checkpoint(work, network, optimiser, state, identity=identity)
            console.print(f"epoch {epoch}/{recipe.epochs}: val loss {val_loss:.4f}, best {state.best_loss:.4f}")
    except KeyboardInterrupt:
        console.print(f"Interrupted: keeping epoch {state.best_epoch}, the best so far.")
    network.load_state_dict(state.best)
    network.cpu().eval()
    return [json.loads(line) for line in (work / METRICS).read_text().splitlines()]


@dataclass(frozen=True, kw_only=True)
class Settled:
    """How strongly a map speaks, and from where on it means a bad part."""

    val_loss: float
    """Class-balanced cross entropy on the val pictures, in nats; infinite if the network diverged."""
    scale: float = 1.0
    """A factor of the whole map, its context included."""
    bias: float = 0.0

    def of(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy of a network's weights with the head settled so."""
        copied = {key: value.detach().clone() for key, value in weights.items()}
        for key in ("head.conv.weight", "head.context.weight"):
            if key in copied:
                copied[key] *= self.scale
        copied["head.bias"].fill_(self.bias)
        return copied


def settle(network: Network, pictures: Sequence[Picture], bad: Int[np.ndarray, " samples"]) -> Settled:
    """The scale, at most 1, and the bias of the head's map that have the lowest loss on val.

    A network that has learned its training pictures by heart is far too sure of itself; that says nothing about how
    well it tells good parts from bad ones, and must not decide which epoch is kept. A fitted head has its scale and
    bias from val as well.
    """
    network.eval()
    place = device_of(network)
    with torch.no_grad():
        maps = torch.cat([network(torch.from_numpy(picture[None]).to(place))[1].cpu() for picture in pictures])
    if not maps.isfinite().all():
        return Settled(val_loss=math.inf)
    found = []
    for scale in SOFTER:
        bias, loss = best_bias(pool_map(scale * maps, network.head.pool).double().numpy(), bad)
        found.append(Settled(val_loss=loss, scale=scale, bias=bias))
    return min(found, key=lambda each: each.val_loss)


def learning_rate(recipe: FineTuning, epoch: float) -> float:
    """The rate at a fractional epoch: linear warm-up, then half a cosine."""
    if epoch < recipe.warmup_epochs:
        return recipe.learning_rate * epoch / recipe.warmup_epochs
    done = (epoch - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _train_epoch(
    network: Network,
    optimiser: torch.optim.Optimizer,
    source: TrainingSource,
    train: Sequence[Sample],
    recipe: FineTuning,
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int,
    cells: CellLogit | None,
) -> float:
    """One pass over the training samples in a new order, one view of each; returns the mean loss."""
    network.train()
    order = np.random.default_rng((seed, epoch)).permutation(len(train))
    samples = [train[i] for i in order]
    place = device_of(network)
    bad = torch.from_numpy(labels(samples)).float().to(place)
    weights = class_weights(bad)
    views = source.drawn(samples, augmentation, seed=seed + epoch, masks=cells is not None)
    batches = math.ceil(len(train) / recipe.batch)
    total = 0.0
    shown = track(_batched(views, recipe.batch), f"epoch {epoch}", total=batches)
    for step, batch in enumerate(shown):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch - 1 + (step + 1) / batches)
        chosen = slice(step * recipe.batch, step * recipe.batch + len(batch))
        with reduced_precision(place):
            maps = network.features.maps(torch.from_numpy(np.stack([view.picture for view in batch])).to(place))
        score, _ = network.head(*(each.float() for each in maps))
        weight = weights[chosen]
        if augmentation.window is not None:  # a window beside the defect shows no bad part
            seen = torch.tensor([view.marks is None or bool(view.marks.any()) for view in batch], device=place)
            weight = weight * (seen | (bad[chosen] == 0))
        loss = functional.binary_cross_entropy_with_logits(score, bad[chosen], weight=weight)
        if cells is not None:
            local = network.head.local(*(each.float() for each in maps))
            shape = (local.shape[1], local.shape[2])
            targets = np.stack([cell_targets(view.marks, shape, cells.shift_xy) for view in batch])
            loss = loss + recipe.cell_weight * cell_loss(local + cells.bias, torch.from_numpy(targets).to(place))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(network.parameters(), recipe.longest_gradient)
        optimiser.step()
        total += float(loss.detach()) * len(batch)
    return total / len(train)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _line(row: dict[str, float]) -> str:
    return json.dumps(row) + "\n"
