"""The supervisor: the only process of a station that talks to the line. It always answers in time.

The supervisor holds no camera, no network and no ledger, so nothing that can crash or hang can stop it. It sends
triggers to the worker process one at a time and returns the worker's answers. If the window closes first, it answers
``fault`` itself, the only answer that it gives on its own. It restarts a worker that dies or stalls.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gonogo.line.messages import Answer, Trigger
from gonogo.line.state import AdapterState, Health, LineState
from gonogo.names import clean_name, readable
from gonogo.station.messages import (
    REQUESTED,
    Dying,
    FaultRecorded,
    FaultUnrecordable,
    Housekeep,
    Job,
    JudgePart,
    NoteHandled,
    PartJudged,
    Ready,
    RecordFault,
    RecordNote,
    Reported,
    ToSupervisor,
    WorkerReport,
)
from gonogo.station.metrics import Metrics
from gonogo.station.notices import Notices
from gonogo.station.publishing import publish
from gonogo.station.reject import RejectControl
from gonogo.station.settings import StationSettings
from gonogo.station.status import StationState
from gonogo.station.tracking import LineTotals
from gonogo.station.trigger_queue import Pending, Reply, TriggerQueue
from gonogo.station.watchdog import RestartBudget, Spawn, WorkerProcess, spawn

_TICK_S = 0.1
_NOTES = 1_000
_LAST_RECORDS_S = 5.0  # how long a stopping station waits for records; the backlog keeps the rest for the next run
_RETRY_S = 1.0  # pause before a ledger that failed is used again


@dataclass(frozen=True, kw_only=True)
class InHand:
    """The worker's present job."""

    job: Job
    pending: Pending | None
    """The part that is being judged; ``None`` for other jobs."""
    since_s: float


