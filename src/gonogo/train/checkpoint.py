"""Checkpoints of a training run as safetensors: network, momenta, best state so far and identity of the run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gonogo.files import write_beside

CHECKPOINT = "checkpoint.safetensors"


@dataclass(kw_only=True)
class RunState:
    """State of a training run."""

    best: dict[str, Tensor]
    best_loss: float
    best_epoch: int = 0
    epoch: int = 0


def run_identity(network: nn.Module, *facts: object) -> str:
    """Hash of the initial network and all options; a checkpoint is resumed only if it matches."""
    digest = hashlib.sha256(repr(facts).encode())
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(key.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(
    work: Path, network: nn.Module, optimiser: torch.optim.Optimizer, state: RunState, *, identity: str
) -> None:
    """Write a checkpoint atomically."""
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"best.{key}": value for key, value in state.best.items()}
    for index, parameter in enumerate(network.parameters()):
        momentum = optimiser.state[parameter].get("momentum_buffer")
        if momentum is not None:  # a user's own network may have parameters that the maps do not depend on
            tensors[f"momentum.{index}"] = momentum
    metadata = {
        "identity": identity,
        "epoch": str(state.epoch),
        "best_epoch": str(state.best_epoch),
        "best_loss": repr(state.best_loss),
    }
    # Cloned because safetensors rejects tensors that share memory, and contiguous because it stores no strides.
    whole = {key: tensor.detach().clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
    write_beside(work / CHECKPOINT, safetensors.torch.save(whole, metadata))


def resume(work: Path, network: nn.Module, optimiser: torch.optim.Optimizer, *, identity: str) -> RunState | None:
    """Restore network and momenta from a checkpoint of the same run; ``None`` if there is none."""
    path = work / CHECKPOINT
    if not path.is_file():
        return None
    with safetensors.safe_open(path, "pt") as file:
        metadata: Mapping[str, str] = file.metadata()
        if metadata["identity"] != identity:
            return None
        names = list(network.state_dict())
        network.load_state_dict({name: file.get_tensor(f"network.{name}") for name in names})
        stored = set(file.keys())
        for index, parameter in enumerate(network.parameters()):
            if f"momentum.{index}" in stored:
                momentum = file.get_tensor(f"momentum.{index}")
                optimiser.state[parameter]["momentum_buffer"] = momentum.to(parameter.device)
        best = {name: file.get_tensor(f"best.{name}") for name in names}
    return RunState(
        best=best,
        best_loss=float(metadata["best_loss"]),
        best_epoch=int(metadata["best_epoch"]),
        epoch=int(metadata["epoch"]),
    )
