"""Filters and groups for ledger queries, and their SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gonogo.ledger.records import REVIEW, RowKind, iso
from gonogo.schema import Label, State


class By(Enum):
    """Groups for counting rows; the value is the SQL column or expression."""

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
    """A filter for rows; all given conditions must hold."""

    station: str | None = None
    part: str | None = None
    lot: str | None = None
    states: tuple[State, ...] = ()
    cause: str | None = None
    bundle_sha256: str | None = None
    since: datetime | None = None
    """Committed at or after this time."""
    until: datetime | None = None
    """Committed before this time."""
    undecided: bool = False
    """Only verdicts without a valid review: none was made, or the latest was withdrawn."""
    action: str | None = None
    who: str | None = None
    about: int | None = None
    label: Label | None = None
    latest: bool = False
    """Only the last action of each name about each row."""

    @property
    def narrow(self) -> bool:
        """Whether a dedicated index finds the matching rows."""
        return any(value is not None for value in (self.part, self.lot, self.about, self.action))

    def sql(self, kind: RowKind | None, *, counting: bool = False) -> tuple[str, list[str | int]]:
        """Return a condition on ``entries`` and the values to bind.

        Args:
            kind: Only rows of this kind.
            counting: The rows are counted, not read in order.
        """
        # Without statistics, SQLite's planner does not know which index is selective, nor that times grow with row
        # numbers. A plus before a column keeps the planner from using the index of that column.
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
        # SQLite needs plain strings instead of members of a StrEnum.
        return " AND ".join(conditions), [str(value) if isinstance(value, str) else value for value in values]


_UNDECIDED = f"""(SELECT decision.label FROM entries AS decision
 WHERE decision.about = entries.seq AND decision.action = '{REVIEW}' ORDER BY decision.seq DESC LIMIT 1) IS NULL"""

_LATEST = """NOT EXISTS (SELECT 1 FROM entries AS later
 WHERE later.about = entries.about AND later.action = entries.action AND later.seq > entries.seq)"""
