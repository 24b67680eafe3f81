"""Fine-tunes the whole network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from gonogo.array_types import Int
from gonogo.augment import Augmentation
from gonogo.dataset import Sample
from gonogo.evidence.cells import cell_targets
from gonogo.model import Network, pool_map
from gonogo.progress import console, track
from gonogo.ranks import ALONE, Ranks
from gonogo.runtime import Picture
from gonogo.source import SourceView, TrainingSource, labels
from gonogo.train.cells import cell_loss
from gonogo.train.checkpoint import RunState, resume, run_identity, save_checkpoint
from gonogo.train.head import CellLogit, best_bias, class_weights
from gonogo.train.precision import device_of, training_device
from gonogo.train.statistics import restore_statistics
from gonogo.train.together import alike, group, in_order, of_first, summed

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
    ranks: Ranks = ALONE,
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
        ranks: With several processes, every one makes this call with the same arguments and its own place, and each
            takes its share of every batch. Only the first writes to ``work``.

    Returns:
        One row per epoch: ``epoch``, ``val_loss`` and, after epoch 0, ``train_loss`` and ``learning_rate``.

    Raises:
        InputError: the device is not available.
    """
    place = training_device(ranks.device(device))
    network.to(memory_format=torch.channels_last)
    if restore_statistics(network, source.plain(train)) and ranks.first:
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
    run = _Run(network=network, optimiser=optimiser, work=work, identity=identity, ranks=ranks)
    val_pictures, val_bad = list(source.plain(ranks.share(val))), labels(val)
    with group(ranks, place):
        resumed = run.resume()
        with alike(network, ranks, cells=cells is not None) as passed:
            state = resumed or run.start(val_pictures, val_bad)
            try:
                while state.epoch < hyperparameters.epochs:
                    train_loss = _train_epoch(
                        passed,
                        optimiser,
                        source,
                        train,
                        hyperparameters,
                        augmentation,
                        seed=seed,
                        epoch=state.epoch + 1,
                        cells=cells,
                        ranks=ranks,
                    )
                    fitted = fit_scale_and_bias(network, val_pictures, val_bad, ranks)
                    run.end_epoch(state, fitted, train_loss, of=hyperparameters.epochs)
            except KeyboardInterrupt:
                console.print(f"Interrupted: keeping the best epoch so far, {state.best_epoch}.")
    network.load_state_dict(state.best)
    network.cpu().eval()
    return run.rows()


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one process keeps of a run, and what the first one writes for all."""

    network: Network
    optimiser: torch.optim.Optimizer
    work: Path
    identity: str
    ranks: Ranks

    def resume(self) -> RunState | None:
        """Restore the first process's checkpoint of this run, for all of them; ``None`` if there is none."""
        state = None
        if self.ranks.first:
            self.work.mkdir(parents=True, exist_ok=True)
            state = resume(self.work, self.network, self.optimiser, identity=self.identity)
        state, momenta = of_first((state, self.optimiser.state_dict()), self.ranks)
        if state is not None:
            if not self.ranks.first:
                self.optimiser.load_state_dict(momenta)
            self._say(f"Resuming after epoch {state.epoch}, from {self.work}.")
        return state

    def start(self, pictures: Sequence[Picture], bad: Int[np.ndarray, " samples"]) -> RunState:
        """Begin with epoch 0, the initial network."""
        start = fit_scale_and_bias(self.network, pictures, bad, self.ranks)
        if self.ranks.first:
            (self.work / METRICS).write_text(_line({"epoch": 0, "val_loss": start.val_loss}))
        return RunState(best=start.of(self.network.state_dict()), best_loss=start.val_loss)

    def end_epoch(self, state: RunState, fitted: ScaleAndBias, train_loss: float, *, of: int) -> None:
        """Keep the network if it is the best so far, and write a checkpoint and a line of metrics."""
        state.epoch += 1
        if fitted.val_loss < state.best_loss:
            state.best, state.best_loss = fitted.of(self.network.state_dict()), fitted.val_loss
            state.best_epoch = state.epoch
        if not self.ranks.first:
            return
        rate = self.optimiser.param_groups[0]["lr"]
        row = {"epoch": state.epoch, "train_loss": train_loss, "val_loss": fitted.val_loss, "learning_rate": rate}
        with (self.work / METRICS).open("a", encoding="utf-8") as file:
            file.write(_line(row))
        save_checkpoint(self.work, self.network, self.optimiser, state, identity=self.identity)
        self._say(f"epoch {state.epoch}/{of}: val loss {fitted.val_loss:.4f}, best {state.best_loss:.4f}")

    def rows(self) -> list[dict[str, float]]:
        """Return the metrics of all epochs; nothing in the other processes."""
        if not self.ranks.first:
            return []
        return [json.loads(line) for line in (self.work / METRICS).read_text().splitlines()]

    def _say(self, text: str) -> None:
        if self.ranks.first:
            console.print(text)


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