class Supervisor:
    """Runs one station: one thread decides, and any number of threads submit triggers."""

    def __init__(self, settings: StationSettings, worker: Sequence[str], send: Reply, *, spawn: Spawn = spawn) -> None:
        """Prepare the supervisor; `run` or `start` runs it.

        Args:
            settings: Settings of the station.
            worker: The command that starts the worker.
            send: Sends an answer to the line; called in the supervisor's thread, must not block.
            spawn: Starts the command.
        """
        self.settings = settings
        self.metrics = Metrics(settings.station)
        self.published = ("{}", "")
        """Text of the last published status and metrics; may be read from any thread."""
        self.report = WorkerReport()
        """The worker's last report."""
        self.adapters: Callable[[], tuple[AdapterState, ...]] = tuple
        """Returns the state of the adapters, for the status."""
        self._command, self._spawn, self._send = list(worker), spawn, send
        self._notes: deque[RecordNote] = deque(maxlen=_NOTES)
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        self._triggers = TriggerQueue(
            settings, self.metrics, send=self._answered, on_fault=self._notify_fault, note=self._remember_note
        )
        self._budget = RestartBudget(settings.watchdog.restarts, settings.watchdog.within_s)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._notices = Notices(settings.window_s)
        self._worker: WorkerProcess | None = None
        self._ready = False
        self._in_hand: InHand | None = None
        self._last_housekeeping_s = self._last_published_s = 0.0
        self._reject = (
            None if settings.reject is None else RejectControl(settings.reject, settings.state_dir, self._remember_note)
        )
        self._record_turn = False
        self._retry_s = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # --- may be called from any thread

    def submit(
        self,
        trigger_id: str,
        *,
        part: str | None = None,
        lot: str | None = None,
        product: str | None = None,
        count: int | None = None,
        reply: Reply | None = None,
    ) -> None:
        """Submit the trigger of a part. The answer goes to the station's answer port and to ``reply``.

        ``count`` is the line's count at the trigger, for a station that tracks its parts to the gate.

        Raises:
            ValueError: the ledger does not accept one of the names.
        """
        try:
            for name in (trigger_id, part, lot, product):
                if name is not None:
                    clean_name(name)
        except ValueError:
            self._inbox.put(lambda: self.metrics.events.update(refused=1))
            raise
        came_s = time.monotonic()
        due_s = came_s + self.settings.window_s
        trigger = Trigger(id=trigger_id, part=part, lot=lot, product=product, at=datetime.now(UTC), due_s=due_s)
        self._inbox.put(lambda: self._accept(trigger, came_s, [] if reply is None else [reply], count))

    def select(self, product: str, *, who: str) -> None:
        """Select the product that the station makes from now on, on behalf of the line; it follows within a second.

        Raises:
            ValueError: the station does not have this product.
        """
        if product not in self.settings.products:
            listed = ", ".join(self.settings.products) or "none: it has no [products]"
            raise ValueError(f"expected a product of this station ({listed}), found {readable(product)[:60]!r}")
        details = {"product": product, "by": "line", "asked_by": who}
        self._inbox.put(lambda: self._remember_note(REQUESTED, details))

    def line_state(self) -> LineState:
        """Return the present state, for the line."""
        report = self.report
        here = [each for each in report.bundles if each.product == report.product]
        return LineState(
            station=self.settings.station,
            health=self.health,
            faulting=self.faulting,
            product=report.product or next((each.name for each in here), None),
            products=tuple(self.settings.products),
            bundle_sha256=next((each.sha256 for each in here), None),
            answers={state.value: count for state, count in dict(self.metrics.answers).items()},
        )

    def line(self, totals: LineTotals, reply: Callable[[dict[str, object]], None]) -> None:
        """Take a report of the line's belt, gate and confirmations; ``reply`` receives the orders.

        Raises:
            ValueError: the station does not track parts.
        """
        control = self._reject
        if control is None:
            raise ValueError("expected a station with [reject], found one that does not track parts")
        self._inbox.put(lambda: reply(control.line(totals)))

    def undelivered(self, answer: Answer, why: str) -> None:
        """Report that an answer did not reach the line."""
        self._inbox.put(lambda: self._undelivered(answer, why))

    def expired(self, trigger_id: str, why: str) -> None:
        """Report that the line took a fault instead of the verdict, which came too late for it."""
        self._inbox.put(lambda: self._triggers.expire(trigger_id, readable(why)))

    def acknowledged(self) -> None:
        """Report that an answer reached the line."""
        self._inbox.put(lambda: self.metrics.events.update(acknowledged=1))

    def start(self) -> None:
        """Run in a background thread until `stop`."""
        self._thread = threading.Thread(target=self.run, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer the parts in progress, then stop."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the supervisor's thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id; ``None`` without a worker."""
        worker = self._worker
        return None if worker is None else worker.pid

    @property
    def unrecorded(self) -> int:
        """Number of faults that were answered but not recorded yet."""
        return len(self._triggers.backlog) + self._triggers.backlog.lost

    @property
    def health(self) -> Health:
        """Overall state of the station."""
        if self._worker is None:
            return Health.DOWN if not self._budget.allows() else Health.STARTING
        if not self._ready:
            return Health.STARTING
        return Health.HELD if self.report.held or self._stopped else Health.RUNNING

    @property
    def faulting(self) -> str:
        """Why every part is a fault although the worker runs; empty if parts are judged."""
        return "; ".join(self.report.troubles) or self._stopped or self.metrics.faulting

    @property
    def _stopped(self) -> str:
        """Why the line is stopped; empty if it is not."""
        return "" if self._reject is None else self._reject.stopped

    # --- the supervisor's thread

    def run(self) -> None:
        """Run until `stop` is called, and then until every part in progress has its answer, and all is on record."""
        self._start_worker()
        until_s = float("inf")
        while True:
            if self._stopping.is_set():
                until_s = min(until_s, time.monotonic() + self.settings.window_s + _LAST_RECORDS_S)
                unrecorded = self._triggers.has_unrecorded or bool(self._notes)
                may_record = unrecorded and self.health is not Health.DOWN
                waits = self._triggers.has_unanswered or may_record or not self._inbox.empty()
                if not waits or time.monotonic() > until_s:
                    break
            with contextlib.suppress(queue.Empty):
                self._inbox.get(timeout=self._triggers.left_s(_TICK_S))()
            self._keep_time()
            self._assign()
        if self._worker is not None:
            self._worker.stop(self.settings.window_s)
        self._publish(Health.STOPPED)

    def _accept(self, trigger: Trigger, came_s: float, replies: list[Reply], count: int | None) -> None:
        self.metrics.events["triggers"] += 1
        if self._triggers.answer_repeat(trigger, came_s, replies):
            return
        self._notices.came(trigger, self._listening)
        if self._reject is not None:
            self._reject.came(trigger.id, count)
        self._triggers.add(trigger, came_s, replies, down=self.health is Health.DOWN, stopped=self._stopped)

    def _answered(self, answer: Answer) -> None:
        if self._reject is not None:
            self._reject.answered(answer)
        self._send(answer)

    def _undelivered(self, answer: Answer, why: str) -> None:
        self.metrics.events["undelivered"] += 1
        self._remember_note("undelivered", {"trigger_id": answer.trigger_id, "row": answer.row, "why": why})

    def _remember_note(self, action: str, details: Mapping[str, object]) -> None:
        clean = {key: readable(value) if isinstance(value, str) else value for key, value in details.items()}
        self._notes.append(RecordNote(action=action, details=clean))

    def _notify_fault(self) -> None:
        self._notices.faulted(self._listening)

    def _keep_time(self) -> None:
        in_hand = None if self._in_hand is None else self._in_hand.pending
        self._triggers.close_windows(in_hand=in_hand, worker_ready=self._ready)
        if self._reject is not None:
            self._reject.tick()
        now_s = time.monotonic()
        self._watch(now_s)
        if now_s - self._last_published_s >= self.settings.watchdog.heartbeat_s:
            self._last_published_s = now_s
            self._triggers.backlog.mend()
            self._publish(self.health)

    def _publish(self, health: Health) -> None:
        state = StationState(
            health=health,
            worker_pid=self.worker_pid,
            report=self.report,
            faulting=self.faulting,
            alarms=tuple(
                each
                for each in (
                    self._triggers.reused,
                    *self._triggers.backlog.alarms,
                    "" if self._reject is None else self._reject.trouble,
                )
                if each
            ),
            waiting=self._triggers.waiting,
            unrecorded=self.unrecorded,
            tracking=None if self._reject is None else self._reject.state(),
            adapters=self.adapters(),
        )
        self.published = publish(self.settings, self.metrics, state)

    # --- the worker

    @property
    def _listening(self) -> WorkerProcess | None:
        """The worker, once it has started."""
        return self._worker if self._ready else None

    def _start_worker(self) -> None:
        self._ready = False
        self._worker = WorkerProcess(
            self._spawn(self._command), lambda who, message: self._inbox.put(lambda: self._hear(who, message))
        )
        self._worker.start()

    def _watch(self, now_s: float) -> None:
        dog = self.settings.watchdog
        if self._worker is None:
            if self._budget.allows():
                self._start_worker()
                self._budget.spend()
            return
        silent = self._in_hand is not None and now_s - self._in_hand.since_s > dog.stall_s
        unready = not self._ready and now_s - self._worker.started_s > dog.start_s
        if silent or unready:
            self.metrics.events["stalls"] += 1
            self._worker.kill()

    def _hear(self, who: WorkerProcess, message: ToSupervisor | None) -> None:
        if who is not self._worker:
            return
        if message is None:
            self._bury(who)
            return
        in_hand = self._in_hand
        if not isinstance(message, Ready | Dying):
            self._notices.heard(who)
            self._in_hand = None
        match message:
            case Ready():
                self._ready = True
                self._take_report(message.report)
                self._notices.started(who, self._triggers.waiting_triggers)
            case PartJudged():
                assert in_hand is not None, "the worker answers only its job"
                assert in_hand.pending is not None, "the job was to judge a part"
                contested = self._notices.contested(in_hand.pending.trigger, message.answer)
                self._triggers.judged(in_hand.pending, message.answer, contested=contested, stopped=self._stopped)
            case FaultRecorded():
                if not self._triggers.fault_recorded(message.answer):
                    self._retry_s = time.monotonic() + _RETRY_S
            case FaultUnrecordable():
                self._triggers.set_aside()
            case NoteHandled(retry=True):
                self._retry_s = time.monotonic() + _RETRY_S
            case NoteHandled():
                self._notes.popleft()
            case Reported():
                self._take_report(message.report)
            case _:  # Dying
                pass  # the end of the process follows, with this reason

    def _take_report(self, report: WorkerReport) -> None:
        self.report = report
        if self._reject is not None:
            self._reject.acknowledged(report.acknowledged_stop)

    def _bury(self, who: WorkerProcess) -> None:
        """Handle a worker that has ended: its job must not be lost, and must not crash the next worker."""
        self.metrics.events["restarts"] += 1
        reason = f"the worker died ({who.obituary()}) while it judged this part"
        in_hand, self._in_hand = self._in_hand, None
        self._worker, self._ready = None, False
        if in_hand is not None:
            match in_hand.job:
                case JudgePart():
                    assert in_hand.pending is not None, "the job was to judge a part"
                    self._triggers.died_with(in_hand.pending, reason)
                case RecordFault():
                    self._triggers.recording_killed_worker(crashed=who.crashed)
                case RecordNote():
                    if who.crashed:
                        self._notes.popleft()
                case _:  # Housekeep
                    pass
        self._remember_note("worker_restarted", {"reason": reason})
        self._watch(time.monotonic())

    def _assign(self) -> None:
        """Give an idle worker its next job: parts and records alternate, and housekeeping once per heartbeat."""
        if not self._ready or self._in_hand is not None or self._worker is None:
            return
        now_s = time.monotonic()
        ledger_rests = now_s < self._retry_s
        record = None if ledger_rests else self._triggers.next_record()
        if now_s - self._last_housekeeping_s >= self.settings.watchdog.heartbeat_s:
            self._last_housekeeping_s = now_s
            self._give(Housekeep())
        elif record is not None and (self._record_turn or not self._triggers.waiting or not record.answered):
            self._record_turn = False
            self._give(record)
        elif self._triggers.waiting:
            self._record_turn = True
            pending = self._triggers.take()
            self._give(JudgePart(trigger=pending.trigger), pending=pending)
        elif self._notes and not ledger_rests:
            self._give(self._notes[0])

    def _give(self, job: Job, *, pending: Pending | None = None) -> None:
        assert self._worker is not None, "checked by the caller"
        self._in_hand = InHand(job=job, pending=pending, since_s=time.monotonic())
        self._worker.send(job)  # if this fails, the worker has ended, which is reported next
