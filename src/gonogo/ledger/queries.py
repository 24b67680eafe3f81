"""Filters and groups for ledger queries, and their SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gonogo.ledger.engine import Engine
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

    def sql(self, engine: Engine, kind: RowKind | None) -> tuple[str, dict[str, str | int]]:
        """Return a condition on ``entries`` and the values to bind by name.

        Args:
            engine: The database that will be asked.
            kind: Only rows of this kind.
        """
        # Without statistics, SQLite's planner does not know which index is selective. A plus before a column keeps the
        # planner from using the index of that column.
        plus = "+" if engine.hints else ""
        off = plus if self.narrow else ""
        tests: dict[str, tuple[str, str | int | None]] = {
            "kind": (f"{off}kind = ", kind),
            "station": (f"{plus}station = ", self.station),
            "part": ("part = ", self.part),
            "lot": ("lot = ", self.lot),
            "cause": (f"{plus}cause = ", self.cause),
            "bundle": (f"{plus}bundle_sha256 = ", self.bundle_sha256),
            "action": (f"{'' if self.about is None else plus}action = ", self.action),
            "who": (f"{plus}who = ", self.who),
            "about": ("about = ", self.about),
            "label": (f"{plus}label = ", self.label),
            "since": ("at >= ", None if self.since is None else iso(self.since)),
            "until": ("at < ", None if self.until is None else iso(self.until)),
        }
        values = {name: value for name, (_, value) in tests.items() if value is not None}
        conditions = ["TRUE", *(f"{tests[name][0]}:{name}" for name in values)]
        if self.states:
            states: dict[str, str | int] = {f"state_{number}": state for number, state in enumerate(self.states)}
            conditions.append(f"{off}state IN ({', '.join(f':{name}' for name in states)})")
            values |= states
        if self.undecided:
            conditions.append(_UNDECIDED.format(decisions=engine.entries("decision")))
        if self.latest:
            conditions.append(_LATEST.format(later=engine.entries("later")))
        # The drivers need plain strings instead of members of a StrEnum.
        plain = {name: str(value) if isinstance(value, str) else value for name, value in values.items()}
        return " AND ".join(conditions), plain


_UNDECIDED = f"""(SELECT decision.label FROM {{decisions}}
 WHERE decision.about = entries.seq AND decision.action = '{REVIEW}' ORDER BY decision.seq DESC LIMIT 1) IS NULL"""

_LATEST = """NOT EXISTS (SELECT 1 FROM {later}
 WHERE later.about = entries.about AND later.action = entries.action AND later.seq > entries.seq)"""
