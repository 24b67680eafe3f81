"""Counts of a chaos test: actions and violations."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from gonogo.ledger import Ledger, verify
from gonogo.schema import State
from gonogo.station.judging import ANSWERED_FAULT
from gonogo.station.settings import StationSettings
from gonogo.testing import FakePlc


@dataclass(kw_only=True)
class Findings:
    """Counts of actions and violations; every count of ``wrong`` must be 0."""

    done: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, int] = field(default_factory=dict)
    slowest_fault_s: float = 0.0
    examples: list[str] = field(default_factory=list)

    def add(self, name: str, count: int = 1) -> None:
        """Count an action."""
        self.done[name] = self.done.get(name, 0) + count

    def require(self, name: str, holds: bool, example: str = "") -> None:
        """Count a violation if the condition does not hold."""
        self.wrong.setdefault(name, 0)
        if not holds:
            self.wrong[name] += 1
            if len(self.examples) < 10:
                self.examples.append(f"{name}: {example}")

    def merge(self, other: Findings) -> None:
        """Add the findings of another lane."""
        for name, count in other.done.items():
            self.add(name, count)
        for name, count in other.wrong.items():
            self.wrong[name] = self.wrong.get(name, 0) + count
        self.slowest_fault_s = max(self.slowest_fault_s, other.slowest_fault_s)
        self.examples = (self.examples + other.examples)[:10]

    @property
    def sound(self) -> bool:
        """Whether there was no violation."""
        return not any(self.wrong.values())


def check(settings: StationSettings, plc: FakePlc, found: Findings) -> None:
    """Compare every answer with the ledger: nothing lost, nothing duplicated, no contradictory answers."""
    with Ledger.open(settings.ledger, create=False, read_only=True) as ledger:
        rows = list(ledger.verdicts())
        answered_fault = {row.record.about for row in ledger.actions() if row.record.action == ANSWERED_FAULT}
    by_trigger = {row.record.trigger_id: row for row in rows}
    found.add("rows", len(rows))
    found.add("go", sum(row.record.state is State.GO for row in rows))
    found.require("doubled", len(by_trigger) == len(rows), f"{len(rows) - len(by_trigger)} rows too many")
    for trigger_id, answers in plc.answers.items():
        found.add("acknowledged", len(answers))
        row, given = by_trigger.get(trigger_id), [answer.state for answer in answers]
        states = set(given[:1])
        # A repeat may meet a station that cannot look its verdict up: that is a fault, and never the other way round.
        found.add("repeats_answered_fault", sum(state is State.FAULT for state in given[1:] if given[0] is not state))
        consistent = all(after in (before, State.FAULT) for before, after in itertools.pairwise(given))
        found.require("contradicted", consistent, f"{trigger_id} was answered {given}")
        if row is None:
            found.require("lost", False, f"{trigger_id} was answered {sorted(states)} and is not on record")
            continue
        as_answered = row.record.state in states or (states == {State.FAULT} and row.seq in answered_fault)
        found.require("lost", as_answered, f"{trigger_id}: answered {sorted(states)}, recorded {row.record.state}")
        numbers = {answer.row for answer in answers if answer.row is not None}
        found.require("lost", numbers <= {row.seq}, f"{trigger_id}: answers name rows {numbers}, found {row.seq}")
    unanswered = [trigger_id for trigger_id in plc.fired_s if not plc.answers.get(trigger_id)]
    found.require("unanswered", not unanswered, f"{len(unanswered)}, first {unanswered[:1]}")
    broken = verify(settings.ledger)
    found.require("chain_broken", not broken, str(broken[:1]))
