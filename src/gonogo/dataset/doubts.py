"""Doubtful labels, ranked: found by `gonogo.evidence.doubts`, shown in a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gonogo.dataset.records import Sample
from gonogo.schema import Label


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A picture whose label the evidence contradicts."""

    sample: Sample
    score: float
    """Out-of-fold score: positive for bad, negative for good."""
    likely: Label

    def to_json(self) -> dict[str, Any]:
        """Ready for ``json.dumps``."""
        return {
            "file": self.sample.file_name,
            "part": self.sample.part_id,
            "split": None if self.sample.split is None else self.sample.split.value,
            "label": None if self.sample.label is None else self.sample.label.value,
            "defect": self.sample.defect,
            "score": self.score,
            "likely": self.likely.value,
        }


@dataclass(frozen=True, kw_only=True)
class LabelDoubts:
    """All doubtful labels of a data set, the most contradicted first."""

    found: tuple[Doubt, ...]
    pictures: int
    """Number of labelled pictures that were scored."""
    bad_pictures: int
    auroc: float | None
    """AUROC of the scores against the current labels; ``None`` if scores are distances from good parts."""
    unreadable: tuple[str, ...] = ()
    """Labelled pictures that could not be read, or in which the part was not found."""
