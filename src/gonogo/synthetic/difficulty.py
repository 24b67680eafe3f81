"""Difficulty of the rendered pictures."""

from __future__ import annotations

from dataclasses import dataclass

from gonogo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """Difficulty from 0 (easy) to 1 (hard): defect contrast and width, clutter, pose, light and noise."""

    difficulty: float

    def __post_init__(self) -> None:
        if not 0 <= self.difficulty <= 1:
            raise InputError(f"expected a difficulty from 0 (easy) to 1 (hard), found {self.difficulty}.")

    def between(self, easy: float, hard: float) -> float:
        """Interpolate from ``easy`` at 0 to ``hard`` at 1."""
        return easy + (hard - easy) * self.difficulty
