"""The training loop of the article, from top to bottom: no schedule, no clipping, no class weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from gonogo.array_types import Float64, Int, UInt8
from gonogo.experiment.cell import Epoch, Protocol
from gonogo.model import Network
from gonogo.progress import track
from gonogo.train.precision import device_of, reduced_precision


@dataclass(frozen=True, kw_only=True)
class Trained:
    """History of a training run."""

    history: tuple[Epoch, ...]
    best_epoch: int
    """From 1."""


def train_network(
    network: Network,
    views: UInt8[np.ndarray, "views height width 3"],
    bad: Int[np.ndarray, " views"],
    val_pictures: UInt8[np.ndarray, "pictures height width 3"],
    val_bad: Int[np.ndarray, " pictures"],
    protocol: Protocol,
    *,
    seed: int,
) -> Trained:
    """Train a network in place and leave it at the epoch of the lowest loss on val.

    Every epoch goes once through all augmented views in a new random order. The loss is the plain binary cross entropy
    of the sigmoid. Features are computed in BF16 where the device does so natively, the loss and val in FP32.

    Args:
        network: One logit per picture; on the device to train on.
        views: Every training picture in all its crops and rotations.
        bad: 1 for a view of a bad part, 0 for one of a good part.
        val_pictures: Pictures that choose the epoch, without augmentation.
        val_bad: Their labels.
        protocol: Epochs, batch size, learning rate and momentum.
        seed: Random seed of the order.
    """
    device = device_of(network)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=protocol.learning_rate, momentum=protocol.momentum, nesterov=True
    )
    rng = np.random.default_rng(seed)
    history: list[Epoch] = []
    best_state, best_loss, best_epoch = dict[str, torch.Tensor](), math.inf, 0
    for epoch in track(range(1, protocol.epochs + 1), "epochs"):
        network.train()
        total = 0.0
        for chosen in batches(rng.permutation(len(views)), protocol.batch):
            pictures = torch.from_numpy(views[chosen]).to(device)
            truth = torch.from_numpy(bad[chosen]).float().to(device)
            with reduced_precision(device):
                maps = network.features.maps(pictures)
            score, _ = network.head(*(each.float() for each in maps))
            loss = functional.binary_cross_entropy_with_logits(score, truth)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(loss.detach()) * len(chosen)
        val_loss = cross_entropy(scores_of(network, val_pictures), val_bad)
        history.append(Epoch(train_loss=total / len(views), val_loss=val_loss))
        if val_loss < best_loss or epoch == 1:
            best_loss, best_epoch = val_loss, epoch
            best_state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best_state)
    return Trained(history=tuple(history), best_epoch=best_epoch)


def batches(order: Int[np.ndarray, " views"], size: int) -> list[Int[np.ndarray, " batch"]]:
    """Cut an order into batches; a single last picture joins the batch before, as it has no batch statistics."""
    starts = list(range(0, len(order), size))
    if len(starts) > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    return [order[start:end] for start, end in zip(starts, [*starts[1:], len(order)], strict=True)]


def scores_of(network: Network, pictures: UInt8[np.ndarray, "pictures height width 3"]) -> Float64[np.ndarray, " _"]:
    """The logit of each picture, in FP32; higher is worse."""
    network.eval()
    device = device_of(network)
    with torch.no_grad():
        found = [network(torch.from_numpy(picture[None]).to(device))[0].cpu() for picture in pictures]
    return torch.cat(found).double().numpy()


def cross_entropy(scores: Float64[np.ndarray, " pictures"], bad: Int[np.ndarray, " pictures"]) -> float:
    """Mean binary cross entropy in nats; infinite where a score is not finite."""
    if not np.isfinite(scores).all():
        return math.inf
    return float(np.logaddexp(0.0, np.where(bad == 1, -scores, scores)).mean())
