"""The triggers of a station on their way: each has a deadline, one answer and, in the end, one record."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gonogo.schema import State
from gonogo.station.backlog import UNRECORDED, Backlog, Owed
from gonogo.station.messages import Answer, Cause, RecordFault, Trigger, fault
from gonogo.station.metrics import Metrics
from gonogo.station.settings import StationSettings

Reply = Callable[[Answer], None]
_REMEMBERED = 5_000
_ALARM_S = 3_600.0  # for how long a reused id is shown as an alarm


@dataclass(kw_only=True, eq=False)
class Pending:
    """A trigger on its way."""

    trigger: Trigger
    came_s: float
    replies: list[Reply] = field(default_factory=list)
    answer: Answer | None = None
    """What the line was told, where it was told before the record was made."""
    owed: bool = False
    """A fault of this part is in the backlog."""


class RecordedAnswers:
    """The last verdicts on record, so that a repeat gets its own even while the worker is away."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[Trigger, Answer]] = {}

    def add(self, trigger: Trigger, answer: Answer) -> None:
        """Remember one; the oldest is forgotten, as the ledger has it."""
        self._answers[trigger.id] = trigger, answer
        if len(self._answers) > _REMEMBERED:
            self._answers.pop(next(iter(self._answers)))

    def get(self, trigger_id: str) -> tuple[Trigger, Answer] | None:
        """The first trigger of this id, and its answer."""
        return self._answers.get(trigger_id)


