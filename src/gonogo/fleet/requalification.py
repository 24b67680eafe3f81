"""Requalification: what has changed at a station since a person last declared it fit, and why that is due again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gonogo.ledger import Action, Ledger, Row, Where
from gonogo.station import StationSettings
from gonogo.station.settings import cameras_digest

QUALIFIED = "qualified"
"""Action by which a person declares a station fit, with what it consists of at that time."""
_STARTED = "started"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a station is due again although nothing has changed."""

    parts: int = 1_000_000
    days: float = 365.0


class Trigger(StrEnum):
    """Why a station is due for requalification."""

    NEVER = "never"
    BUNDLE = "bundle"
    SETTINGS = "settings"
    DRIFT = "drift"
    PARTS = "parts"
    TIME = "time"
    CLOCK = "clock"


@dataclass(frozen=True, kw_only=True)
class Due:
    """One reason for a requalification."""

    trigger: Trigger
    why: str
    """One sentence."""


def due(ledger: Ledger, station: str, *, limits: Limits, now: datetime, drift: str = "") -> tuple[Due, ...]:
    """List why a station is due for requalification; empty if it is not.

    Args:
        ledger: Ledger with the station's rows.
        station: Name of the station.
        limits: Parts and days after which it is due anyway.
        now: The time.
        drift: Sentence of the drift alarm; empty without one.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    last = _last(ledger, QUALIFIED, station)
    if last is None:
        return (Due(trigger=Trigger.NEVER, why="No person has declared this station fit yet."),)
    found = [*_changes(ledger, station, last), *_elapsed(ledger, station, last, limits, now)]
    if drift:
        found.append(Due(trigger=Trigger.DRIFT, why=drift))
    return tuple(found)


def _changes(ledger: Ledger, station: str, last: Row[Action]) -> list[Due]:
    found, details = [], last.record.details
    verdict = next(ledger.verdicts(Where(station=station), newest_first=True, limit=1), None)
    bundle = None if verdict is None else verdict.record.bundle_sha256
    if bundle is not None and bundle != details.get("bundle_sha256"):
        found.append(Due(trigger=Trigger.BUNDLE, why=f"Another bundle judges since then ({bundle[:16]})."))
    started = _last(ledger, _STARTED, station)
    settings = None if started is None else started.record.details.get("settings_sha256")
    if settings is not None and settings != details.get("settings_sha256"):
        found.append(Due(trigger=Trigger.SETTINGS, why="The settings of the cameras have changed since then."))
    return found


def _elapsed(ledger: Ledger, station: str, last: Row[Action], limits: Limits, now: datetime) -> list[Due]:
    found, days = [], (now - last.at).total_seconds() / 86_400
    if days < 0:
        why = f"The clock is {-days:.2f} days behind the time of the last qualification: set it right."
        found.append(Due(trigger=Trigger.CLOCK, why=why))
    if days > limits.days:
        found.append(Due(trigger=Trigger.TIME, why=f"It is {days:,.0f} days old; at most {limits.days:,.0f} are set."))
    parts = ledger.count(Where(station=station, since=last.at))
    if parts > limits.parts:
        why = f"{parts:,} parts were judged since then; at most {limits.parts:,} are set."
        found.append(Due(trigger=Trigger.PARTS, why=why))
    return found


def declare_fit(ledger: Ledger, settings: StationSettings, *, who: str, note: str) -> Row[Action]:
    """Record that a person declares a station fit as it is now.

    Raises:
        LedgerError: it cannot be recorded.
    """
    station = settings.station
    verdict = next(ledger.verdicts(Where(station=station), newest_first=True, limit=1), None)
    return ledger.append_action(
        Action(
            action=QUALIFIED,
            who=who,
            station=station,
            details={
                "bundle_sha256": None if verdict is None else verdict.record.bundle_sha256,
                "settings_sha256": cameras_digest(settings),
                "note": note,
            },
        )
    )


def _last(ledger: Ledger, action: str, station: str) -> Row[Action] | None:
    return next(ledger.actions(Where(action=action, station=station), newest_first=True, limit=1), None)
