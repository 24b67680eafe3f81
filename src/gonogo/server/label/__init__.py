"""The label page: labels, region proposals, and the order of pictures."""

from __future__ import annotations

from dataclasses import dataclass

from gonogo.server.database import Database
from gonogo.server.dataset_store import Datasets
from gonogo.server.label.doubt import LabelModelDoubts
from gonogo.server.label.growing import ColourPlanes
from gonogo.server.label.photos import Photos
from gonogo.server.label.picture_label import RowCache
from gonogo.server.label.presence import Presence
from gonogo.server.label.proposals import Proposals
from gonogo.server.label.shortcuts import Shortcuts
from gonogo.server.training.jobs import Jobs


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """Components of the label page."""

    photos: Photos
    planes: ColourPlanes
    rows: RowCache
    presence: Presence
    doubts: LabelModelDoubts
    proposals: Proposals
    shortcuts: Shortcuts

    @classmethod
    def of(cls, database: Database, datasets: Datasets, jobs: Jobs) -> Labelling:
        """Create it for a workspace."""
        return cls(
            photos=Photos(),
            planes=ColourPlanes(),
            rows=RowCache(),
            presence=Presence(),
            doubts=LabelModelDoubts(datasets, jobs.trained_on),
            proposals=Proposals(datasets, jobs.trained_on),
            shortcuts=Shortcuts(database),
        )

    def close(self) -> None:
        """Stop background work."""
        self.doubts.close()
        self.proposals.close()


__all__ = ["Labelling"]
