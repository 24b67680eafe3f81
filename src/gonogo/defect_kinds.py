"""Which kind of defect a part shows: the kinds that an inspector was trained on, and when none of them fits."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from gonogo.array_types import Float
from gonogo.config import Strict

UNLIKE = "unlike any known kind"
"""Reported in place of a kind when none is likely enough."""

KindName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class KnownKinds(Strict):
    """The defect kinds that the graph's output ``kinds`` distinguishes, in the order of that output."""

    names: tuple[KindName, ...] = Field(min_length=2, strict=False)
    least_share: float = Field(ge=0, le=1)
    """A part is unlike any known kind if its likeliest kind has a smaller share than this, or if no defect is more
    likely; see `gonogo.evidence.kinds`."""
    named_right: float = Field(ge=0, le=1)
    """Accuracy on bad pictures left out of the fit (balanced over the kinds)."""

    def name(self, logits: Float[np.ndarray, " kinds"]) -> tuple[str, float | None]:
        """Return the likeliest kind and its share, or `UNLIKE` and ``None``.

        Args:
            logits: Logit of each kind, relative to a part without a defect, whose logit is 0.
        """
        share = kind_shares(logits)
        best = int(np.argmax(share))
        if not (share[best] >= self.least_share and logits[best] >= 0):  # also true for NaN
            return UNLIKE, None
        return self.names[best], float(share[best])


def kind_shares(logits: Float[np.ndarray, "*pictures kinds"]) -> Float[np.ndarray, "*pictures kinds"]:
    """Softmax over the kinds and "no defect", whose logit is 0; returns the shares of the kinds only."""
    highest = np.maximum(logits.max(-1, keepdims=True), 0.0)
    powers = np.exp(np.asarray(logits, np.float64) - highest)
    found: Float[np.ndarray, "*pictures kinds"] = powers / (powers.sum(-1, keepdims=True) + np.exp(-highest))
    return found


def describe_kind(kind: str, share: float | None) -> str:
    """Format a kind for display: ``scratch (91 %)``, or `UNLIKE`."""
    return kind if share is None else f"{kind} ({100 * share:.0f} %)"
