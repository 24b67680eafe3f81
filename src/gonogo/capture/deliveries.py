"""Pictures that come by themselves, and the settings by which they are matched to triggers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import Field

from gonogo.config import Strict

Content = TypeVar("Content")
"""What a picture is held as: its bytes, or its file."""

LEFTOVERS = ("late", "doubled", "misnamed", "unasked", "clock", "refused")
"""Why a picture was not used: its trigger had given up; another of the same trigger or the same bytes came before; its
capture time contradicts its name; no trigger asked for it; its capture time lies in the future; there was no room."""


class Matching(Strict):
    """How pictures are matched to triggers; part of ``[views.camera]``."""

    any_name: bool = False
    """Pictures need not carry their trigger's name; without a capture time, only their order ties them to parts."""
    early_ms: float = Field(default=0.0, ge=0, le=10_000)
    """How long before its trigger a picture may be taken."""
    latest_s: float = Field(default=5.0, gt=0, le=600)
    """The longest time from a trigger to the arrival of its picture. One that is even later may be taken for another
    part's where nothing but the order ties it to its own."""
    taken_within_s: float | None = Field(default=None, gt=0, le=600)
    """How long after its trigger a picture may be taken; ``camera_timeout_s`` where omitted."""
    clock_error_ms: float = Field(default=20.0, ge=0, le=10_000)
    """How far the clock that states capture times may be off this computer's."""
    keep_s: float = Field(default=30.0, gt=0, le=3_600)
    """How long a picture waits for the trigger of its name."""
    max_waiting: int = Field(default=8, ge=1, le=1_000)
    """How many pictures may wait."""
    max_waiting_mb: int = Field(default=256, ge=1)
    """How much memory waiting pictures may take."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Delivered(Generic[Content]):
    """A picture that has come."""

    content: Content
    digest: str
    """Of its bytes."""
    arrived_s: float
    """When, monotonic."""
    names: frozenset[str] = frozenset()
    """The names that its trigger may have."""
    named: bool = False
    """One of ``names`` is its trigger's; otherwise they mean something only where a trigger has one of them."""
    captured_s: float | None = None
    """When it was taken, on this computer's monotonic clock; ``None`` where its source does not state it."""
    ticket: int = 0
    """The room that was kept for it."""


@dataclass(frozen=True, kw_only=True)
class Matched(Generic[Content]):
    """A trigger's own picture."""

    picture: Delivered[Content]
    sole_until_s: float | None
    """It is the trigger's only where no other one came after it and before this moment, monotonic; ``None`` where its
    name proves it."""
