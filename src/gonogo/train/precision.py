"""BF16 arithmetic for training, where the processor has it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

NATIVE = ("avx512_bf16", "amx_bf16")
"""Processor flags of instructions that multiply BF16; without them it is emulated, slower than FP32."""


def reduced_precision() -> torch.autocast:
    """A context in which convolutions and matrix products are done in BF16, or nothing changes where that costs time.

    The choice rests on the processor's flags, so a run is the same every time; ``benchmarks/training_speed.py``
    measures whether it is right.
    """
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16())


@cache
def has_bf16() -> bool:
    """Whether the processor multiplies BF16 natively."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return any(flag in flags for flag in NATIVE)
