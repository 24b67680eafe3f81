"""The queue of triggers: each trigger has a deadline, gets one answer, and finally one record."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gonogo.line.messages import Answer, Cause, Trigger, fault
from gonogo.schema import State
from gonogo.station.backlog import UNRECORDED, Backlog, Owed
from gonogo.station.messages import RecordFault
from gonogo.station.metrics import Metrics
from gonogo.station.settings import StationSettings

Reply = Callable[[Answer], None]
_REMEMBERED = 5_000
_ALARM_S = 3_600.0  # how long a reused id is shown as an alarm


@dataclass(kw_only=True, eq=False)
class Pending:
    """A trigger without an answer or a record."""

    trigger: Trigger
    came_s: float
    replies: list[Reply] = field(default_factory=list)
    answer: Answer | None = None
    """The answer that the line received before the record was made."""
    owed: bool = False
    """A fault of this part is in the backlog."""


class RecordedAnswers:
    """The last recorded answers, so that a repeated trigger is answered even while no worker runs."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[Trigger, Answer]] = {}

    def add(self, trigger: Trigger, answer: Answer) -> None:
        """Add an answer; the oldest one is dropped, as the ledger has it."""
        self._answers[trigger.id] = trigger, answer
        if len(self._answers) > _REMEMBERED:
            self._answers.pop(next(iter(self._answers)))

    def get(self, trigger_id: str) -> tuple[Trigger, Answer] | None:
        """Return the first trigger with this id and its answer."""
        return self._answers.get(trigger_id)


