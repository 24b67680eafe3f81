"""Training runs: one folder and one process per run, one run at a time.

::

    jobs/0007/job.json          the request; written once
             /status.json       the phase
             /progress.json     the current step, see `gonogo.progress`
             /log.txt           output of the commands
             /<data set>/       snapshot of the labels at the start; pictures are links
             /evaluation.json, report.html
             /lock              held by the process that runs it

             /cancel            exists if cancellation was requested

The process outlives the server. A run is alive if its lock is held, so nothing depends on process ids.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from gonogo import bundle, locks
from gonogo.errors import InputError
from gonogo.files import folder_beside, write_beside
from gonogo.server.dataset_store import checked_name
from gonogo.server.language import N_, RefusedError
from gonogo.server.training.presets import Effort, arguments
from gonogo.server.training.used_pictures import UsedPictures
from gonogo.server.workspace import Workspace
from gonogo.server.zone_file import ZONES

_POLL_S = 0.5
_LOG_TAIL_BYTES = 16_000
_MOST_WAITING = 20
_NUMBER = re.compile(r"\d{4,9}")
Roi: TypeAlias = Literal["none", "learned"]
_log = logging.getLogger(__name__)


class Phase(StrEnum):
    """Phase of a training run."""

    QUEUED = "queued"
    SPLITTING = "splitting"
    TRAINING = "training"
    JUDGING = "judging"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self in (Phase.DONE, Phase.FAILED, Phase.CANCELLED)


class JobRequest(BaseModel):
    """Content of ``job.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    dataset: str
    bundle: str
    """Name of the bundle to create, ``NAME.inspector``."""
    effort: Effort
    weights: str
    """File name in the workspace's ``weights`` folder, or ``none``."""
    roi: Roi = "none"
    """``learned``: an ROI learned from the boxes; ``none``: the whole picture is judged."""
    splits: str = ""
    """Shares of the splits for pictures without one, such as ``35/10/45/10``; empty for the usual ones."""
    zones: bool = False
    """Whether it uses the ``zones.toml`` of the data set, as it is when the run starts."""
    who: str
    asked_at: datetime

    def train_arguments(self, weights: Path, dataset: Path) -> list[str]:
        """Return the options of ``gonogo train`` for a data set in a folder."""
        chosen = arguments(self.effort, None if self.weights == "none" else weights / self.weights)
        chosen += [] if self.roi == "none" else ["--roi", self.roi]
        return chosen + (["--zones", str(dataset / ZONES)] if self.zones else [])


