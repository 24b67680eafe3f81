"""The triggers that a gate has on its way, and the verdicts it remembers of those that went before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gonogo.station.messages import Answer, Trigger

Reply = Callable[[Answer], None]
_REMEMBERED = 5_000


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


@dataclass(frozen=True, kw_only=True)
class InHand:
    """What the worker is doing."""

    pending: Pending | None
    """The part that is judged; ``None`` for everything else."""
    job: str
    since_s: float


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
