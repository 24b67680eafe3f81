"""Pictures that arrive without a request, and the settings for matching them to triggers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import Field

from gonogo.config import Strict

Content = TypeVar("Content")
"""Type of a picture's content: its bytes, or its file."""

LEFTOVERS = ("late", "doubled", "misnamed", "unasked", "clock", "refused")
"""Why a picture was not used: its trigger had timed out; another one of the same trigger or with the same bytes came
before; its capture time contradicts its name; no trigger asked for it; its capture time is in the future; no room."""


class Matching(Strict):
    """Settings for matching pictures to triggers; part of ``[cameras.camera]``."""

    any_name: bool = False
    """Accept pictures under any name. Without a capture time, they are matched to parts by order only."""
    early_ms: float = Field(default=0.0, ge=0, le=10_000)
    """How long before its trigger a picture may be taken."""
    latest_s: float = Field(default=5.0, gt=0, le=600)
    """Longest time from a trigger to the arrival of its picture. If pictures are matched by order only, a later one may
    be assigned to another part."""
    taken_within_s: float | None = Field(default=None, gt=0, le=600)
    """How long after its trigger a picture may be taken. Default: ``camera_timeout_s``."""
    clock_error_ms: float = Field(default=20.0, ge=0, le=10_000)
    """Largest error of the clock that states capture times, relative to this computer's."""
    keep_s: float = Field(default=30.0, gt=0, le=3_600)
    """How long a picture waits for the trigger of its name."""
    max_waiting: int = Field(default=8, ge=1, le=1_000)
    """Largest number of waiting pictures."""
    max_waiting_mb: int = Field(default=256, ge=1)
    """Largest total size of waiting pictures."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Delivered(Generic[Content]):
    """A picture that has arrived."""

    content: Content
    digest: str
    """SHA-256 of the bytes."""
    arrived_s: float
    """Monotonic time of arrival."""
    names: frozenset[str] = frozenset()
    """Possible names of its trigger."""
    named: bool = False
    """One of ``names`` certainly is the trigger's. Otherwise a name counts only if there is a trigger with it."""
    captured_s: float | None = None
    """Capture time on this computer's monotonic clock; ``None`` if the source does not state it."""
    ticket: int = 0
    """Ticket of the memory that was reserved for it."""


@dataclass(frozen=True, kw_only=True)
class Matched(Generic[Content]):
    """The picture of a trigger."""

    picture: Delivered[Content]
    sole_until_s: float | None
    """The picture belongs to the trigger only if no other trigger came before this monotonic time; ``None`` if the
    picture was matched by name."""
