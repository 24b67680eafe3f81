"""How hard the pictures are."""

from __future__ import annotations

from dataclasses import dataclass

from gonogo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """0 is plain, 1 is hard; it moves contrast and width of the defects, clutter, pose, light and noise together."""

    difficulty: float

    def __post_init__(self) -> None:
        if not 0 <= self.difficulty <= 1:
            raise InputError(f"expected a difficulty from 0 (plain) to 1 (hard), found {self.difficulty}.")

    def between(self, easy: float, hard: float) -> float:
        """A setting that goes from ``easy`` at 0 to ``hard`` at 1."""
        return easy + (hard - easy) * self.difficulty