class Status(BaseModel):
    """Content of ``status.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Phase = Phase.QUEUED
    began_at: datetime | None = None
    ended_at: datetime | None = None
    problem: str = ""
    """Error message of the failed command."""
    first_at: datetime | None = None
    """When a person put it in front of the others that wait."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of the current step."""

    step: str
    done: int
    total: int | None
    left_s: float | None = None
    """Time until this step is done, at the pace so far; ``None`` if it is unknown."""


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Snapshot of one training run."""

    folder: Path
    request: JobRequest
    status: Status
    cancelling: bool
    interrupted: bool = False
    """Whether its process ended without a word, for example because the machine was switched off."""

    @property
    def report(self) -> Path:
        """Path of the evaluation report; exists once the run is done."""
        return self.folder / "report.html"

    @property
    def snapshot(self) -> Path:
        """Folder with the snapshot of the labels at the start."""
        return self.folder / self.request.dataset

    def progress(self) -> Progress | None:
        """Return the current step; ``None`` if it is unknown."""
        found = _read_json(self.folder / "progress.json")
        if self.status.phase.over or not isinstance(found, dict):
            return None
        total, left_s = found.get("total"), found.get("left_s")
        return Progress(
            step=str(found.get("step", "")),
            done=int(str(found.get("done", 0))),
            total=None if total is None else int(str(total)),
            left_s=None if left_s is None else float(str(left_s)),
        )

    def log_tail(self) -> str:
        """Return the end of the log."""
        path = self.folder / "log.txt"
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")

    def evaluation(self) -> dict[str, JsonValue] | None:
        """Return the result of ``gonogo evaluate --json`` on the test split."""
        found = _read_json(self.folder / "evaluation.json")
        return found if isinstance(found, dict) else None


class Jobs:
    """The queue of training runs. `start_queued` starts them from a thread that runs while the queue is not empty."""

    def __init__(self, workspace: Workspace) -> None:
        self._space = workspace
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._starter: threading.Thread | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        self.weights = workspace.root / "weights"

    def all(self) -> list[TrainingJob]:
        """Return all runs, newest first."""
        return [self.find(number) for number in self.numbers()]

    def numbers(self) -> list[int]:
        """Return the numbers of all runs, newest first."""
        found = (path.name for path in self._space.jobs.iterdir() if _NUMBER.fullmatch(path.name))
        return sorted(map(int, found), reverse=True)

    def stamp(self, number: int) -> int:
        """Return a number that changes whenever the status of a run is written; 0 if there is none."""
        try:
            return (self._space.jobs / f"{number:04d}" / "status.json").stat().st_mtime_ns
        except OSError:
            return 0

    def find(self, number: int) -> TrainingJob:
        """Return one run.

        Raises:
            RefusedError: there is no such run.
        """
        folder = self._space.jobs / f"{number:04d}"
        if not (folder / "job.json").is_file():
            raise RefusedError(N_("There is no training run %(number)s."), number=number)
        try:
            request = JobRequest.model_validate_json((folder / "job.json").read_bytes())
            status = read_job_status(folder)
        except (OSError, ValidationError) as error:
            raise InputError(f"{folder}: not the record of a training run ({error}). Remove the folder.") from error
        interrupted = False
        if status.phase is not Phase.QUEUED and not status.phase.over and not is_worked_on(folder):
            status = read_job_status(folder)  # it may have ended in the meantime
            if interrupted := not status.phase.over:
                status = status.model_copy(
                    update={"phase": Phase.FAILED, "problem": N_("The training process exited unexpectedly.")}
                )
        return TrainingJob(
            folder=folder,
            request=request,
            status=status,
            cancelling=not status.phase.over and (folder / "cancel").exists(),
            interrupted=interrupted,
        )

    def queue(self) -> list[TrainingJob]:
        """Return the runs that have not ended, in the order in which they will be done: the one that runs is first."""
        return sorted((job for job in self.all() if not job.status.phase.over), key=_turn)

    def add(
        self,
        *,
        dataset: str,
        name: str,
        effort: Effort,
        weights: str,
        roi: Roi,
        who: str,
        zones: bool = False,
        splits: str = "",
    ) -> TrainingJob:
        """Queue a training run; it starts when the earlier ones have ended.

        Raises:
            RefusedError: the name is taken, the weights are missing, or the queue is full.
        """
        made = checked_name(name) + bundle.SUFFIX
        if weights != "none" and weights not in self.weights_files():
            raise RefusedError(N_("There is no weights file %(name)s."), name=weights[:100])
        with self._lock:
            jobs = self.all()
            waiting = [job for job in jobs if not job.status.phase.over]
            if (self._space.bundles / made).exists() or any(job.request.bundle == made for job in waiting):
                raise RefusedError(N_("The inspector %(name)s already exists. Choose another name."), name=made)
            if len(waiting) >= _MOST_WAITING:
                raise RefusedError(N_("Queue full (limit %(limit)s)"), limit=_MOST_WAITING)
            number = jobs[0].request.number + 1 if jobs else 1
            request = JobRequest(
                number=number,
                dataset=dataset,
                bundle=made,
                effort=effort,
                weights=weights,
                roi=roi,
                zones=zones,
                splits=splits,
                who=who,
                asked_at=datetime.now(UTC),
            )
            with folder_beside(self._space.jobs / f"{number:04d}") as folder:
                (folder / "job.json").write_text(request.model_dump_json(indent=1), "utf-8")
                write_status(folder, Status())
        self.start_queued()
        return self.find(number)

    def cancel(self, number: int) -> None:
        """Cancel a run; a queued run ends immediately.

        Raises:
            RefusedError: there is no such run, or it has ended.
        """
        with self._lock:
            job = self.find(number)
            if job.status.phase.over:
                raise RefusedError(N_("This training run has already ended."))
            (job.folder / "cancel").touch()
            if job.status.phase is Phase.QUEUED and not is_worked_on(job.folder):
                write_status(job.folder, Status(phase=Phase.CANCELLED, ended_at=datetime.now(UTC)))

    def resume(self, number: int) -> TrainingJob:
        """Queue a run again that failed, was stopped or was interrupted.

        It uses the pictures and labels of its first start. Fine-tuning goes on after the last epoch that was finished;
        everything else begins again, which takes no longer than the first time.

        Raises:
            RefusedError: there is no such run, it was done or runs, or another run has taken its name.
        """
        with self._lock:
            job, others = self.find(number), self.all()
            if job.status.phase not in (Phase.FAILED, Phase.CANCELLED):
                raise RefusedError(N_("This training run has not been stopped, so it cannot be continued."))
            same = [each for each in others if each.request.bundle == job.request.bundle and each.folder != job.folder]
            if any(each.status.phase is Phase.DONE or not each.status.phase.over for each in same):
                name = job.request.bundle
                raise RefusedError(N_("The inspector %(name)s already exists. Choose another name."), name=name)
            (job.folder / "cancel").unlink(missing_ok=True)
            (job.folder / "progress.json").unlink(missing_ok=True)
            write_status(job.folder, Status())
        self.start_queued()
        return self.find(number)

    def settle(self, number: int) -> None:
        """Record that an interrupted run will not be continued; it can be, all the same."""
        with self._lock:
            job = self.find(number)
            if job.interrupted:
                write_status(job.folder, job.status.model_copy(update={"ended_at": datetime.now(UTC)}))

    def put_first(self, number: int) -> None:
        """Do a run that waits before the others that wait.

        Raises:
            RefusedError: there is no such run, or it does not wait.
        """
        with self._lock:
            job = self.find(number)
            if job.status.phase is not Phase.QUEUED or is_worked_on(job.folder):
                raise RefusedError(N_("This does not wait any more."))
            write_status(job.folder, job.status.model_copy(update={"first_at": datetime.now(UTC)}))

    def weights_files(self) -> list[str]:
        """List the pretrained weights in the workspace."""
        return sorted(path.name for path in self.weights.glob("*.safetensors"))

    def free_name(self, dataset: str) -> str:
        """Suggest an unused name for the next inspector of a data set."""
        taken = {path.name for path in self._space.bundles.glob("*")} | {job.request.bundle for job in self.all()}
        numbers = (f"{dataset[:56]}-{number}" for number in range(1, 10**6))
        return next(name for name in numbers if name + bundle.SUFFIX not in taken)

    def made_from(self, dataset: str) -> Path | None:
        """Return the newest inspector trained on a data set in this workspace."""
        for job in self.all():
            path = self._space.bundles / job.request.bundle
            if job.request.dataset == dataset and job.status.phase is Phase.DONE and path.is_dir():
                return path
        return None

    def trained_on(self, dataset: str) -> Path | None:
        """Return the newest inspector trained on a data set in this workspace, else the one in use."""
        return self.made_from(dataset) or self._space.active_bundle()

    def snapshots(self, name: str) -> list[TrainingJob]:
        """Return the completed runs with a label snapshot; the run that trained this inspector comes first."""
        done = [job for job in self.all() if job.status.phase is Phase.DONE and job.snapshot.is_dir()]
        return sorted(done, key=lambda job: job.request.bundle != name)

    def used_pictures(self, name: str) -> UsedPictures | None:
        """Return the pictures that an inspector was trained or calibrated on; ``None`` if they are unknown."""
        made = next((job for job in self.all() if job.request.bundle == name and job.status.phase is Phase.DONE), None)
        return None if made is None else UsedPictures.read(made.snapshot)

    def start_queued(self) -> None:
        """Start queued runs, now and later; called at server start and whenever a run is added."""
        with self._lock:
            busy = self._starter is not None and self._starter.is_alive()
            if not busy and any(not job.status.phase.over for job in self.all()):
                self._starter = threading.Thread(target=self._start_one_by_one, name="jobs", daemon=True)
                self._starter.start()

    def close(self) -> None:
        """Stop starting runs. A running one continues."""
        self._closing.set()

    def _start_one_by_one(self) -> None:
        while not self._closing.is_set():
            with self._lock:
                self._children = [child for child in self._children if child.poll() is None]
                try:
                    open_ones = self.queue()
                except InputError as error:
                    _log.error("training runs wait: %s", error)
                    open_ones = []
                if not open_ones and not self._children:
                    self._starter = None
                    return
                first = open_ones[0] if open_ones else None
                if first is not None and first.status.phase is Phase.QUEUED and not self._children:
                    self._begin(first)
            self._closing.wait(_POLL_S)

    def _begin(self, job: TrainingJob) -> None:
        command = [sys.executable, "-m", "gonogo.server.training.run", str(self._space.root), str(job.request.number)]
        with (job.folder / "log.txt").open("ab") as log:
            # In a new session, so that it survives the end of the server and a Ctrl-C there.
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self._space.root
            )
        self._children.append(child)


def _turn(job: TrainingJob) -> tuple[bool, float, int]:
    """Its place in the queue: what runs, what was put first most recently, then the oldest."""
    first_at = job.status.first_at
    waits = job.status.phase is Phase.QUEUED and not is_worked_on(job.folder)
    return waits, 0.0 if first_at is None else -first_at.timestamp(), job.request.number


def read_job_status(folder: Path) -> Status:
    """Read the status of a run."""
    return Status.model_validate_json((folder / "status.json").read_bytes())


def write_status(folder: Path, status: Status) -> None:
    """Write the status of a run."""
    write_beside(folder / "status.json", status.model_dump_json(exclude_none=True).encode())


@contextmanager
def working_on(folder: Path) -> Iterator[bool]:
    """Try to hold a run's lock for the duration of the block; yields whether it was free."""
    with (folder / "lock").open("ab") as file:
        yield locks.try_lock(file)


def is_worked_on(folder: Path) -> bool:
    """Whether a process is executing a run."""
    with (folder / "lock").open("ab") as file:
        return not locks.try_lock(file, shared=True)  # shared, so that concurrent checks do not block each other


def _read_json(path: Path) -> JsonValue:
    try:
        found: JsonValue = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None  # not written yet
    return found


def lower_priority() -> None:
    """Lower this process's priority below the station and the server."""
    if sys.platform != "win32":
        os.nice(10)
