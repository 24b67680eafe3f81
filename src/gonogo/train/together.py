"""Training in several processes with torch's DistributedDataParallel, equal to one process with the same batches.

Every process takes its share of each batch. Gradients, losses and the statistics of batch normalisations are those of
the whole batch. Between processes on CPUs torch's gloo is used, between GPUs NCCL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from gonogo.model import Network, batch_norms
from gonogo.ranks import Ranks
from gonogo.train.precision import reduced_precision

T = TypeVar("T")
PATIENCE = timedelta(hours=1)
"""How long a process waits for the others, which may still read their data."""


class ForwardPass(nn.Module):
    """What a step of training computes: the score, the feature maps in FP32, and the map of single cells if wanted."""

    def __init__(self, network: Network, *, cells: bool) -> None:
        super().__init__()
        self.network, self._cells = network, cells

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features are computed in BF16 where that is native, the head in FP32."""
        with reduced_precision(pictures.device):
            maps = self.network.features.maps(pictures)
        wide = [each.float() for each in maps]
        score, _ = self.network.head(*wide)
        return score, self.network.head.local(*wide) if self._cells else None


@contextmanager
def group(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Meet the other processes for the duration of the block, unless this one is alone or they have met already."""
    if ranks.count == 1 or distributed.is_initialized():
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextmanager
def alike(network: Network, ranks: Ranks, *, cells: bool) -> Iterator[nn.Module]:
    """Provide the forward pass of a network; with several processes, one whose gradients are those of all of them.

    The weights and statistics of the first process replace those of the others. Within the block, batch normalisations
    use the statistics of the whole batch.
    """
    module = ForwardPass(network, cells=cells)
    if ranks.count == 1:
        yield module
        return
    norms = list(batch_norms(network))
    for norm in norms:
        norm.forward = partial(_normalised, norm)  # type: ignore[method-assign]
    try:
        # A user's own network may have parameters that the maps do not depend on.
        yield DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)
    finally:
        for norm in norms:
            del norm.forward


def of_first(value: T, ranks: Ranks) -> T:
    """Return the first process's value, in every process."""
    if ranks.count == 1:
        return value
    box: list[Any] = [value]
    distributed.broadcast_object_list(box, src=0)
    return cast("T", box[0])


def in_order(mine: list[T], ranks: Ranks) -> list[T]:
    """Collect the results of every process's `Ranks.share`, in the order of the whole list."""
    if ranks.count == 1:
        return mine
    shares: list[Any] = [None] * ranks.count
    distributed.all_gather_object(shares, mine)
    most = max(len(share) for share in shares)
    return [share[index] for index in range(most) for share in shares if index < len(share)]


def summed(value: Tensor, ranks: Ranks) -> Tensor:
    """Return the sum of a tensor over all processes; gradients flow back to each of them."""
    return value if ranks.count == 1 else cast("Tensor", _Sum.apply(value))


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _normalised(norm: nn.BatchNorm2d, values: Tensor) -> Tensor:
    """Batch normalisation over the batches of all processes; torch's own does this on GPUs only."""
    if not norm.training:
        return nn.BatchNorm2d.forward(norm, values)
    wide = values.float()
    count = wide.new_tensor([wide.shape[0] * wide.shape[2] * wide.shape[3]])
    sums = _Sum.apply(torch.cat([wide.sum((0, 2, 3)), count]))
    mean, count = sums[:-1] / sums[-1], sums[-1].detach()
    centred = wide - mean[:, None, None]
    variance = _Sum.apply(centred.square().sum((0, 2, 3))) / count
    _remember(norm, mean.detach(), variance.detach() * count / (count - 1).clamp_min(1))
    result: Tensor = centred * (variance + norm.eps).rsqrt()[:, None, None]
    if norm.affine:
        result = result * norm.weight[:, None, None] + norm.bias[:, None, None]
    return result.to(values.dtype)


def _remember(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics towards those of a batch, as torch does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    share = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance, share)
