"""The inspectors of a workspace and their scores on the labelled pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gonogo.server.background_work import Worker
from gonogo.server.dataset_store import Datasets
from gonogo.server.inspectors.bundles import OpenBundle, OpenBundles
from gonogo.server.inspectors.judged import JudgedPictures, JudgedPicturesCache, Neighbour
from gonogo.server.language import N_
from gonogo.server.training.jobs import Jobs
from gonogo.server.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Inspectors:
    """Read access to bundles and their scores; only `refresh` starts work."""

    workspace: Workspace
    jobs: Jobs
    bundles: OpenBundles
    judged: JudgedPicturesCache
    worker: Worker

    @classmethod
    def of(cls, workspace: Workspace, datasets: Datasets, jobs: Jobs, cache: Path, worker: Worker) -> Inspectors:
        """Create it for a workspace; scores are cached in the folder ``cache``, which can be deleted."""
        return cls(
            workspace=workspace,
            jobs=jobs,
            bundles=OpenBundles(workspace.signatures),
            judged=JudgedPicturesCache(datasets, jobs, cache, worker),
            worker=worker,
        )

    def in_use(self) -> OpenBundle | None:
        """The bundle in use; ``None`` if it is not signed as the workspace requires."""
        return self.bundles.open_trusted(self.workspace.active_bundle())

    def pictures(self) -> JudgedPictures | None:
        """Scores of the bundle in use on its training and calibration pictures; ``None`` if not judged yet."""
        opened = self.in_use()
        return None if opened is None else self.judged.of(opened)

    def refresh(self) -> None:
        """Judge missing or changed pictures in the background."""
        opened = self.in_use()
        if opened is not None:
            self.judged.refresh(opened)

    def same_product(self, bundle_sha256: str | None) -> bool:
        """Whether a part was judged by the inspector in use or by one trained on a data set of the same name.

        Also true if the bundle that judged it is unknown or no inspector is in use.
        """
        opened = self.in_use()
        if opened is None or bundle_sha256 is None or bundle_sha256 in opened.family:
            return True
        made_from = {job.request.bundle: job.request.dataset for job in self.jobs.all()}
        dataset = made_from.get(opened.name)
        if dataset is None:
            return False
        for path in self.workspace.bundle_paths():
            other = self.bundles.open(path) if made_from.get(path.name) == dataset else None
            if other is not None and bundle_sha256 in other.family:
                return True
        return False

    def why_unknown(self, opened: OpenBundle) -> str:
        """Explain why a bundle has no labelled pictures; the message is marked with ``N_``."""
        made = [job.request.dataset for job in self.jobs.all() if job.request.bundle == opened.name]
        if made and made[0] in self.judged.names():
            return N_(
                "Training pictures or labels have changed since this inspector was trained, so no data set is used "
                "for certification, examples, kinds of defect or blind checks. Train again."
            )
        return N_(
            "No data set in this workspace holds exactly the pictures and labels that this inspector was trained on, "
            "so none is used for certification, examples, kinds of defect or blind checks."
        )


__all__ = ["Inspectors", "JudgedPictures", "Neighbour", "OpenBundle"]
