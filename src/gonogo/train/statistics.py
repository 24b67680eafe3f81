"""Restores batch statistics of weights with folded batch normalisations."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gonogo.model import batch_norms
from gonogo.runtime import Picture


def restore_statistics(network: nn.Module, pictures: Iterator[Picture], *, most: int = 256) -> bool:
    """Restore the statistics of folded batch normalisations without changing the function.

    Folded weights have identity normalisations (mean 0, variance 1), so their inputs are not normalised and gradient
    steps of the usual size make training diverge. The mean m and variance v of each input are measured
    on some pictures, and scale g and shift b become ``g' = g sqrt((v + e) / (1 + e))`` and
    ``b' = b + g m / sqrt(1 + e)``, which leaves ``g' (x - m) / sqrt(v + e) + b'`` equal to the original output.

    Args:
        network: Takes uint8 NHWC pictures; modified in place and left in evaluation mode.
        pictures: Training pictures.
        most: Maximum number of pictures used.

    Returns:
        Whether any normalisation was restored.
    """
    network.eval()
    folded = [norm for norm in batch_norms(network) if _is_identity(norm)]
    if not folded:
        return False
    sums = [torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in folded]

    def measuring(total: Tensor) -> object:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].detach().double().transpose(0, 1).flatten(1)
            count = torch.full((values.shape[0],), float(values.shape[1]))
            total.add_(torch.stack([count, values.sum(1), values.square().sum(1)]))

        return add

    hooks = [norm.register_forward_pre_hook(measuring(total)) for norm, total in zip(folded, sums, strict=True)]  # type: ignore[arg-type]
    with torch.no_grad():
        for picture, _ in zip(pictures, range(most), strict=False):
            network(torch.from_numpy(picture[None]))
        for hook in hooks:
            hook.remove()
        for norm, (count, total, squares) in zip(folded, sums, strict=True):
            _set(norm, mean=total / count, variance=(squares / count - (total / count).square()).clamp_min(1e-8))
    return True


def _set(norm: nn.BatchNorm2d, *, mean: Tensor, variance: Tensor) -> None:
    before = math.sqrt(1 + norm.eps)
    norm.bias.add_((norm.weight * mean / before).float())
    norm.weight.mul_(((variance + norm.eps).sqrt() / before).float())
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _is_identity(norm: nn.BatchNorm2d) -> bool:
    if norm.running_mean is None or norm.running_var is None:
        return False
    return bool((norm.running_mean == 0).all() and (norm.running_var - 1).abs().max() < 1e-3)
