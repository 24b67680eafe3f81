"""Compares the defect kinds named by verdicts with the labelled kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gonogo.defect_kinds import UNLIKE
from gonogo.evaluate.rates import Rate
from gonogo.schema import Label, Prediction


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Confusion table of bad parts: labelled kind against the kind named by the verdict."""

    labelled: tuple[str, ...]
    """Rows: labelled kinds in alphabetical order."""
    named: tuple[str, ...]
    """Columns: named kinds in alphabetical order, then `UNLIKE`."""
    counts: tuple[tuple[int, ...], ...]
    not_named: tuple[int, ...]
    """Parts of each row whose verdict names no kind: those judged go, and faults."""
    right: Rate
    """Share of the parts with a named kind for which it is the labelled one."""
    unlike: Rate
    """Share of the parts rejected or sent to review that are unlike any known kind."""

    def to_json(self) -> dict[str, Any]:
        """Return the table, ready for ``json.dumps``."""
        rows = zip(self.labelled, self.counts, self.not_named, strict=True)
        return {
            **self.right.to_json("right"),
            **self.unlike.to_json("unlike"),
            "rows": [
                {"labelled": kind, "named": dict(zip(self.named, counts, strict=True)), "not_named": missing}
                for kind, counts, missing in rows
            ],
        }


def naming(parts: Sequence[Prediction], confidence: float) -> Naming | None:
    """Compare the kinds named by verdicts with the labelled ones; ``None`` if no verdict names any.

    Args:
        parts: One row per part.
        confidence: Confidence of the intervals.
    """
    with_kind = [part for part in parts if part.label is Label.BAD and part.defect is not None]
    pairs = [(part.defect, part.kind) for part in with_kind if part.kind is not None]
    if not pairs:
        return None
    labelled = tuple(sorted({part.defect for part in with_kind if part.defect is not None}))
    named = (*sorted({kind for _, kind in pairs} - {UNLIKE}), UNLIKE)
    return Naming(
        labelled=labelled,
        named=named,
        counts=tuple(tuple(pairs.count((row, column)) for column in named) for row in labelled),
        not_named=tuple(sum(part.defect == row and part.kind is None for part in with_kind) for row in labelled),
        right=Rate.of_outcomes((defect == kind for defect, kind in pairs if kind != UNLIKE), confidence=confidence),
        unlike=Rate.of_outcomes((kind == UNLIKE for _, kind in pairs), confidence=confidence),
    )
