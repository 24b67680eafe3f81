"""Training runs: each a folder that says all about it, worked on by a process of its own, one at a time.

::

    jobs/0007/job.json          what was asked for; written once
             /status.json       how far it is
             /progress.json     the step at hand, see `gonogo.progress`
             /log.txt           what the commands said
             /<data set>/       the labels as they were when it began; pictures are links
             /evaluation.json, report.html
             /lock              held by the process that works on it
             /cancel            somebody wants it to end

The process outlives the server. Whether it lives is told by its lock alone, so nothing depends on process numbers.
"""

from __future__ import annotations

import fcntl
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
from typing import IO, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from gonogo import bundle
from gonogo.errors import InputError
from gonogo.files import folder_beside, write_beside
from gonogo.server.dataset_store import checked_name
from gonogo.server.language import N_, RefusedError
from gonogo.server.training.presets import Effort, arguments
from gonogo.server.training.used_pictures import UsedPictures
from gonogo.server.workspace import Workspace

_POLL_S = 0.5
_LOG_TAIL_BYTES = 16_000
_MOST_WAITING = 20
_NUMBER = re.compile(r"\d{4,9}")
Roi: TypeAlias = Literal["none", "learned"]
_log = logging.getLogger(__name__)


class Phase(StrEnum):
    """How far a training run is."""

    QUEUED = "queued"
    SPLITTING = "splitting"
    TRAINING = "training"
    JUDGING = "judging"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self in (Phase.DONE, Phase.FAILED, Phase.CANCELLED)


class Asked(BaseModel):
    """``job.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    dataset: str
    bundle: str
    """The folder to make, ``NAME.inspector``."""
    effort: Effort
    weights: str
    """A file's name in the workspace's ``weights`` folder, or ``none``."""
    roi: Roi = "none"
    """Whether the part's place is learned from the boxes, or the whole picture is judged."""
    who: str
    asked_at: datetime

    def train_arguments(self, weights: Path) -> list[str]:
        """The options of ``gonogo train``."""
        chosen = arguments(self.effort, None if self.weights == "none" else weights / self.weights)
        return chosen if self.roi == "none" else [*chosen, "--roi", self.roi]


