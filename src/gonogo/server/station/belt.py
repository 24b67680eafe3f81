"""The parts between camera and gate, as the station page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class BeltPart:
    """One part on its way to the gate."""

    id: str
    share: float
    """Its way from the camera (0) to the gate (1)."""
    mark: str
    """``go`` if it will pass, ``wait`` before it has a verdict, else ``no_go``: it will be rejected."""


@dataclass(frozen=True, kw_only=True)
class Belt:
    """Everything between camera and gate."""

    parts: tuple[BeltPart, ...]
    """The next one at the gate first; at most 60."""
    in_flight: int
    rejected: int
    """Number of those parts that will be rejected as things stand."""
    unconfirmed: int
    stopped: bool
    passed: int
    """Parts that passed the gate since the station started."""
    fired: int
    """Rejects that were ordered since then."""
    confirmed: int


def read_belt(tracking: Mapping[str, Any] | None) -> Belt | None:
    """Read the section ``tracking`` of a station's status; ``None`` if there is none."""
    if tracking is None:
        return None
    counts = tracking["counts"]
    marks = [_part(each, tracking["distance"]) for each in tracking["parts"]]
    return Belt(
        parts=tuple(marks[:_SHOWN]),
        in_flight=len(marks),
        rejected=sum(each.mark == "no_go" for each in marks),
        unconfirmed=tracking["unconfirmed"],
        stopped=bool(tracking["stopped"]),
        passed=counts.get("passed", 0),
        fired=counts.get("fired", 0),
        confirmed=counts.get("confirmed", 0),
    )


def _part(values: Mapping[str, Any], distance: int) -> BeltPart:
    waits = values["verdict"] is None
    mark = "wait" if waits else "no_go" if values["rejected"] else "go"
    share = min(1.0, max(0.0, 1 - values["left"] / distance))
    return BeltPart(id=values["id"], share=round(share, 3), mark=mark)