class TriggerQueue:
    """Parts without an answer or without a record. Used only by the supervisor's thread.

    Every part is answered once: with its verdict, or with ``fault`` when its window closes. A fault that is not
    recorded is written to the `Backlog` before it is answered.
    """

    def __init__(
        self,
        settings: StationSettings,
        metrics: Metrics,
        *,
        send: Reply,
        on_fault: Callable[[], None],
        note: Callable[[str, Mapping[str, object]], None],
    ) -> None:
        """Read the backlog of an earlier run.

        Args:
            settings: Settings of the station.
            metrics: Counters to update.
            send: Sends an answer to the line.
            on_fault: Called when a part is answered ``fault``.
            note: Records an event, with the name of the action and its details.
        """
        self._window_s, self._limit = settings.window_s, settings.queue
        self._metrics, self._send, self._on_fault, self._note = metrics, send, on_fault, note
        self.backlog = Backlog(settings.state_dir / UNRECORDED)
        self._pending: dict[str, Pending] = {}
        self._unanswered: dict[str, Pending] = {}
        """Parts without an answer, in the order of their deadlines."""
        self._waiting: deque[Pending] = deque()
        self._recorded_answers = RecordedAnswers()
        self._reused = ("", 0.0)
        for owed in self.backlog:  # an earlier run may have answered them, so they stay faults
            answer = fault(owed.trigger, owed.cause, owed.reason)
            self._pending[owed.trigger.id] = Pending(trigger=owed.trigger, came_s=0.0, answer=answer, owed=True)

    # --- parts in progress

    @property
    def waiting(self) -> int:
        """Number of parts that wait for the worker."""
        return len(self._waiting)

    @property
    def waiting_triggers(self) -> list[Trigger]:
        """Triggers of the parts that wait for the worker, in order."""
        return [pending.trigger for pending in self._waiting]

    @property
    def has_unanswered(self) -> bool:
        """Whether a part has no answer yet."""
        return bool(self._unanswered)

    @property
    def has_unrecorded(self) -> bool:
        """Whether a part has no record yet."""
        return bool(self._pending or self.backlog)

    @property
    def reused(self) -> str:
        """Alarm that a trigger id was recently used for two parts; empty otherwise."""
        why, at_s = self._reused
        return why if why and time.monotonic() - at_s < _ALARM_S else ""

    def left_s(self, most_s: float) -> float:
        """Return the seconds until the next window closes, at most ``most_s``."""
        first = next(iter(self._unanswered.values()), None)
        return most_s if first is None else min(most_s, max(0.0, first.trigger.due_s - time.monotonic()))

    # --- triggers

    def answer_repeat(self, trigger: Trigger, came_s: float, replies: list[Reply]) -> bool:
        """Answer a trigger whose id was used before; another part under the same id is a fault.

        Returns:
            Whether it was a repeat.
        """
        recorded, known = self._recorded_answers.get(trigger.id), self._pending.get(trigger.id)
        if known is not None:
            first, answer = known.trigger, known.answer
        elif recorded is not None:
            first, answer = recorded
        else:
            return False
        self._metrics.events["repeats"] += 1
        reused = trigger.unlike(part=first.part, lot=first.lot, product=first.product)
        if reused:
            self._alarm_reused(trigger, reused)
            self._answer(fault(trigger, Cause.REUSED_ID, reused), replies, came_s)
            if known is not None and answer is None:  # two parts in progress with one id: neither may pass
                self._give_up(known, Cause.REUSED_ID, reused)
        elif answer is not None:
            self._answer(replace(answer, repeated=True), replies, came_s)
        else:
            assert known is not None, "a part without an answer is in progress"
            known.replies += replies
        return True

    def add(self, trigger: Trigger, came_s: float, replies: list[Reply], *, down: bool, stopped: str = "") -> None:
        """Queue a new trigger for the worker, or answer it at once.

        Args:
            trigger: A trigger with a new id.
            came_s: Monotonic time of its arrival.
            replies: Called with its answer.
            down: No worker runs, and none may be started yet.
            stopped: Why the line is stopped; empty if it is not.
        """
        pending = Pending(trigger=trigger, came_s=came_s, replies=replies)
        self._pending[trigger.id] = self._unanswered[trigger.id] = pending
        if len(self._waiting) >= self._limit:
            self._metrics.events["overruns"] += 1
            self._fault(pending, Cause.OVERRUN, f"Queue full (limit {self._limit})")
        elif stopped:
            self._fault(pending, Cause.LINE_STOPPED, stopped)
        elif down:
            self._fault(pending, Cause.PROCESS, "the worker keeps crashing and may not be restarted yet")
        else:
            self._waiting.append(pending)

    def take(self) -> Pending:
        """Remove and return the next part for the worker; at least one must be `waiting`."""
        return self._waiting.popleft()

    def close_windows(self, *, in_hand: Pending | None, worker_ready: bool) -> None:
        """Answer every part whose window has closed with ``fault``.

        Args:
            in_hand: The part that the worker is judging.
            worker_ready: A worker runs and is ready.
        """
        now_s = time.monotonic()
        while (first := next(iter(self._unanswered.values()), None)) is not None and first.trigger.due_s <= now_s:
            if not worker_ready:
                self._give_up(first, Cause.PROCESS, "the worker is not running")
            elif first is in_hand:
                self._give_up(first, Cause.LATE, f"no verdict within {self._window_s:g} s")
            else:
                self._give_up(first, Cause.LATE, f"still waiting after {self._window_s:g} s")

    # --- results of the worker

    def judged(self, pending: Pending, answer: Answer, *, contested: bool, stopped: str = "") -> None:
        """Answer a part with its verdict, unless the verdict came too late.

        Args:
            pending: The part that was judged.
            answer: The worker's answer.
            contested: The judged picture may belong to another part.
            stopped: Why the line is stopped; empty if it is not.
        """
        if pending.answer is not None:
            return  # already answered with fault, which is in the backlog and will be compared with this record
        if answer.state is not State.FAULT and time.monotonic() > pending.trigger.due_s:
            self._fault(pending, Cause.LATE, f"no verdict within {self._window_s:g} s")
        elif answer.row is None:  # a fault that could not be recorded
            self._fault(pending, answer.cause or Cause.LEDGER, answer.reason)
        elif answer.state is not State.FAULT and stopped:
            self._fault(pending, Cause.LINE_STOPPED, stopped)
        elif answer.state is not State.FAULT and contested:
            self._fault(pending, Cause.UNMATCHED, "another part came before this picture, so it may show either part")
        else:
            del self._pending[answer.trigger_id]
            if answer.cause is Cause.REUSED_ID:
                self._alarm_reused(pending.trigger, answer.reason)
            else:
                self._recorded_answers.add(pending.trigger, answer)
            self._give(answer, pending)

    def died_with(self, pending: Pending, reason: str) -> None:
        """Handle a worker that died while it judged this part.

        The part is not judged again, because it may have crashed the worker. Its verdict may already be recorded, so
        its answer waits until the fault is recorded.
        """
        self._owe(pending, Cause.PROCESS, reason, answered=pending.answer is not None)

    def expire(self, trigger_id: str, reason: str) -> None:
        """Turn a verdict that did not reach the line in time into a fault for ever, also for a repeated trigger."""
        known = self._recorded_answers.get(trigger_id)
        if known is None or known[1].state is State.FAULT:
            return
        trigger, answer = known
        self._recorded_answers.add(trigger, answer.as_fault(Cause.LATE, reason))
        self.backlog.add(Owed(trigger=trigger, cause=Cause.LATE, reason=reason, answered=True))

    # --- faults that are to be recorded

    def next_record(self) -> RecordFault | None:
        """Return the job to record the oldest fault in the backlog; ``None`` if it is empty."""
        owed = self.backlog.next()
        if owed is None:
            return None
        pending = self._pending.get(owed.trigger.id)
        answered = pending is None or pending.answer is not None
        return RecordFault(trigger=owed.trigger, cause=owed.cause, reason=owed.reason, answered=answered)

    def fault_recorded(self, answer: Answer) -> bool:
        """Handle the worker's answer about the oldest fault.

        Returns:
            Whether the part is recorded now; false if the ledger failed again.
        """
        recorded = answer.row is not None
        self.backlog.done(recorded=recorded)
        if recorded:
            pending = self._pending.pop(answer.trigger_id, None)
            if pending is not None and pending.answer is None:
                self._give(replace(answer, repeated=False), pending)
        return recorded

    def recording_killed_worker(self, *, crashed: bool) -> None:
        """Handle a worker that died while it recorded the oldest fault.

        Args:
            crashed: The worker ended by its own error, not by a signal from outside.
        """
        if self.backlog.is_deadly(crashed=crashed):
            self.set_aside()
        else:
            self.backlog.done(recorded=False)  # killed from outside: retry after the other faults

    def set_aside(self) -> None:
        """Move the oldest fault to a file that a person must read; its part stays a fault."""
        owed = self.backlog.give_up()
        pending = self._pending.pop(owed.trigger.id, None)
        if pending is None:
            return
        answer = pending.answer or fault(owed.trigger, owed.cause, owed.reason)
        self._recorded_answers.add(owed.trigger, answer)
        if pending.answer is None:
            self._give(answer, pending)

    # --- internal

    def _alarm_reused(self, trigger: Trigger, why: str) -> None:
        self._metrics.events["reused_ids"] += 1
        self._reused = f"A trigger id was used for two parts: {why}", time.monotonic()
        names = {"part": trigger.part, "lot": trigger.lot, "product": trigger.product}
        self._note("reused_id", {"trigger_id": trigger.id, "why": why, **names})

    def _give_up(self, pending: Pending, cause: Cause, reason: str) -> None:
        """Answer a part that waits or is being judged with ``fault``."""
        if pending in self._waiting:
            self._waiting.remove(pending)
        self._fault(pending, cause, reason)

    def _fault(self, pending: Pending, cause: Cause, reason: str) -> None:
        """Write a fault to the backlog, then answer it."""
        self._owe(pending, cause, reason, answered=True)
        pending.answer = fault(pending.trigger, cause, reason)
        self._give(pending.answer, pending)

    def _owe(self, pending: Pending, cause: Cause, reason: str, *, answered: bool) -> None:
        if pending.owed:
            return
        owed = Owed(trigger=pending.trigger, cause=cause, reason=reason, answered=answered)
        pending.owed = self.backlog.add(owed)
        if not pending.owed:  # the backlog is full: counted and shown, and never a go
            self._pending.pop(pending.trigger.id, None)

    def _give(self, answer: Answer, pending: Pending) -> None:
        self._unanswered.pop(pending.trigger.id, None)
        self._answer(answer, pending.replies, pending.came_s)

    def _answer(self, answer: Answer, replies: Sequence[Reply], came_s: float) -> None:
        self._metrics.answered(answer, (time.monotonic() - came_s) * 1e3)
        if answer.state is State.FAULT and not answer.repeated:
            self._on_fault()
        self._send(answer)
        for reply in replies:
            reply(answer)
