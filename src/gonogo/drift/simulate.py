"""How soon the alarm finds a change, and how often it cries wolf: lines simulated from measured parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float64

from gonogo.drift.alarm import RISK, Watch
from gonogo.drift.signs import Signs
from gonogo.operating_point.audit import bet, kept_back
from gonogo.schema import Frame

DIMMED = 0.8
"""Light that is left."""
DEFOCUS_PIXELS = 2.0
"""Standard deviation of the blur, for a picture whose longer side has 640 pixels."""

_ENCODED = np.arange(256) / 255
_LINEAR = np.where(_ENCODED <= 0.04045, _ENCODED / 12.92, ((_ENCODED + 0.055) / 1.055) ** 2.4)


def dim(frame: Frame, left: float = DIMMED) -> Frame:
    """The frame under a lamp that gives only so much of its light (sRGB, IEC 61966-2-1); clipped highlights stay."""
    light = _LINEAR * left
    encoded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(cv2.LUT(frame, np.rint(encoded * 255).astype(np.uint8)), np.uint8)


def defocus(frame: Frame, pixels: float = DEFOCUS_PIXELS) -> Frame:
    """The frame through a lens out of focus, as a Gaussian blur."""
    sigma = pixels * max(frame.shape[:2]) / 640
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma), np.uint8)


@dataclass(frozen=True, kw_only=True)
class Waits:
    """When the alarm came on each simulated line, in parts; infinite where it did not."""

    parts: Float64[np.ndarray, " lines"]
    length: int
    """Parts that each line had."""

    @property
    def alarms(self) -> int:
        """Lines with an alarm."""
        return int(np.isfinite(self.parts).sum())

    def quantile(self, share: float) -> float | None:
        """After how many parts this share of the lines had raised the alarm; ``None`` where they had not."""
        value = float(np.quantile(self.parts, share, method="higher"))
        return value if math.isfinite(value) else None


def strange_parts(watches: Sequence[Watch], pool: Sequence[Signs]) -> Bool[np.ndarray, "parts watches"]:
    """Which parts are strange to which watch."""
    return np.array([[watch.strange(signs) for watch in watches] for signs in pool], bool).reshape(-1, len(watches))


def run_lines(
    watches: Sequence[Watch],
    draw: Callable[[np.random.Generator, int], Bool[np.ndarray, "lines watches"]],
    *,
    lines: int,
    length: int,
    rng: np.random.Generator,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Waits:
    """Run the drift test on many lines at once, as `DriftTest` would on each.

    Args:
        watches: The bundle's.
        draw: Strangeness of the next part of every line; gets the generator and how many parts went before.
        lines: How many.
        length: Parts of each.
        rng: Seeded.
        track: Shows progress over the parts.
    """
    rates = np.array([watch.rate for watch in watches])
    stakes = [np.zeros((lines, 3)) for _ in watches]
    waits = np.full(lines, np.inf)
    for before in track(range(length)):
        strange = draw(rng, before)
        total = np.full(lines, len(watches) * kept_back(before + 1))
        for number, rate in enumerate(rates.tolist()):
            stakes[number] = bet(stakes[number], before + 1, strange[:, number], rate)
            total += stakes[number].sum(axis=1)
        alarmed = total / len(watches) * RISK / 2 >= 1.0
        waits[alarmed & np.isinf(waits)] = before + 1
    return Waits(parts=waits, length=length)


def mixture(
    usual: Bool[np.ndarray, "parts watches"],
    other: Bool[np.ndarray, "others watches"],
    *,
    share: float,
    lines: int,
    start: int = 0,
) -> Callable[[np.random.Generator, int], Bool[np.ndarray, "lines watches"]]:
    """Draws usual parts, and from part ``start`` on a share of others, with replacement."""

    def draw(rng: np.random.Generator, before: int) -> Bool[np.ndarray, "lines watches"]:
        parts = usual[rng.integers(len(usual), size=lines)]
        if before < start or not len(other) or not share:
            return parts
        swapped = rng.random(lines) < share
        return np.where(swapped[:, None], other[rng.integers(len(other), size=lines)], parts)

    return draw
