"""Values that several commands print."""

from __future__ import annotations

from typing import NotRequired

from gonogo.cli.printed.build import Document
from gonogo.schema import Claim


class OperatingPointJson(Document):
    """Two thresholds on the score, and the counts that prove them; see `gonogo.operating_point.to_json`."""

    go_below: float | None
    """A score below it is go; ``null`` if no part passes."""
    no_go_above: float | None
    """A score above it is no-go; ``null`` if no part is rejected."""
    escape: Claim
    overkill: Claim
    joint: bool
    """Whether both claims hold together at their confidence."""
    scores_sha256: str
    data_fingerprint: str
    zones_sha256: NotRequired[str]
    go_without_promise: bool
    rules_sha256: str