def fit_scale_and_bias(
    network: Network, pictures: Sequence[Picture], bad: Int[np.ndarray, " samples"], ranks: Ranks = ALONE
) -> ScaleAndBias:
    """Fit the scale (at most 1) and the bias of the head's map with the lowest loss on val.

    An overfitted network is overconfident. That does not show how well it separates good from bad parts and must not
    decide which epoch is kept. The scale and bias of a fitted head also come from val. Cells in ignore zones are not
    pooled.

    Args:
        network: The network; left in evaluation mode.
        pictures: This process's share of the val pictures; all of them if it is alone.
        bad: 1 for each bad one of all val pictures.
        ranks: The processes that train together; all get the first one's result.
    """
    network.eval()
    place = device_of(network)
    with torch.no_grad():
        mine = [network(torch.from_numpy(picture[None]).to(place))[1].cpu() for picture in pictures]
    maps = torch.cat(in_order(mine, ranks))
    if not maps.isfinite().all():
        return ScaleAndBias(val_loss=math.inf)
    kept = None if network.head.zones is None else network.head.zones.kept
    found = []
    for scale in SOFTER:
        bias, loss = best_bias(pool_map(scale * maps, network.head.pool, own=kept).double().numpy(), bad)
        found.append(ScaleAndBias(val_loss=loss, scale=scale, bias=bias))
    return of_first(min(found, key=lambda each: each.val_loss), ranks)


def learning_rate(hyperparameters: FineTuning, epoch: float) -> float:
    """The learning rate at a fractional epoch: linear warm-up, then half a cosine."""
    if epoch < hyperparameters.warmup_epochs:
        return hyperparameters.learning_rate * epoch / hyperparameters.warmup_epochs
    done = (epoch - hyperparameters.warmup_epochs) / max(hyperparameters.epochs - hyperparameters.warmup_epochs, 1e-9)
    return hyperparameters.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _train_epoch(
    passed: nn.Module,
    optimiser: torch.optim.Optimizer,
    source: TrainingSource,
    train: Sequence[Sample],
    hyperparameters: FineTuning,
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int,
    cells: CellLogit | None,
    ranks: Ranks,
) -> float:
    """One pass over the training samples in random order, one augmentation of each; returns the mean loss.

    Every process draws the same order and works on its share of each batch. Random numbers of augmentations belong to
    the sample, so they do not depend on the number of processes.
    """
    passed.train()
    order = np.random.default_rng((seed, epoch)).permutation(len(train))
    bad = torch.from_numpy(labels([train[i] for i in order])).float()
    weights = class_weights(bad)
    batches = [
        range(len(order))[start : start + hyperparameters.batch]
        for start in range(0, len(order), hyperparameters.batch)
    ]
    samples = [train[order[i]] for batch in batches for i in ranks.share(batch)]
    views = iter(source.drawn(samples, augmentation, seed=seed + epoch, masks=cells is not None))
    total = torch.zeros(())
    for step, batch in enumerate(track(batches, f"epoch {epoch}") if ranks.first else batches):
        for rate in optimiser.param_groups:
            rate["lr"] = learning_rate(hyperparameters, epoch - 1 + (step + 1) / len(batches))
        mine = list(ranks.share(batch))
        step_loss = _loss(
            passed,
            list(islice(views, len(mine))),
            bad[mine],
            weights[mine],
            parts=len(batch),
            size_wh=source.size_wh,
            windowed=augmentation.window is not None,
            cells=cells,
            cell_weight=hyperparameters.cell_weight,
            ranks=ranks,
        )
        optimiser.zero_grad()
        (step_loss * ranks.count).backward()  # type: ignore[no-untyped-call]  # gradients are averaged over the processes
        clip_grad_norm_(passed.parameters(), hyperparameters.longest_gradient)
        optimiser.step()
        total += step_loss.detach().cpu() * len(batch)
    return float(summed(total, ranks)) / len(train)


def _loss(
    passed: nn.Module,
    views: Sequence[SourceView],
    bad: Tensor,
    weights: Tensor,
    *,
    parts: int,
    size_wh: tuple[int, int],
    windowed: bool,
    cells: CellLogit | None,
    cell_weight: float,
    ranks: Ranks,
) -> Tensor:
    """This process's summand of the loss of a batch of ``parts`` pictures; its share may be empty."""
    place = next(passed.parameters()).device
    width, height = size_wh
    pictures = np.stack([view.picture for view in views]) if views else np.zeros((0, height, width, 3), np.uint8)
    score, local = passed(torch.from_numpy(pictures).to(place))
    if windowed:  # a window without the defect does not show a bad part
        seen = torch.tensor([view.marks is None or bool(view.marks.any()) for view in views], dtype=torch.bool)
        weights = weights * (seen | (bad == 0))
    weights, bad = weights.to(place), bad.to(place)
    loss = functional.binary_cross_entropy_with_logits(score, bad, weight=weights, reduction="sum") / parts
    if cells is None:
        return loss
    shape = (local.shape[1], local.shape[2])
    found = [cell_targets(view.marks, shape, cells.shift_xy) for view in views]
    targets = np.stack(found) if found else np.zeros((0, *shape), np.int8)
    of_cells = cell_loss(local + cells.bias, torch.from_numpy(targets).to(place), ranks)
    return loss + cell_weight * of_cells


def _line(row: dict[str, float]) -> str:
    return json.dumps(row) + "\n"