class TriggerQueue:
    """Parts without an answer or without a record. Used by the supervisor's thread alone.

    Every part is answered once: by its verdict, or by ``fault`` when its time is over. A fault that is not on record is
    written to the `Backlog` before it is answered.
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
        """Take over what an earlier run still owed.

        Args:
            settings: The station's.
            metrics: Counts what happens here.
            send: Gives an answer to the line.
            on_fault: Called when a part is answered ``fault``.
            note: Records that something happened: an action and its details.
        """
        self._window_s, self._limit = settings.window_s, settings.queue
        self._metrics, self._send, self._on_fault, self._note = metrics, send, on_fault, note
        self.backlog = Backlog(settings.state_dir / UNRECORDED)
        self._pending: dict[str, Pending] = {}
        self._unanswered: dict[str, Pending] = {}
        """Those without an answer; the first is due first."""
        self._waiting: deque[Pending] = deque()
        self._recorded_answers = RecordedAnswers()
        self._reused = ("", 0.0)
        for owed in self.backlog:  # an earlier run may have told the line of them: until then they stay faults
            told = fault(owed.trigger, owed.cause, owed.reason)
            self._pending[owed.trigger.id] = Pending(trigger=owed.trigger, came_s=0.0, answer=told, owed=True)

    # --- what is on its way

    @property
    def waiting(self) -> int:
        """Parts that wait for the worker."""
        return len(self._waiting)

    @property
    def waiting_triggers(self) -> list[Trigger]:
        """Of the parts that wait for the worker, in order."""
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
        """That a trigger's id was used for two parts lately; empty otherwise."""
        why, at_s = self._reused
        return why if why and time.monotonic() - at_s < _ALARM_S else ""

    def left_s(self, most_s: float) -> float:
        """Until the next window closes, at most ``most_s``."""
        first = next(iter(self._unanswered.values()), None)
        return most_s if first is None else min(most_s, max(0.0, first.trigger.due_s - time.monotonic()))

    # --- triggers

    def answer_repeat(self, trigger: Trigger, came_s: float, replies: list[Reply]) -> bool:
        """Answer a trigger whose id has come before; another part under the same id is a fault.

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
            self._tell(fault(trigger, Cause.REUSED_ID, reused), replies, came_s)
            if known is not None and answer is None:  # one id for two parts on their way: neither may pass
                self._give_up(known, Cause.REUSED_ID, reused)
        elif answer is not None:
            self._tell(replace(answer, repeated=True), replies, came_s)
        elif known is not None:
            known.replies += replies
        return True

    def add(self, trigger: Trigger, came_s: float, replies: list[Reply], *, down: bool) -> None:
        """Queue a new trigger for the worker, or answer it at once.

        Args:
            trigger: With an id that has not come before.
            came_s: When it came, monotonic.
            replies: Called with its answer.
            down: There is no worker and will not be one soon.
        """
        pending = Pending(trigger=trigger, came_s=came_s, replies=replies)
        self._pending[trigger.id] = self._unanswered[trigger.id] = pending
        if len(self._waiting) >= self._limit:
            self._metrics.events["overruns"] += 1
            self._fault(pending, Cause.OVERRUN, f"Queue full (limit {self._limit})")
        elif down:
            self._fault(pending, Cause.PROCESS, "the worker keeps dying and may not be restarted yet")
        else:
            self._waiting.append(pending)

    def take(self) -> Pending:
        """The next part for the worker; there must be one `waiting`."""
        return self._waiting.popleft()

    def close_windows(self, *, in_hand: Pending | None, worker_ready: bool) -> None:
        """Answer every part whose time is over with ``fault``, whatever may still come of it.

        Args:
            in_hand: The part that the worker is judging.
            worker_ready: There is a worker, and it has started.
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

    def judged(self, pending: Pending, answer: Answer, *, contested: bool) -> None:
        """Answer a part with its verdict, unless that came too late.

        Args:
            pending: The part that was in hand.
            answer: What the worker made of it.
            contested: The picture that was judged may be another part's.
        """
        if pending.answer is not None:
            return  # the line was told fault meanwhile; that is owed already, and will be compared with this record
        if answer.state is not State.FAULT and time.monotonic() > pending.trigger.due_s:
            self._fault(pending, Cause.LATE, f"no verdict within {self._window_s:g} s")
        elif answer.row is None:  # a fault that could not be recorded
            self._fault(pending, answer.cause or Cause.LEDGER, answer.reason)
        elif answer.state is not State.FAULT and contested:
            self._fault(pending, Cause.UNMATCHED, "another part came before this picture, which may show either")
        else:
            del self._pending[answer.trigger_id]
            if answer.cause is Cause.REUSED_ID:
                self._alarm_reused(pending.trigger, answer.reason)
            else:
                self._recorded_answers.add(pending.trigger, answer)
            self._give(answer, pending)

    def died_with(self, pending: Pending, reason: str) -> None:
        """The worker died with this part in hand.

        It is not judged again, as it may be what killed the worker; but its verdict may be on record already, so that
        its answer waits for the record of the fault.
        """
        self._owe(pending, Cause.PROCESS, reason, answered=pending.answer is not None)

    # --- faults that are to be recorded

    def next_record(self) -> RecordFault | None:
        """The oldest fault that is not on record; ``None`` where there is none."""
        owed = self.backlog.next()
        if owed is None:
            return None
        pending = self._pending.get(owed.trigger.id)
        answered = pending is None or pending.answer is not None
        return RecordFault(trigger=owed.trigger, cause=owed.cause, reason=owed.reason, answered=answered)

    def fault_recorded(self, answer: Answer) -> bool:
        """The oldest fault is on record, or was found to have its verdict there; or the ledger failed again.

        Returns:
            Whether it is on record.
        """
        recorded = answer.row is not None
        self.backlog.done(recorded=recorded)
        if recorded:
            pending = self._pending.pop(answer.trigger_id, None)
            if pending is not None and pending.answer is None:
                self._give(replace(answer, repeated=False), pending)
        return recorded

    def recording_killed_worker(self, *, crashed: bool) -> None:
        """The worker died while it recorded the oldest fault, which must not kill another one.

        Args:
            crashed: It ended by an error of its own, not by a signal from outside.
        """
        if self.backlog.is_deadly(crashed=crashed):
            self.set_aside()
        else:
            self.backlog.done(recorded=False)  # killed from outside: the others go first

    def set_aside(self) -> None:
        """The oldest fault goes into a file for a person to look at; its part stays a fault."""
        owed = self.backlog.give_up()
        pending = self._pending.pop(owed.trigger.id, None)
        if pending is None:
            return
        answer = pending.answer or fault(owed.trigger, owed.cause, owed.reason)
        self._recorded_answers.add(owed.trigger, answer)
        if pending.answer is None:
            self._give(answer, pending)

    # --- inside

    def _alarm_reused(self, trigger: Trigger, why: str) -> None:
        self._metrics.events["reused_ids"] += 1
        self._reused = f"A trigger's id was used for two parts: {why}", time.monotonic()
        names = {"part": trigger.part, "lot": trigger.lot, "product": trigger.product}
        self._note("reused_id", {"trigger_id": trigger.id, "why": why, **names})

    def _give_up(self, pending: Pending, cause: Cause, reason: str) -> None:
        """Answer a part that is in hand or waits with ``fault``."""
        if pending in self._waiting:
            self._waiting.remove(pending)
        self._fault(pending, cause, reason)

    def _fault(self, pending: Pending, cause: Cause, reason: str) -> None:
        """Owe the record of a fault, on disk, and only then answer it."""
        self._owe(pending, cause, reason, answered=True)
        pending.answer = fault(pending.trigger, cause, reason)
        self._give(pending.answer, pending)

    def _owe(self, pending: Pending, cause: Cause, reason: str, *, answered: bool) -> None:
        if pending.owed:
            return
        owed = Owed(trigger=pending.trigger, cause=cause, reason=reason, answered=answered)
        pending.owed = self.backlog.add(owed)
        if not pending.owed:  # too many to remember: counted, shown, and never a go
            self._pending.pop(pending.trigger.id, None)

    def _give(self, answer: Answer, pending: Pending) -> None:
        self._unanswered.pop(pending.trigger.id, None)
        self._tell(answer, pending.replies, pending.came_s)

    def _tell(self, answer: Answer, replies: Sequence[Reply], came_s: float) -> None:
        self._metrics.answered(answer, (time.monotonic() - came_s) * 1e3)
        if answer.state is State.FAULT and not answer.repeated:
            self._on_fault()
        self._send(answer)
        for reply in replies:
            reply(answer)
