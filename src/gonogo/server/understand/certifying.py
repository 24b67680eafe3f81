"""Certification of new limits in the background, recorded in the ledger before it starts and when it is done."""

from __future__ import annotations

import os
from dataclasses import replace

from gonogo import certification
from gonogo.bundle import Bundle
from gonogo.certification import Certified, promise_in_force
from gonogo.dataset import Dataset, Split
from gonogo.errors import DatasetError, UnfitError
from gonogo.images import Photograph
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise
from gonogo.schema import Verdict
from gonogo.server.background_work import Asked, Task, Worker, WorkKind
from gonogo.server.dataset_store import Datasets
from gonogo.server.inspectors.bundles import OpenBundle, seal_of
from gonogo.server.inspectors.judged import JudgedPictures
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.signatures import LIMITS_SET, Signatures, Signer, limits_of
from gonogo.server.training.jobs import Jobs
from gonogo.signed_actions import SIGNED

ASKED = "operating_point_asked"


class Certifier:
    """Certifies limits and writes them into the bundle as a new revision."""

    def __init__(
        self, ledger_pool: LedgerPool, signatures: Signatures, datasets: Datasets, jobs: Jobs, worker: Worker
    ) -> None:
        self._ledger_pool, self._signatures = ledger_pool, signatures
        self._datasets, self._jobs, self._worker = datasets, jobs, worker

    def start(
        self,
        opened: OpenBundle,
        judged: JudgedPictures,
        signer: Signer,
        *,
        max_escape: float,
        max_overkill: float,
        bad_share: float,
    ) -> Task:
        """Start the certification; it uses the calibrate split once, whatever the result.

        The signer's key stays open until the new limits are recorded and signed; it is in memory alone, so after the
        end of the server the limits must be asked for, and signed, again.

        Raises:
            RefusedError: a certification is already running.
        """
        running = self._worker.task("set")
        if running is not None and not running.over:
            raise RefusedError(N_("Limits are already being set. Wait until that has finished."))
        limits = {"max_escape": max_escape, "max_overkill": max_overkill, "bad_share": bad_share}
        self._ledger_pool.act(
            ASKED,
            signer.who,
            bundle=opened.name,
            before=opened.sha256,
            max_escape=max_escape,
            max_overkill=max_overkill,
            key_id=None if signer.key is None else signer.key.key_id,
        )
        arguments = {**limits, **({} if signer.key is None else {SIGNED: True})}
        return self._worker.submit(
            "set",
            N_("Certifying the new limits"),
            lambda task: self._set(opened, judged, limits, signer, task),
            asked=Asked(kind=WorkKind.CERTIFY, who=signer.who, about=opened.name, arguments=arguments),
        )

    def _set(
        self, opened: OpenBundle, judged: JudgedPictures, limits: dict[str, float], signer: Signer, task: Task
    ) -> None:
        dataset = self._dataset(judged)
        inspector = _Counted.load(opened.path)
        assert isinstance(inspector, _Counted), "a class method gives its own class"
        _require_same(inspector.bundle_sha256, opened)
        inspector.count(task, sum(each.label is not None and each.split is not None for each in dataset.samples))

        def before_use(made: Certified, revision: Bundle) -> None:
            _require_same(seal_of(opened.path), opened)
            self._signatures.act(
                signer,
                LIMITS_SET,
                bundle=opened.name,
                before=opened.sha256,
                after=revision.sha256,
                limits_before=limits_of(opened.point),
                limits=limits_of(made.point),
                max_escape=limits["max_escape"],
                max_overkill=limits["max_overkill"],
                promised=not made.refusals,
            )
            self._signatures.sign_bundle(signer, revision)

        try:
            promise = _promise(inspector.bundle, limits)
            certification.recertify(inspector, dataset, promise, before_use=before_use)
        except (DatasetError, UnfitError) as error:
            raise RefusedError(N_("The limits were not set: %(why)s"), why=str(error)) from error

    def _dataset(self, judged: JudgedPictures) -> Dataset:
        """Return the data set that the inspector was trained on.

        Raises:
            RefusedError: the label of a calibration picture has changed.
        """
        if judged.run is None:
            return self._datasets.read(judged.dataset).dataset
        dataset = Dataset.read(self._jobs.find(judged.run).snapshot)
        now = self._datasets.read(judged.dataset).samples if judged.dataset in self._datasets.names() else {}
        for sample in dataset.split(Split.CALIBRATE):
            later = now.get(sample.file_name)
            if later is not None and (later.label, later.part) != (sample.label, sample.part):
                raise RefusedError(
                    N_("Labels of calibration pictures have changed since this inspector was trained. Train again.")
                )
        return dataset


class _Counted(Inspector):
    """An inspector that reports the number of judged pictures to a task."""

    task: Task | None = None
    judged, total = 0, 0

    def count(self, task: Task, total: int) -> None:
        """Report to this task."""
        self.task, self.total = task, total

    def inspect_file(self, path: str | os.PathLike[str]) -> tuple[Photograph | None, Verdict]:
        """See `gonogo.inspector.Inspector.inspect_file`."""
        if self.task is not None:
            self.judged += 1
            self.task.step(min(self.judged, self.total), self.total)
        return super().inspect_file(path)


def _require_same(sha256: str, opened: OpenBundle) -> None:
    if sha256 != opened.sha256:
        raise RefusedError(
            N_(
                "Someone else has changed the limits of this inspector in the meantime. "
                "Check them before you try again."
            )
        )


def _promise(opened: Bundle, limits: dict[str, float]) -> Promise:
    """The promise of the bundle with new limits."""
    asked = Promise() if opened.manifest.operating_point is None else promise_in_force(opened)
    return replace(asked, costs=None, **limits)  # type: ignore[arg-type]
