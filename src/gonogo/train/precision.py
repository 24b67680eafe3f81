"""What training computes on and in: a device, and BF16 arithmetic where it has it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import nn

from gonogo.errors import InputError

NATIVE = ("avx512_bf16", "amx_bf16")
"""Processor flags of instructions that multiply BF16; without them it is emulated, slower than FP32."""


def training_device(name: str) -> torch.device:
    """A device by torch's name for it: ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        InputError: no such device here.
    """
    try:
        device = torch.device(name)
        float(torch.zeros(1, device=device))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).splitlines()[0].split(". ")[0]
        raise InputError(
            f"--device: torch cannot compute on {name!r} here ({cause}). Leave the option out to train on the "
            "processor, or give a device that torch lists, such as 'cuda'."
        ) from error
    if device.type == "cuda":
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # validation compares with the processor's FP32
    return device


def device_of(network: nn.Module) -> torch.device:
    """What a network's weights lie on."""
    return next(network.parameters()).device


def reduced_precision(device: torch.device | None = None) -> torch.autocast:
    """A context in which convolutions and matrix products are done in BF16, or nothing changes where that costs time.

    The choice rests on the processor's flags, so a run is the same every time; ``benchmarks/training_speed.py``
    measures whether it is right. A graphics card is asked itself.

    Args:
        device: What is computed on; the processor where omitted.
    """
    kind = "cpu" if device is None else device.type
    native = torch.cuda.is_bf16_supported() if kind == "cuda" else kind == "cpu" and has_bf16()
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=native)


@cache
def has_bf16() -> bool:
    """Whether the processor multiplies BF16 natively."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return any(flag in flags for flag in NATIVE)