class Status(BaseModel):
    """``status.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Phase = Phase.QUEUED
    began_at: datetime | None = None
    ended_at: datetime | None = None
    problem: str = ""
    """Why it failed, as the command said it."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The step at hand."""

    step: str
    done: int
    total: int | None


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training run, as it is now."""

    folder: Path
    asked: Asked
    status: Status
    cancelling: bool

    @property
    def report(self) -> Path:
        """The evaluation report; there once it is done."""
        return self.folder / "report.html"

    @property
    def snapshot(self) -> Path:
        """The labels as they were when it began."""
        return self.folder / self.asked.dataset

    def progress(self) -> Progress | None:
        """The step at hand, where it says."""
        found = _read_json(self.folder / "progress.json")
        if self.status.phase.over or not isinstance(found, dict):
            return None
        total = found.get("total")
        return Progress(
            step=str(found.get("step", "")),
            done=int(str(found.get("done", 0))),
            total=None if total is None else int(str(total)),
        )

    def log_tail(self) -> str:
        """The end of what the commands said."""
        path = self.folder / "log.txt"
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")

    def evaluation(self) -> dict[str, JsonValue] | None:
        """What ``gonogo evaluate --json`` found on the test pictures."""
        found = _read_json(self.folder / "evaluation.json")
        return found if isinstance(found, dict) else None


class Jobs:
    """The queue. `tend` starts what waits; it runs on a thread while there is anything to start."""

    def __init__(self, workspace: Workspace) -> None:
        self._space = workspace
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._tending: threading.Thread | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        self.weights = workspace.root / "weights"

    def all(self) -> list[TrainingJob]:
        """Every run, newest first."""
        numbers = sorted((path.name for path in self._space.jobs.iterdir() if _NUMBER.fullmatch(path.name)), key=int)
        return [self.find(int(number)) for number in reversed(numbers)]

    def find(self, number: int) -> TrainingJob:
        """One run.

        Raises:
            RefusedError: there is no such run.
        """
        folder = self._space.jobs / f"{number:04d}"
        if not (folder / "job.json").is_file():
            raise RefusedError(N_("There is no training run %(number)s."), number=number)
        try:
            asked = Asked.model_validate_json((folder / "job.json").read_bytes())
            status = read_job_status(folder)
        except (OSError, ValidationError) as error:
            raise InputError(f"{folder}: not the record of a training run ({error}). Remove the folder.") from error
        if status.phase is not Phase.QUEUED and not status.phase.over and not is_worked_on(folder):
            status = read_job_status(folder)  # it may have ended in between
            if not status.phase.over:
                status = status.model_copy(
                    update={"phase": Phase.FAILED, "problem": N_("The training process exited unexpectedly.")}
                )
        return TrainingJob(folder=folder, asked=asked, status=status, cancelling=(folder / "cancel").exists())

    def add(self, *, dataset: str, name: str, effort: Effort, weights: str, roi: Roi, who: str) -> TrainingJob:
        """Ask for a training run; it begins when those before it have ended.

        Raises:
            RefusedError: the name is taken, the weights are not there, or too many runs wait.
        """
        made = checked_name(name) + bundle.SUFFIX
        if weights != "none" and weights not in self.weights_files():
            raise RefusedError(N_("There is no weights file %(name)s."), name=weights[:100])
        with self._lock:
            jobs = self.all()
            waiting = [job for job in jobs if not job.status.phase.over]
            if (self._space.bundles / made).exists() or any(job.asked.bundle == made for job in waiting):
                raise RefusedError(N_("The inspector %(name)s already exists. Choose another name."), name=made)
            if len(waiting) >= _MOST_WAITING:
                raise RefusedError(N_("Queue full (limit %(limit)s)"), limit=_MOST_WAITING)
            number = jobs[0].asked.number + 1 if jobs else 1
            asked = Asked(
                number=number,
                dataset=dataset,
                bundle=made,
                effort=effort,
                weights=weights,
                roi=roi,
                who=who,
                asked_at=datetime.now(UTC),
            )
            with folder_beside(self._space.jobs / f"{number:04d}") as folder:
                (folder / "job.json").write_text(asked.model_dump_json(indent=1), "utf-8")
                write_status(folder, Status())
        self.tend()
        return self.find(number)

    def cancel(self, number: int) -> None:
        """Ask a run to end; one that has not begun ends at once.

        Raises:
            RefusedError: there is no such run, or it is over.
        """
        with self._lock:
            job = self.find(number)
            if job.status.phase.over:
                raise RefusedError(N_("This training run has already ended."))
            (job.folder / "cancel").touch()
            if job.status.phase is Phase.QUEUED and not is_worked_on(job.folder):
                write_status(job.folder, Status(phase=Phase.CANCELLED, ended_at=datetime.now(UTC)))

    def weights_files(self) -> list[str]:
        """Pretrained weights that lie in the workspace."""
        return sorted(path.name for path in self.weights.glob("*.safetensors"))

    def free_name(self, dataset: str) -> str:
        """A name for the next inspector of a data set."""
        taken = {path.name for path in self._space.bundles.glob("*")} | {job.asked.bundle for job in self.all()}
        numbers = (f"{dataset[:56]}-{number}" for number in range(1, 10**6))
        return next(name for name in numbers if name + bundle.SUFFIX not in taken)

    def made_from(self, dataset: str) -> Path | None:
        """The newest inspector that was trained on a data set here."""
        for job in self.all():
            path = self._space.bundles / job.asked.bundle
            if job.asked.dataset == dataset and job.status.phase is Phase.DONE and path.is_dir():
                return path
        return None

    def trained_on(self, dataset: str) -> Path | None:
        """The newest inspector that was trained on a data set here, else the one in use."""
        return self.made_from(dataset) or self._space.active_bundle()

    def snapshots(self, name: str) -> list[TrainingJob]:
        """Runs whose labels an inspector may have been made with: the one that made it first, then the others."""
        done = [job for job in self.all() if job.status.phase is Phase.DONE and job.snapshot.is_dir()]
        return sorted(done, key=lambda job: job.asked.bundle != name)

    def taught(self, name: str) -> UsedPictures | None:
        """What an inspector was made with; ``None`` where it was not made here."""
        made = next((job for job in self.all() if job.asked.bundle == name and job.status.phase is Phase.DONE), None)
        return None if made is None else UsedPictures.read(made.snapshot)

    def tend(self) -> None:
        """See to it that waiting runs begin, now and later; called at the start and whenever one is added."""
        with self._lock:
            busy = self._tending is not None and self._tending.is_alive()
            if not busy and any(not job.status.phase.over for job in self.all()):
                self._tending = threading.Thread(target=self._tend, name="jobs", daemon=True)
                self._tending.start()

    def close(self) -> None:
        """Stop starting runs. The one at work goes on."""
        self._closing.set()

    def _tend(self) -> None:
        while not self._closing.is_set():
            with self._lock:
                self._children = [child for child in self._children if child.poll() is None]
                try:
                    open_ones = [job for job in self.all() if not job.status.phase.over]
                except InputError as error:
                    _log.error("training runs wait: %s", error)
                    open_ones = []
                if not open_ones and not self._children:
                    self._tending = None
                    return
                first = open_ones[-1] if open_ones else None
                if first is not None and first.status.phase is Phase.QUEUED and not self._children:
                    self._begin(first)
            self._closing.wait(_POLL_S)

    def _begin(self, job: TrainingJob) -> None:
        command = [sys.executable, "-m", "gonogo.server.training.run", str(self._space.root), str(job.asked.number)]
        with (job.folder / "log.txt").open("ab") as log:
            # A session of its own: it goes on when the server ends, and Ctrl-C at the server does not reach it.
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self._space.root
            )
        self._children.append(child)


def read_job_status(folder: Path) -> Status:
    """How far a run is."""
    return Status.model_validate_json((folder / "status.json").read_bytes())


def write_status(folder: Path, status: Status) -> None:
    """Say how far a run is."""
    write_beside(folder / "status.json", status.model_dump_json().encode())


@contextmanager
def working_on(folder: Path) -> Iterator[bool]:
    """Hold a run's lock; yields whether it was free."""
    with (folder / "lock").open("ab") as file:
        yield _try_lock(file, fcntl.LOCK_EX)


def is_worked_on(folder: Path) -> bool:
    """Whether a process works on a run."""
    with (folder / "lock").open("ab") as file:
        return not _try_lock(file, fcntl.LOCK_SH)  # shared: those who only look do not meet each other


def _try_lock(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read_json(path: Path) -> JsonValue:
    try:
        found: JsonValue = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None  # not there yet
    return found


def nice() -> None:
    """Give way to the station and to the pages."""
    os.nice(10)
