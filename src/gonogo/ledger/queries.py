"""What can be asked of the ledger: filters and groups, and the SQL behind them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gonogo.ledger.records import REVIEW, RowKind, iso
from gonogo.schema import Label, State


class By(Enum):
    """What rows can be counted by; the value is the column or expression."""

    STATE = "state"
    DAY = "substr(at, 1, 10)"
    """``2026-01-31``, UTC."""
    HOUR = "substr(at, 1, 13)"
    """``2026-01-31T14``, UTC."""
    LOT = "lot"
    STATION = "station"
    CAUSE = "cause"
    BUNDLE = "bundle_sha256"
    ACTION = "action"
    WHO = "who"
    LABEL = "label"
    DEFECT = "defect"


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which rows; every condition given must hold, and none given means all."""

    station: str | None = None
    part: str | None = None
    lot: str | None = None
    states: tuple[State, ...] = ()
    cause: str | None = None
    bundle_sha256: str | None = None
    since: datetime | None = None
    """Committed at or after."""
    until: datetime | None = None
    """Committed before."""
    undecided: bool = False
    """Verdicts about which no review stands: none was made, or the latest was taken back."""
    action: str | None = None
    who: str | None = None
    about: int | None = None
    label: Label | None = None
    latest: bool = False
    """Of the actions of one name about one row, the last one only."""

    @property
    def narrow(self) -> bool:
        """Whether an index of its own finds the few rows this can mean."""
        return any(value is not None for value in (self.part, self.lot, self.about, self.action))

    def sql(self, kind: RowKind | None, *, counting: bool = False) -> tuple[str, list[str | int]]:
        """A condition on ``entries`` and what to bind to it.

        Args:
            kind: Only this kind.
            counting: Whether the rows are counted, and not read in the order of their numbers.
        """
        # Without statistics the planner cannot tell a selective index from a poor one, nor that times grow with
        # numbers; a plus before a column keeps it off that column's index.
        off = "+" if self.narrow else ""
        time = "at" if counting else "+at"
        tests: dict[str, str | int | None] = {
            f"{off}kind = ?": kind,
            "+station = ?": self.station,
            "part = ?": self.part,
            "lot = ?": self.lot,
            "+cause = ?": self.cause,
            "+bundle_sha256 = ?": self.bundle_sha256,
            f"{'' if self.about is None else '+'}action = ?": self.action,
            "+who = ?": self.who,
            "about = ?": self.about,
            "+label = ?": self.label,
            f"{time} >= ?": None if self.since is None else iso(self.since),
            f"{time} < ?": None if self.until is None else iso(self.until),
        }
        conditions = ["1", *(test for test, value in tests.items() if value is not None)]
        values = [value for value in tests.values() if value is not None]
        if self.states:
            conditions.append(f"{off}state IN ({', '.join('?' * len(self.states))})")
            values += self.states
        if self.undecided:
            conditions.append(_UNDECIDED)
        if self.latest:
            conditions.append(_LATEST)
        # Enumerations are text to SQLite only when they are plain strings.
        return " AND ".join(conditions), [str(value) if isinstance(value, str) else value for value in values]


_UNDECIDED = f"""(SELECT decision.label FROM entries AS decision
 WHERE decision.about = entries.seq AND decision.action = '{REVIEW}' ORDER BY decision.seq DESC LIMIT 1) IS NULL"""

_LATEST = """NOT EXISTS (SELECT 1 FROM entries AS later
 WHERE later.about = entries.about AND later.action = entries.action AND later.seq > entries.seq)"""
