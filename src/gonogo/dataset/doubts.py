"""Labels that something contradicts, ranked: what `gonogo.evidence.doubts` finds and a report shows."""

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
    """Out of fold: positive speaks for bad, negative for good."""
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
    """All doubted labels of a data set, the most contradicted first."""

    found: tuple[Doubt, ...]
    pictures: int
    """Labelled pictures that were scored."""
    bad_pictures: int
    auroc: float | None
    """Of the scores against the labels as they are; ``None`` where the labels were compared with good parts alone."""
    unreadable: tuple[str, ...] = ()
    """Labelled pictures that could not be read or in which the part was not found."""
