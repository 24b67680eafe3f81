"""Mutated pictures of all formats, decoded as those of strangers are: none may crash or cost much time or memory."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from fuzz import seeds
from fuzz.mutations import mutant
from gonogo import images
from gonogo.errors import ImageError
from gonogo.images import confined
from gonogo.progress import track

MOST_S = 2.0
"""Processor time for one picture that counts as too long."""
MOST_BYTES = 512_000_000
"""Memory of the decoding process, the idle process included, that counts as too much."""


@dataclass(kw_only=True)
class Costs:
    """What decoding pictures cost and how it ended."""

    out: Path | None = None
    """Folder for the pictures that failed; ``None`` keeps none."""
    tried: int = 0
    frames: int = 0
    refused: int = 0
    crashes: int = 0
    """A decoding process that died, or an exception that is no refusal."""
    slow: int = 0
    large: int = 0
    longest_s: float = 0.0
    longest_wall_s: float = 0.0
    most_bytes: float = 0.0
    first_failures: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The figures."""
        return {
            "tried": self.tried,
            "frames": self.frames,
            "refused": self.refused,
            "crashes": self.crashes,
            "over_2_s": self.slow,
            "over_512_mb": self.large,
            "longest_cpu_s": round(self.longest_s, 3),
            "longest_wall_s": round(self.longest_wall_s, 3),
            "most_mb": round(self.most_bytes / 1e6, 1),
            "first_failures": self.first_failures[:5],
        }


def decode_counted(data: bytes, name: str, costs: Costs) -> bool:
    """Decode one picture in the decoding process, and count what it cost.

    Returns:
        Whether it gave a frame.
    """
    if not confined._pool._idle:
        images.decode_confined(images.encode_png(np.zeros((9, 9, 3), np.uint8)))
    worker = confined._pool._idle[-1]  # the next one to be used
    process = psutil.Process(worker.process.pid)
    before, own, began = process.cpu_times(), time.process_time(), time.monotonic()
    failure, frame = "", None
    try:
        frame = images.decode_confined(data, name=name)
    except ImageError as error:
        if "exited unexpectedly" in str(error):
            failure = f"crash: {error}"
            costs.crashes += 1
        elif name not in str(error):
            failure = f"no name in: {error}"
            costs.crashes += 1
    except Exception as error:  # noqa: BLE001  any other exception is a finding
        failure = f"{type(error).__name__}: {error}"
        costs.crashes += 1
    wall_s, cpu_s = time.monotonic() - began, time.process_time() - own
    with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):  # it crashed
        after = process.cpu_times()
        cpu_s += after.user + after.system - before.user - before.system
        memory = _high_water(process.pid)
        costs.most_bytes = max(costs.most_bytes, memory)
        if memory > MOST_BYTES:
            costs.large += 1
            failure = failure or f"{memory / 1e6:.0f} MB"
    if cpu_s > MOST_S:
        costs.slow += 1
        failure = failure or f"{cpu_s:.1f} s"
    costs.tried += 1
    costs.frames += frame is not None
    costs.refused += frame is None
    costs.longest_s, costs.longest_wall_s = max(costs.longest_s, cpu_s), max(costs.longest_wall_s, wall_s)
    if failure:
        _keep(costs, data, name, failure)
    return frame is not None


def mutate_pictures(count: int, *, seed: int, valid: int = 12, out: Path | None = None) -> dict[str, Any]:
    """Decode mutated pictures, half of them changed only after their header.

    Args:
        count: How many.
        seed: Random seed.
        valid: Valid pictures of each kind that are changed.
        out: Folder for pictures that failed.

    Returns:
        The figures: of all, and the frames and refusals of each format.
    """
    rng = np.random.default_rng(seed)
    made = {kind: [make(rng) for make in ways.values() for _ in range(valid)] for kind, ways in seeds.makers().items()}
    kinds, costs, seen = list(made), Costs(out=out), Counter[str]()
    began = time.monotonic()
    for number in track(range(count), "Pictures", total=count):
        kind, in_body = kinds[number % len(kinds)], (number // len(kinds)) % 2 == 0
        data, other = (made[kind][int(rng.integers(len(made[kind])))] for _ in range(2))
        header = min(seeds.HEADER_BYTES[kind], len(data) // 2)
        start, end = (header, len(data)) if in_body else (0, header + 8)
        changed = mutant(data, other, start, end, rng)
        where = "body" if in_body else "header"
        seen[f"{kind} {where}"] += 1
        seen[f"{kind} {where} to a decoder"] += _has_header(changed)
        seen[f"{kind} {where} frames"] += decode_counted(changed, f"{kind}-{number}", costs)
    for data in seeds.foreign(rng):
        seen["foreign"] += 1
        seen["foreign refused"] += not decode_counted(data, "foreign", costs)
    figures = costs.to_json()
    figures["altered_after_header"] = sum(seen[f"{kind} body"] for kind in kinds)
    figures["reached_a_decoder"] = sum(seen[f"{kind} {where} to a decoder"] for kind in kinds for where in _WHERE)
    figures["foreign"], figures["foreign_refused"] = seen["foreign"], seen["foreign refused"]
    figures["formats"] = {
        kind: {where: {name: seen[f"{kind} {where}{more}"] for name, more in _COUNTED.items()} for where in _WHERE}
        for kind in kinds
    }
    figures["wall_s"] = round(time.monotonic() - began, 1)
    return figures


_WHERE = ("header", "body")
_COUNTED = {"tried": "", "to_a_decoder": " to a decoder", "frames": " frames"}


def _has_header(data: bytes) -> bool:
    try:
        images.read_header(data)
    except ImageError:
        return False
    return True


def _high_water(pid: int) -> float:
    """The most memory that a process held since the last call, in bytes."""
    folder = Path(f"/proc/{pid}")
    lines = (folder / "status").read_text().splitlines()
    found = float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    (folder / "clear_refs").write_text("5")
    return found


def _keep(costs: Costs, data: bytes, name: str, failure: str) -> None:
    costs.first_failures.append(f"{name}: {failure}"[:200])
    if costs.out is not None:
        costs.out.mkdir(parents=True, exist_ok=True)
        (costs.out / f"{name}-{hashlib.sha256(data).hexdigest()[:8]}").write_bytes(data)
