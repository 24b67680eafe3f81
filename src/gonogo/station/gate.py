"""The gate: the only part of a station that talks to the line. It keeps the time, and answers whatever happens.

The gate holds no camera, no network and no ledger, so that nothing of what may crash or hang can take it along. It
hands triggers to the worker process one at a time, answers with what comes back, answers ``fault`` itself when the
window closes first, and starts the worker anew when it dies or stalls. It never makes up any other answer.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gonogo.names import clean_name, readable
from gonogo.schema import State
from gonogo.station.backlog import UNRECORDED, Backlog, Owed
from gonogo.station.messages import Answer, Cause, Trigger, fault
from gonogo.station.metrics import Metrics
from gonogo.station.notices import Notices
from gonogo.station.pending import InHand, Pending, RecordedAnswers, Reply
from gonogo.station.settings import StationSettings
from gonogo.station.status import Health, publish
from gonogo.station.watchdog import RestartBudget, Spawn, WorkerProcess, spawn

_TICK_S = 0.1
_NOTES = 1_000
_LAST_RECORDS_S = 5.0  # how long the end waits for records; what is left is on disk for the next run
_ALARM_S = 3_600.0  # for how long a reused id is shown as an alarm
_RETRY_S = 1.0  # how long a ledger that failed is left alone


class Gate:
    """Runs one station: one thread for the decisions, any number of threads that hand in triggers."""

    def __init__(self, settings: StationSettings, worker: Sequence[str], send: Reply, *, spawn: Spawn = spawn) -> None:
        """Prepare; nothing runs before `run` or `start`.

        Args:
            settings: The station's.
            worker: The command that starts its worker.
            send: Gives an answer to the line; called from the gate's thread and must not block.
            spawn: How that command is started.
        """
        self.settings = settings
        self.metrics = Metrics(settings.station)
        self.published = ("{}", "")
        """Status and metrics as last published, for whoever asks from another thread."""
        self._command, self._send, self._spawn = list(worker), send, spawn
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        self._backlog = Backlog(settings.state_dir / UNRECORDED)
        self._budget = RestartBudget(settings.watchdog.restarts, settings.watchdog.within_s)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._pending: dict[str, Pending] = {}
        """Parts without an answer or without a record."""
        self._recorded_answers = RecordedAnswers()
        self._notices = Notices(settings.window_s)
        self._reused = ("", 0.0)
        self._unanswered: dict[str, Pending] = {}
        """Those without an answer; the first is due first."""
        for owed in self._backlog:  # an earlier run may have told the line of them: until then they stay faults
            told = fault(owed.trigger, owed.cause, owed.reason)
            self._pending[owed.trigger.id] = Pending(trigger=owed.trigger, came_s=0.0, answer=told, owed=True)
        self._waiting: deque[Pending] = deque()
        self._worker: WorkerProcess | None = None
        self._ready = False
        self._in_hand: InHand | None = None
        self._told: dict[str, Any] = {}
        self._last_idle_s = self._last_published_s = 0.0
        self._notes: deque[tuple[str, dict[str, Any]]] = deque(maxlen=_NOTES)
        self._record_turn = False
        self._retry_s = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # --- called from any thread

    def submit(
        self,
        trigger_id: str,
        *,
        part: str | None = None,
        lot: str | None = None,
        product: str | None = None,
        reply: Reply | None = None,
    ) -> None:
        """A part has arrived. Its answer goes to the station's answer port, and to ``reply``.

        Raises:
            ValueError: a name that the ledger cannot take.
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
        self._inbox.put(lambda: self._trigger(trigger, came_s, reply))

    def undelivered(self, answer: Answer, why: str) -> None:
        """An answer did not reach the line."""
        self._inbox.put(lambda: self._undelivered(answer, why))

    def acknowledged(self) -> None:
        """An answer has reached the line."""
        self._inbox.put(lambda: self.metrics.events.update(acknowledged=1))

    def start(self) -> None:
        """Run in a thread of its own until `stop`."""
        self._thread = threading.Thread(target=self.run, name="gate", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer what is on its way, then end."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the gate's thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, where there is one."""
        worker = self._worker
        return None if worker is None else worker.pid

    @property
    def told(self) -> dict[str, Any]:
        """What the worker last said of itself."""
        return self._told

    @property
    def waiting(self) -> int:
        """Parts that wait for the worker."""
        return len(self._waiting)

    @property
    def unrecorded(self) -> int:
        """Faults that the line was told of and the ledger was not yet."""
        return len(self._backlog) + self._backlog.lost

    @property
    def backlog_alarms(self) -> list[str]:
        """What a person must know of the faults that are not on record."""
        return self._backlog.alarms

    @property
    def reused(self) -> str:
        """That a trigger's id was used for two parts lately; empty otherwise."""
        why, at_s = self._reused
        return why if why and time.monotonic() - at_s < _ALARM_S else ""

    @property
    def health(self) -> Health:
        """What the status shows first."""
        if self._worker is None:
            return Health.DOWN if not self._budget.allows() else Health.STARTING
        if not self._ready:
            return Health.STARTING
        return Health.HELD if self._told.get("held") else Health.RUNNING

    @property
    def faulting(self) -> str:
        """Why every part is a fault at present though the worker runs; empty where parts are judged."""
        return "; ".join(map(str, self._told.get("troubles", ()))) or self.metrics.faulting

    # --- the gate's own thread

    def run(self) -> None:
        """Decide until `stop` is called, and then until every part on its way has its answer and its record."""
        self._start_worker()
        until_s = float("inf")
        while True:
            if self._stopping.is_set():
                until_s = min(until_s, time.monotonic() + self.settings.window_s + _LAST_RECORDS_S)
                owing = self._pending or self._backlog
                left = self._unanswered or (owing and self.health is not Health.DOWN)
                if not left or time.monotonic() > until_s:
                    break
            with contextlib.suppress(queue.Empty):
                self._inbox.get(timeout=self._wait_s())()
            self._keep_time()
            self._pump()
        if self._worker is not None:
            self._worker.stop(self.settings.window_s)
        publish(self, Health.STOPPED)

    def _wait_s(self) -> float:
        """Until the next window closes, and never longer than a tick."""
        first = next(iter(self._unanswered.values()), None)
        return _TICK_S if first is None else min(_TICK_S, max(0.0, first.trigger.due_s - time.monotonic()))

    def _trigger(self, trigger: Trigger, came_s: float, reply: Reply | None) -> None:
        self.metrics.events["triggers"] += 1
        if self._repeated(trigger, came_s, [reply] if reply else []):
            return
        self._notices.came(trigger, self._worker if self._ready else None)
        pending = Pending(trigger=trigger, came_s=came_s, replies=[reply] if reply else [])
        self._pending[trigger.id] = self._unanswered[trigger.id] = pending
        if len(self._waiting) >= self.settings.queue:
            self.metrics.events["overruns"] += 1
            told = f"Queue full (limit {self.settings.queue})"
            self._fault(pending, Cause.OVERRUN, told)
        elif self.health is Health.DOWN:
            told = "the worker keeps dying and may not be restarted yet"
            self._fault(pending, Cause.PROCESS, told)
        else:
            self._waiting.append(pending)

    def _repeated(self, trigger: Trigger, came_s: float, replies: list[Reply]) -> bool:
        """Answer a trigger whose id has come before; another part under the same id is a fault."""
        recorded, known = self._recorded_answers.get(trigger.id), self._pending.get(trigger.id)
        if known is not None:
            first, answer = known.trigger, known.answer
        elif recorded is not None:
            first, answer = recorded
        else:
            return False
        self.metrics.events["repeats"] += 1
        reused = trigger.unlike(part=first.part, lot=first.lot, product=first.product)
        if reused:
            self._alarm_reused(trigger, reused)
            self._tell(fault(trigger, Cause.REUSED_ID, reused), replies, came_s)
            if known is not None and answer is None:  # one id for two parts on their way: neither may pass
                self._give_up(known, Cause.REUSED_ID, reused)
        elif answer is not None:
            self._tell(replace(answer, repeated=True), replies, came_s)
        elif known is not None:
            known.replies += replies
        return True

    def _alarm_reused(self, trigger: Trigger, why: str) -> None:
        self.metrics.events["reused_ids"] += 1
        self._reused = f"A trigger's id was used for two parts: {why}", time.monotonic()
        names = {"part": trigger.part, "lot": trigger.lot, "product": trigger.product}
        self._note("reused_id", {"trigger_id": trigger.id, "why": why, **names})

    def _fault(self, pending: Pending, cause: Cause, reason: str) -> None:
        """Owe the record of a fault, on disk, and only then answer it."""
        self._owe(pending, cause, reason, answered=True)
        pending.answer = fault(pending.trigger, cause, reason)
        self._give(pending.answer, pending)

    def _owe(self, pending: Pending, cause: Cause, reason: str, *, answered: bool) -> None:
        if pending.owed:
            return
        owed = Owed(trigger=pending.trigger, cause=cause, reason=reason, answered=answered)
        pending.owed = self._backlog.add(owed)
        if not pending.owed:  # too many to remember: counted, shown, and never a go
            self._pending.pop(pending.trigger.id, None)

    def _give(self, answer: Answer, pending: Pending) -> None:
        self._unanswered.pop(pending.trigger.id, None)
        self._tell(answer, pending.replies, pending.came_s)

    def _tell(self, answer: Answer, replies: Sequence[Reply], came_s: float) -> None:
        self.metrics.answered(answer, (time.monotonic() - came_s) * 1e3)
        if answer.state is State.FAULT and not answer.repeated:
            self._notices.faulted(self._worker if self._ready else None)
        self._send(answer)
        for reply in replies:
            reply(answer)

    def _keep_time(self) -> None:
        now_s = time.monotonic()
        while (first := next(iter(self._unanswered.values()), None)) is not None and first.trigger.due_s <= now_s:
            self._close_window(first)
        self._watch(now_s)
        if now_s - self._last_published_s >= self.settings.watchdog.heartbeat_s:
            self._last_published_s = now_s
            self._backlog.mend()
            publish(self, self.health)

    def _close_window(self, pending: Pending) -> None:
        """The time of a part is over: it is a fault, whatever may still come of it."""
        in_hand = self._in_hand is not None and self._in_hand.pending is pending
        if not self._ready:
            cause, told = Cause.PROCESS, "the worker is not running"
        elif in_hand:
            cause, told = Cause.LATE, f"no verdict within {self.settings.window_s:g} s"
        else:
            cause, told = Cause.LATE, f"still waiting after {self.settings.window_s:g} s"
        self._give_up(pending, cause, told)

    def _give_up(self, pending: Pending, cause: Cause, reason: str) -> None:
        """Answer a part that is in hand or waits."""
        if pending in self._waiting:
            self._waiting.remove(pending)
        self._fault(pending, cause, reason)

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

    def _start_worker(self) -> None:
        self._ready = False
        child = self._spawn(self._command)
        self._worker = WorkerProcess(child, lambda who, said: self._inbox.put(lambda: self._heard(who, said)))

    def _heard(self, who: WorkerProcess, said: dict[str, Any] | None) -> None:
        if who is not self._worker:
            return
        if said is None:
            self._died()
        elif "ready" in said:
            self._ready, self._told = True, said
            self._notices.started(who, [pending.trigger for pending in self._waiting])
        else:
            self._notices.heard(who)
            in_hand, self._in_hand = self._in_hand, None
            if "answer" in said:
                answer = replace(Answer.from_json(said["answer"]), sole_until_s=said.get("sole_until_s"))
                self._answered(in_hand, answer)
            elif "unrecordable" in said:
                self._set_aside()
            elif "bundles" in said:
                self._told = said
            elif said["noted"]:
                self._notes.popleft()
            else:
                self._retry_s = time.monotonic() + _RETRY_S

    def _answered(self, in_hand: InHand | None, answer: Answer) -> None:
        assert in_hand is not None, "the worker answers only what it was given"
        if in_hand.pending is None:
            self._recorded(answer)
            return
        pending = in_hand.pending
        if pending.answer is not None:
            return  # the line was told fault meanwhile; that is owed already, and will be compared with this record
        if answer.state is not State.FAULT and time.monotonic() > pending.trigger.due_s:
            self._fault(pending, Cause.LATE, f"no verdict within {self.settings.window_s:g} s")
        elif answer.row is None:  # a fault that could not be recorded
            self._fault(pending, answer.cause or Cause.LEDGER, answer.reason)
        elif answer.state is not State.FAULT and self._notices.contested(pending.trigger, answer):
            self._fault(pending, Cause.UNMATCHED, "another part came before this picture, which may show either")
        else:
            del self._pending[answer.trigger_id]
            if answer.cause is Cause.REUSED_ID:
                self._alarm_reused(pending.trigger, answer.reason)
            else:
                self._recorded_answers.add(pending.trigger, answer)
            self._give(answer, pending)

    def _recorded(self, answer: Answer) -> None:
        """A fault of the backlog is on record, or was found to have its verdict there; or the ledger failed again."""
        recorded = answer.row is not None
        self._backlog.done(recorded=recorded)
        if not recorded:
            self._retry_s = time.monotonic() + _RETRY_S
            return
        pending = self._pending.pop(answer.trigger_id, None)
        if pending is not None and pending.answer is None:
            self._give(replace(answer, repeated=False), pending)

    def _died(self) -> None:
        assert self._worker is not None, "it is the one that died"
        who = self._worker
        self.metrics.events["restarts"] += 1
        told = f"the worker died ({self._worker.obituary()}) with this part in hand"
        in_hand, self._in_hand = self._in_hand, None
        self._worker, self._ready = None, False
        if in_hand is not None and in_hand.pending is not None:
            # Not judged again, as it may be what killed the worker; but its verdict may be on record already.
            pending = in_hand.pending
            self._owe(pending, Cause.PROCESS, told, answered=pending.answer is not None)
        elif in_hand is not None and in_hand.job == "fault":
            self._bury(who)
        elif in_hand is not None and in_hand.job == "note" and who.crashed:
            self._notes.popleft()  # what killed this worker must not kill the next one
        self._note("worker_restarted", {"reason": told})
        self._watch(time.monotonic())

    def _bury(self, who: WorkerProcess) -> None:
        """A worker died with a record of the backlog in hand: it must not kill another one."""
        if self._backlog.is_deadly(crashed=who.crashed):
            self._set_aside()
        else:
            self._backlog.done(recorded=False)  # killed from outside: the others go first

    def _set_aside(self) -> None:
        """The oldest record of the backlog goes into a file for a person; its part stays a fault."""
        owed = self._backlog.give_up()
        pending = self._pending.pop(owed.trigger.id, None)
        if pending is None:
            return
        answer = pending.answer or fault(owed.trigger, owed.cause, owed.reason)
        self._recorded_answers.add(owed.trigger, answer)
        if pending.answer is None:
            self._give(answer, pending)

    def _undelivered(self, answer: Answer, why: str) -> None:
        self.metrics.events["undelivered"] += 1
        self._note("undelivered", {"trigger_id": answer.trigger_id, "row": answer.row, "why": why})

    def _note(self, action: str, details: dict[str, Any]) -> None:
        said = {key: readable(value) if isinstance(value, str) else value for key, value in details.items()}
        self._notes.append((action, said))

    def _pump(self) -> None:
        """Give the worker its next job, where it has none: parts and records in turn, the housekeeping once a beat."""
        if not self._ready or self._in_hand is not None or self._worker is None:
            return
        now_s = time.monotonic()
        owed = self._backlog.next() if now_s >= self._retry_s else None
        if now_s - self._last_idle_s >= self.settings.watchdog.heartbeat_s:
            self._last_idle_s = now_s
            self._do({"do": "idle"})
        elif owed is not None and (self._record_turn or not self._waiting or not self._is_answered(owed)):
            self._record_turn = False
            values = {"cause": owed.cause, "reason": owed.reason, "answered": self._is_answered(owed)}
            self._do({"do": "fault", "trigger": owed.trigger.to_json(), **values})
        elif self._waiting:
            self._record_turn = True
            pending = self._waiting.popleft()
            self._do({"do": "judge", "trigger": pending.trigger.to_json()}, pending=pending)
        elif self._notes and now_s >= self._retry_s:
            action, details = self._notes[0]
            self._do({"do": "note", "action": action, "details": details})

    def _do(self, job: dict[str, Any], *, pending: Pending | None = None) -> None:
        assert self._worker is not None, "checked by the caller"
        self._in_hand = InHand(pending=pending, job=str(job["do"]), since_s=time.monotonic())
        self._worker.send(job)  # where nobody takes it, the end of the worker is heard next

    def _is_answered(self, owed: Owed) -> bool:
        pending = self._pending.get(owed.trigger.id)
        return pending is None or pending.answer is not None
