"""Labelling: pictures one after the other, proposals for the part's place, and which picture to label next."""

from __future__ import annotations

from dataclasses import dataclass

from gonogo.server.database import Database
from gonogo.server.dataset_store import Datasets
from gonogo.server.label.doubt import LabelModelDoubts
from gonogo.server.label.photos import Photos
from gonogo.server.label.picture_label import Rows
from gonogo.server.label.presence import Presence
from gonogo.server.label.proposals import Proposals
from gonogo.server.label.shortcuts import Shortcuts
from gonogo.server.training.jobs import Jobs


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """What the label page needs besides the data sets."""

    photos: Photos
    rows: Rows
    presence: Presence
    doubts: LabelModelDoubts
    proposals: Proposals
    shortcuts: Shortcuts

    @classmethod
    def of(cls, database: Database, datasets: Datasets, jobs: Jobs) -> Labelling:
        """For a workspace."""
        return cls(
            photos=Photos(),
            rows=Rows(),
            presence=Presence(),
            doubts=LabelModelDoubts(datasets, jobs.trained_on),
            proposals=Proposals(datasets, jobs.trained_on),
            shortcuts=Shortcuts(database),
        )

    def close(self) -> None:
        """Stop judging and searching in the background."""
        self.doubts.close()
        self.proposals.close()


__all__ = ["Labelling"]
