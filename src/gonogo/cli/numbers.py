"""Parses numbers that options take as text."""

from __future__ import annotations

import math


def parse_numbers(option: str, text: str, count: int) -> list[float]:
    """Parse numbers separated by commas.

    Raises:
        InputError: There are not ``count`` finite numbers.
    """
    from gonogo.errors import InputError

    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise InputError(f"{option}: expected {count} numbers separated by commas, found {text[:80]!r}.")
    return values


def parse_corners_wh(text: str) -> tuple[int, int]:
    """Parse the number of inner corners of a checkerboard, such as ``9x6``.

    Raises:
        InputError: It is something else.
    """
    from gonogo.errors import InputError

    across, _, down = text.lower().partition("x")
    if not (across.isdecimal() and down.isdecimal() and len(text) < 10):
        raise InputError(f"--checkerboard: expected two numbers of inner corners, such as 9x6, found {text[:80]!r}.")
    return int(across), int(down)
