"""Selects the device and the arithmetic precision of training."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import nn

from gonogo.errors import InputError

NATIVE = ("avx512_bf16", "amx_bf16")
"""CPU flags for native BF16 multiplication; without them BF16 is emulated and slower than FP32."""


def training_device(name: str) -> torch.device:
    """Open a torch device by name: ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        InputError: the device is not available.
    """
    try:
        device = torch.device(name)
        float(torch.zeros(1, device=device))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).splitlines()[0].split(". ")[0]
        raise InputError(
            f"--device: torch cannot use {name!r} on this machine ({cause}). Omit the option to train on the CPU, or "
            "give an available device, such as 'cuda'."
        ) from error
    if device.type == "cuda":
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # validation must match FP32 on the CPU
    return device


def device_of(network: nn.Module) -> torch.device:
    """The device of the weights of a network."""
    return next(network.parameters()).device


def reduced_precision(device: torch.device | None = None) -> torch.autocast:
    """Autocast context for convolutions and matrix products in BF16, disabled if BF16 is not native.

    On a CPU the choice depends on its flags, so runs are reproducible; ``benchmarks/training_speed.py`` measures the
    effect. On a GPU torch reports whether BF16 is supported.

    Args:
        device: Torch device; default the CPU.
    """
    kind = "cpu" if device is None else device.type
    native = torch.cuda.is_bf16_supported() if kind == "cuda" else kind == "cpu" and has_bf16()
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=native)


@cache
def has_bf16() -> bool:
    """Whether the CPU supports BF16 natively."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return any(flag in flags for flag in NATIVE)
