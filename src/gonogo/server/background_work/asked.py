"""What a person asked the server to do in the background, in a form that survives a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import JsonValue


class WorkKind(StrEnum):
    """The kinds of background work that people ask for, besides training."""

    CERTIFY = "certify"
    COMPARE = "compare"
    JUDGE = "judge"
    EXPORT = "export"
    VERIFY = "verify"


class WorkState(StrEnum):
    """What has become of it."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """The server was stopped or killed before it was done."""
    SETTLED = "settled"
    """It had been interrupted, and was then continued or dismissed."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One thing that a person asked for."""

    kind: WorkKind
    who: str
    about: str = ""
    """What it is about, for people: the name of a data set, an inspector or a file."""
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    """What is needed to ask for it again."""
