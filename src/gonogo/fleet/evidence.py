"""Evidence of a roll-out, read out of ledgers: what the station's silent judge recorded, and what people decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gonogo.fleet.releases import Release
from gonogo.fleet.rollout import Evidence
from gonogo.ledger import REVIEW, Action, Ledger, Row, Where
from gonogo.schema import Label, State

SHADOW, DROPPED, CRASHED = "shadow", "shadow_dropped", "shadow_crashed"
"""Actions of the silent judge: one verdict, a number of parts without one, and its end by a crash."""
_JUDGED = (State.GO, State.REVIEW, State.NO_GO)
_STRICT = (State.REVIEW, State.NO_GO)


class Place(Protocol):
    """A ledger that is read again and again."""

    def open(self) -> Ledger:
        """Open it; the reader closes it."""


@dataclass(frozen=True, kw_only=True)
class LedgerFile:
    """A ledger on this machine."""

    path: Path

    def open(self) -> Ledger:
        """Open it for reading."""
        return Ledger.open(self.path, create=False, read_only=True)


@dataclass(frozen=True, kw_only=True)
class SilentVerdict:
    """One part as the old bundle and the candidate judged it."""

    ledger: int
    """Number of the ledger."""
    seq: int
    """Row of the verdict that was answered."""
    old: State
    new: State
    """Verdict of the candidate."""
    score: float | None
    """The candidate's score; ``None`` where it answered itself, and where it could not judge."""

    @property
    def flipped(self) -> bool:
        """Whether the candidate passes a part that the old bundle stops."""
        return self.old in _STRICT and self.new is State.GO


@dataclass(kw_only=True)
class SeenPart:
    """What is known of one part in one stage."""

    name: str
    flipped: bool = False
    live: bool = False
    live_flip: bool = False
    stricter: bool = False
    fault: bool = False
    judged: bool = False
    about: list[tuple[int, int]] = field(default_factory=list)
    """Ledger, by its number, and row of each verdict."""
    verdict: SilentVerdict | None = None
    """The verdict that counts: its first flip, else its latest one; ``None`` before the first of both bundles."""
    label: Label | None = None
    """What people say; ``None`` if nobody or too few have decided. Set by `EvidenceReader.parts`."""


class EvidenceReader:
    """Reads the evidence of one stage; a second reading reads only the new rows."""

    def __init__(self, places: tuple[Place, ...], release: Release) -> None:
        self._places = places
        self._release = release
        self._after = [0] * len(places)
        self._parts: dict[str, SeenPart] = {}
        self._people: defaultdict[tuple[int, int], dict[str, Label]] = defaultdict(dict)
        self._seen: set[tuple[int, int]] = set()
        self._counts = {"challenges_passed": 0, "crashes": 0, "dropped": 0}

    def read(self) -> Evidence:
        """Read new rows and return all evidence so far.

        Raises:
            LedgerError: a ledger cannot be read.
        """
        for number, place in enumerate(self._places):
            with place.open() as ledger:
                head = ledger.head().seq
                for action in (SHADOW, DROPPED, CRASHED, REVIEW):
                    for row in ledger.actions(Where(action=action), after=self._after[number], before=head + 1):
                        self._take(number, row)
                self._after[number] = head
        return self._evidence()

    def undecided(self) -> tuple[SeenPart, ...]:
        """Flips that people still have to decide, oldest first; see `read`."""
        return tuple(each for each in self._parts.values() if each.flipped and self._label(each) is None)

    def parts(self) -> tuple[SeenPart, ...]:
        """Return all parts that both bundles were given, oldest first, with what people say; see `read`."""
        for each in self._parts.values():
            each.label = self._label(each)
        return tuple(self._parts.values())

    def _take(self, number: int, row: Row[Action]) -> None:
        record, details = row.record, row.record.details
        if record.action == REVIEW:
            if record.about is not None:
                said = self._people[number, record.about]
                said.pop(record.who, None)
                if record.label is not None:
                    said[record.who] = record.label
            return
        if details.get("rollout") != self._release.rollout or details.get("stage") != self._release.stage.value:
            return
        if record.action == CRASHED:
            self._counts["crashes"] += details.get("shadow_by") == self._release.candidate_sha256
        elif record.action == DROPPED:
            count = details.get("count")
            self._counts["dropped"] += count if isinstance(count, int) else 0
        elif record.about is not None and (number, record.about) not in self._seen:
            self._seen.add((number, record.about))
            self._judge((number, record.about), str(record.station), details)

    def _judge(self, about: tuple[int, int], station: str, details: Mapping[str, Any]) -> None:
        old, new = State(str(details["answered"])), State(str(details["shadow"]))
        live = details["answered_by"] == self._release.candidate_sha256
        if live:
            old, new = new, old
        elif details["shadow_by"] != self._release.candidate_sha256:
            return
        if details.get("challenge") is True:
            self._counts["challenges_passed"] += new is State.GO
            return
        part = details.get("part")
        name = str(part) if part is not None else f"{station} {details.get('trigger_id')}"
        seen = self._parts.setdefault(name, SeenPart(name=name))
        seen.about.append(about)
        if old not in _JUDGED:
            return
        score = None if live else details.get("score")
        verdict = SilentVerdict(ledger=about[0], seq=about[1], old=old, new=new, score=score)
        if seen.verdict is None or not seen.verdict.flipped:
            seen.verdict = verdict
        if new not in _JUDGED:
            seen.fault = True
            return
        flipped = verdict.flipped
        seen.judged = True
        seen.live |= live
        seen.flipped |= flipped
        seen.live_flip |= flipped and live
        seen.stricter |= old is State.GO and new is not State.GO

    def _label(self, part: SeenPart) -> Label | None:
        """What people say: bad if one of them does, good if enough different people do."""
        said: dict[str, Label] = {}
        for about in part.about:
            for who, label in self._people.get(about, {}).items():
                said[who] = Label.BAD if Label.BAD in (label, said.get(who)) else label
        if Label.BAD in said.values():
            return Label.BAD
        return Label.GOOD if len(said) >= self._release.terms.people else None

    def _evidence(self) -> Evidence:
        judged = [each for each in self._parts.values() if each.judged]
        flips = [(each, self._label(each)) for each in judged if each.flipped]
        return Evidence(
            parts=len(judged),
            live=sum(each.live for each in judged),
            flips=len(flips),
            bad_flips=sum(label is Label.BAD for _, label in flips),
            unsettled=sum(label is None for _, label in flips),
            settled=sum(self._label(each) is not None for each in judged),
            live_escapes=sum(label is Label.BAD and each.live_flip for each, label in flips),
            stricter=sum(each.stricter for each in judged),
            faults=sum(each.fault for each in self._parts.values()),
            **self._counts,
        )


def shadow_details(
    release: Release, *, answered: State, answered_by: str | None, shadow: State, shadow_by: str, **more: Any
) -> dict[str, Any]:
    """Return the details of a `SHADOW` action; the counterpart of `EvidenceReader`.

    Args:
        release: The release that is in force at the station.
        answered: Verdict that the line was given.
        answered_by: SHA-256 of the bundle that gave it.
        shadow: Silent verdict.
        shadow_by: SHA-256 of the bundle that gave it.
        more: ``part``, ``trigger_id``, ``challenge`` and what is for people only.
    """
    return {
        "rollout": release.rollout,
        "stage": release.stage.value,
        "answered": answered.value,
        "answered_by": answered_by,
        "shadow": shadow.value,
        "shadow_by": shadow_by,
        **more,
    }
