"""Renders a crack on a plain surface, with its mask: a picture of something that no ImageNet class shows."""

from __future__ import annotations

import cv2
import numpy as np

from gonogo.array_types import Bool, Float64
from gonogo.schema import Frame

SIZE_WH = (640, 480)
_SURFACE = 168.0
_DARKEST = 92.0
"""How much darker than the surface the middle of the crack is, in grey levels."""
_STEPS = 220


def render_crack(
    seed: int = 0, *, size_wh: tuple[int, int] = SIZE_WH
) -> tuple[Frame, Bool[np.ndarray, "rows columns"]]:
    """Render a plain, slightly uneven surface with one branching crack.

    Args:
        seed: Random seed; the same seed gives the same picture.
        size_wh: Width and height in pixels.

    Returns:
        The picture, uint8 RGB, and the pixels of the crack.
    """
    rng = np.random.default_rng(seed)
    width, height = size_wh
    start = np.array([rng.uniform(0.05, 0.15) * width, rng.uniform(0.35, 0.65) * height])
    trunk = _path(rng, start, rng.uniform(-0.25, 0.25), width / _STEPS)
    fork = int(rng.integers(_STEPS // 3, 2 * _STEPS // 3))
    branch = _path(rng, trunk[fork], rng.choice([-1, 1]) * rng.uniform(0.5, 0.8), width * 0.4 / _STEPS)
    depth = np.zeros((height, width), np.float32)
    for path, thickness in ((trunk, 4.0), (branch, 2.5)):
        _carve(depth, path, thickness * width / SIZE_WH[0])
    uneven = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), width / 16)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 0.8)
    grey = _SURFACE + 7 * uneven / max(float(uneven.std()), 1e-6) + 3 * grain / float(grain.std()) - _DARKEST * depth
    tint = np.array([1.0, 0.985, 0.955], np.float32)
    return np.clip(grey[..., None] * tint, 0, 255).astype(np.uint8), depth > 0.3


def _path(rng: np.random.Generator, start: Float64[np.ndarray, "2"], heading: float, step: float) -> np.ndarray:
    """A random walk whose heading wanders around its first one; points ``x, y`` in pixels."""
    wander = np.zeros(_STEPS)
    for index in range(1, _STEPS):
        wander[index] = 0.9 * wander[index - 1] + rng.normal(0, 0.24)
    angles = heading + wander
    return start + np.cumsum(step * np.column_stack([np.cos(angles), np.sin(angles)]), axis=0)


def _carve(depth: np.ndarray, path: np.ndarray, thickness: float) -> None:
    """Draw a path that thins towards its end, blurred by half a pixel, with depths up to 1."""
    drawn = np.zeros_like(depth)
    for index in range(len(path) - 1):
        thick = thickness * (1 - 0.75 * index / len(path))
        ends = [tuple(int(value) for value in np.rint(path[each] * 16)) for each in (index, index + 1)]
        cv2.line(drawn, ends[0], ends[1], 1.0, max(1, round(thick)), cv2.LINE_AA, 4)
    np.maximum(depth, cv2.GaussianBlur(drawn, (0, 0), 0.7), out=depth)
