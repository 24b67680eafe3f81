"""Which kind of defect a part shows: the kinds an inspector was taught, and when a part is unlike all of them."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from gonogo.array_types import Float
from gonogo.config import Strict

UNLIKE = "unlike any known kind"
"""Stands in the place of a kind where none is likely enough."""

KindName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class KnownKinds(Strict):
    """The defect kinds that the graph's output ``kinds`` tells apart, in its order."""

    names: tuple[KindName, ...] = Field(min_length=2, strict=False)
    least_share: float = Field(ge=0, le=1)
    """A part whose likeliest kind has a smaller share is unlike any known kind, and so is one that is likelier to have
    no defect; see `gonogo.evidence.kinds`."""
    named_right: float = Field(ge=0, le=1)
    """Share of the bad pictures left out of the fit whose likeliest kind was the labelled one, every kind weighing the
    same."""

    def name(self, logits: Float[np.ndarray, " kinds"]) -> tuple[str, float | None]:
        """The likeliest kind with its share, or `UNLIKE` without one.

        Args:
            logits: Of each kind, against a part without a defect, which has 0.
        """
        share = kind_shares(logits)
        best = int(np.argmax(share))
        if not (share[best] >= self.least_share and logits[best] >= 0):  # NaN is no share either
            return UNLIKE, None
        return self.names[best], float(share[best])


def kind_shares(logits: Float[np.ndarray, "*pictures kinds"]) -> Float[np.ndarray, "*pictures kinds"]:
    """Softmax over the kinds and a part without a defect, whose logit is 0; the latter's share is left out."""
    highest = np.maximum(logits.max(-1, keepdims=True), 0.0)
    powers = np.exp(np.asarray(logits, np.float64) - highest)
    found: Float[np.ndarray, "*pictures kinds"] = powers / (powers.sum(-1, keepdims=True) + np.exp(-highest))
    return found


def describe_kind(kind: str, share: float | None) -> str:
    """For people: ``scratch (91 %)``, or `UNLIKE`."""
    return kind if share is None else f"{kind} ({100 * share:.0f} %)"
