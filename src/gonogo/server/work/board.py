"""What runs, waits, was interrupted and has ended, from every queue of the server, in one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gonogo.errors import InputError
from gonogo.server.background_work import Asked, Entry, Journal, Task, Worker, WorkKind, WorkState
from gonogo.server.language import N_, RefusedError
from gonogo.server.training.jobs import Jobs, Phase, TrainingJob

KIND_NAMES = {
    WorkKind.CERTIFY: N_("Certifying the new limits"),
    WorkKind.COMPARE: N_("Comparing two inspectors"),
    WorkKind.JUDGE: N_("Judging the pictures of a data set"),
    WorkKind.EXPORT: N_("Exporting"),
    WorkKind.VERIFY: N_("Verifying the chain"),
}
_LINKS = {
    WorkKind.CERTIFY: "/understand#history",
    WorkKind.COMPARE: "/understand#compare",
    WorkKind.EXPORT: "/export",
    WorkKind.VERIFY: "/export",
}
_TRAINING_STATES = {
    Phase.QUEUED: WorkState.WAITING,
    Phase.DONE: WorkState.DONE,
    Phase.FAILED: WorkState.FAILED,
    Phase.CANCELLED: WorkState.CANCELLED,
}
TRAINING, TASK = "t", "w"
"""First letter of an identifier: a training run, or other work."""


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """One piece of work."""

    id: str
    """Such as ``t7`` for training run 7, ``w12`` for entry 12 of the journal; empty for what the server does itself."""
    title: str
    """Marked with ``N_``."""
    about: str
    who: str
    """Who asked for it; empty for what the server does itself."""
    state: WorkState
    step: str = ""
    """The present step, as the engine names it."""
    done: int = 0
    total: int = 0
    left_s: float | None = None
    stopping: bool = False
    asked_at: float = 0.0
    """Seconds since 1970; 0 if unknown."""
    ended_at: float = 0.0
    failure: RefusedError | str = ""
    link: str = ""
    """Page that shows the result."""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state not in (WorkState.WAITING, WorkState.RUNNING)


class Board:
    """Reads every queue.

    Args:
        workers: The queues inside the server, each of which does one task at a time.
        jobs: The training runs.
        journal: What people asked for, after a restart too.
    """

    def __init__(self, workers: Sequence[Worker], jobs: Jobs, journal: Journal) -> None:
        self._workers, self._jobs, self._journal = tuple(workers), jobs, journal
        self._over: dict[int, tuple[int, WorkItem | None]] = {}

    def now(self) -> list[WorkItem]:
        """What runs and waits: each queue in its order, what runs first."""
        training = [item for item in self._training() if not item.over]
        order = {job.request.number: place for place, job in enumerate(self._jobs.queue())} if training else {}
        training.sort(key=lambda item: order.get(int(item.id[1:]), 0))
        tasks = [_of_task(task) for worker in self._workers for task in worker.busy()]
        return sorted((*training, *tasks), key=lambda item: item.state is not WorkState.RUNNING)

    def interrupted(self) -> list[WorkItem]:
        """What was interrupted and neither continued nor dismissed, the latest first."""
        tasks = [_of_entry(entry) for entry in self._journal.in_state(WorkState.INTERRUPTED)]
        return [item for item in self._training() if item.state is WorkState.INTERRUPTED] + tasks

    def ended(self, *, since: float = 0.0, limit: int = 20) -> list[WorkItem]:
        """What ended after a time, the latest first."""
        states = (WorkState.DONE, WorkState.FAILED, WorkState.CANCELLED)
        tasks = [_of_entry(entry) for entry in self._journal.in_state(*states, limit=limit)]
        found = [item for item in (*self._training(), *tasks) if item.state in states and item.ended_at > since]
        return sorted(found, key=lambda item: -item.ended_at)[:limit]

    def find(self, identifier: str) -> WorkItem | None:
        """One piece of work; ``None`` if there is none."""
        kind, number = identifier[:1], identifier[1:]
        if kind not in (TRAINING, TASK) or not number.isascii() or not number.isdigit() or len(number) > 9:
            return None
        if kind == TRAINING:
            return next((item for item in self._training() if item.id == identifier), None)
        running = next((item for item in self.now() if item.id == identifier), None)
        entry = self._journal.find(int(number))
        return running or (None if entry is None else _of_entry(entry))

    def cancel(self, number: int) -> bool:
        """Cancel the task with this number in the journal; returns whether it waited or ran."""
        return any(worker.cancel(number) for worker in self._workers)

    def move_first(self, number: int) -> bool:
        """Do this task next in its queue; returns whether it waited."""
        return any(worker.move_first(number) for worker in self._workers)

    def _training(self) -> list[WorkItem]:
        """Every training run, the latest first; those that have ended are read once."""
        found = []
        for number in self._jobs.numbers():
            stamp, (seen, item) = self._jobs.stamp(number), self._over.get(number, (0, None))
            if item is None or seen != stamp:
                try:
                    item = _of_job(self._jobs.find(number))
                except (InputError, RefusedError):
                    continue  # the page of the training runs says what is wrong with it
                if item.over:
                    self._over[number] = stamp, item
            found.append(item)
        return found


def _of_task(task: Task) -> WorkItem:
    asked = task.asked
    return WorkItem(
        id=f"{TASK}{task.number}" if task.number else "",
        title=task.title,
        about="" if asked is None else asked.about,
        who="" if asked is None else asked.who,
        state=WorkState.RUNNING if task.running else WorkState.WAITING,
        done=task.done,
        total=task.total,
        left_s=task.seconds_left(),
        stopping=task.cancelled,
        asked_at=task.asked_at,
        link="" if asked is None else _link(asked),
    )


def _of_entry(entry: Entry) -> WorkItem:
    return WorkItem(
        id=f"{TASK}{entry.number}",
        title=KIND_NAMES[entry.asked.kind],
        about=entry.asked.about,
        who=entry.asked.who,
        state=entry.state,
        asked_at=entry.asked_at,
        ended_at=entry.ended_at or 0.0,
        failure=entry.failure,
        link=_link(entry.asked),
    )


def _of_job(job: TrainingJob) -> WorkItem:
    progress, status = job.progress(), job.status
    state = WorkState.INTERRUPTED if job.interrupted else _TRAINING_STATES.get(status.phase, WorkState.RUNNING)
    return WorkItem(
        id=f"{TRAINING}{job.request.number}",
        title=N_("Training"),
        about=job.request.bundle,
        who=job.request.who,
        state=state,
        step="" if progress is None else progress.step,
        done=0 if progress is None else progress.done,
        total=0 if progress is None else progress.total or 0,
        left_s=None if progress is None else progress.left_s,
        stopping=job.cancelling,
        asked_at=job.request.asked_at.timestamp(),
        ended_at=_seconds(status.ended_at),
        failure=status.problem,
        link=f"/training/{job.request.number}",
    )


def _link(asked: Asked) -> str:
    return f"/datasets/{asked.about}/pictures" if asked.kind is WorkKind.JUDGE else _LINKS[asked.kind]


def _seconds(at: datetime | None) -> float:
    return 0.0 if at is None else at.timestamp()
