"""The defect kinds that verdicts name, held against those that people labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gonogo.defect_kinds import UNLIKE
from gonogo.evaluate.rates import Rate
from gonogo.schema import Label, Prediction


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Bad parts with a labelled kind, by that kind and by the one that the verdict names."""

    labelled: tuple[str, ...]
    """The rows, in alphabetical order."""
    named: tuple[str, ...]
    """The columns: kinds in alphabetical order, last `UNLIKE`."""
    counts: tuple[tuple[int, ...], ...]
    not_named: tuple[int, ...]
    """Parts of each row whose verdict names nothing: those judged go, and faults."""
    right: Rate
    """Of the parts for which a kind was named, those for which it is the labelled one."""
    unlike: Rate
    """Of the parts rejected or sent to a person, those unlike any known kind."""

    def to_json(self) -> dict[str, Any]:
        """Ready for ``json.dumps``."""
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
    """Hold the kinds that verdicts name against the labelled ones; ``None`` where no verdict names any.

    Args:
        parts: One row per part.
        confidence: Of the intervals.
    """
    known = [part for part in parts if part.label is Label.BAD and part.defect is not None]
    told = [(part.defect, part.kind) for part in known if part.kind is not None]
    if not told:
        return None
    labelled = tuple(sorted({part.defect for part in known if part.defect is not None}))
    named = (*sorted({kind for _, kind in told} - {UNLIKE}), UNLIKE)
    return Naming(
        labelled=labelled,
        named=named,
        counts=tuple(tuple(told.count((row, column)) for column in named) for row in labelled),
        not_named=tuple(sum(part.defect == row and part.kind is None for part in known) for row in labelled),
        right=Rate.of_outcomes((defect == kind for defect, kind in told if kind != UNLIKE), confidence=confidence),
        unlike=Rate.of_outcomes((kind == UNLIKE for _, kind in told), confidence=confidence),
    )
