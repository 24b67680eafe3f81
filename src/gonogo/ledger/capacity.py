"""What a centre needs for a number of stations: disk, network and processors, from constants that commands measure.

docs/scale.md says which command measures each constant.
"""

from __future__ import annotations

from dataclasses import dataclass

from gonogo.errors import InputError

_DAY_S = 86_400
_YEAR_DAYS = 365


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a row and a batch cost, as measured on one machine."""

    database_bytes_per_row: float = 1_530
    """In PostgreSQL, with all indexes."""
    network_bytes_per_row: float = 1_650
    """Both directions, in batches of one row."""
    database_ms_per_batch: float = 0.5
    """Processor time of PostgreSQL for a transaction, besides its rows."""
    database_ms_per_row: float = 0.08
    forwarder_ms_per_batch: float = 0.75
    """Processor time at the station."""
    forwarder_ms_per_row: float = 0.03
    reconnection_ms: float = 22.0
    """Processor time of PostgreSQL for a new connection and its first batch."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be carried."""

    stations: int
    parts_per_s: float
    """Of each station."""
    years: float
    rows_per_part: float = 1.06
    """A verdict, and the decisions of people about parts in review."""
    hours_per_day: float = 24.0
    every_s: float = 1.0
    """Pause of a forwarder between two batches: ``every_s`` of ``[centre]``."""
    frame_bytes: float = 0.0
    """All pictures of a part; 0 if frames stay at the stations."""
    frame_days: float = 30.0
    """How long frames are kept."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """What it takes at the centre."""

    rows_per_s: float
    """While the stations run."""
    rows: float
    """At the end."""
    database_bytes: float
    """At the end; rows are never deleted."""
    frame_bytes: float
    """From the day on which the first frames are deleted."""
    network_bits_per_s: float
    """Of all stations."""
    transactions_per_s: float
    database_cores: float
    """Processor cores of PostgreSQL, fully used; plan for twice as many."""
    forwarder_core_share: float
    """Share of a core that the forwarder takes at a station."""
    reconnection_s: float
    """Processor seconds of PostgreSQL until all stations are connected after a restart."""

    def cost_per_month(self, *, database_per_tb: float, frames_per_tb: float) -> float:
        """Return the price of the disks at the end, from prices for a terabyte and month; no copies counted."""
        return (self.database_bytes * database_per_tb + self.frame_bytes * frames_per_tb) / 1e12


def capacity(plan: Plan, costs: Costs = Costs()) -> Need:
    """Return what a centre needs.

    Raises:
        InputError: a number of the plan is not positive.
    """
    for name in ("stations", "parts_per_s", "years", "rows_per_part", "hours_per_day", "every_s"):
        if not getattr(plan, name) > 0:
            raise InputError(f"{name}: expected more than 0, found {getattr(plan, name)}.")
    parts_per_s = plan.stations * plan.parts_per_s
    rows_per_s = parts_per_s * plan.rows_per_part
    share = plan.hours_per_day / 24
    rows = rows_per_s * share * _DAY_S * _YEAR_DAYS * plan.years
    per_station = rows_per_s / plan.stations
    batches = min(per_station, 1 / plan.every_s)
    transactions = plan.stations * batches
    frame_days = min(plan.frame_days, plan.years * _YEAR_DAYS)
    busy_ms = transactions * costs.database_ms_per_batch + rows_per_s * costs.database_ms_per_row
    return Need(
        rows_per_s=rows_per_s,
        rows=rows,
        database_bytes=rows * costs.database_bytes_per_row,
        frame_bytes=parts_per_s * share * _DAY_S * frame_days * plan.frame_bytes,
        network_bits_per_s=8 * (rows_per_s * costs.network_bytes_per_row + parts_per_s * plan.frame_bytes),
        transactions_per_s=transactions,
        database_cores=busy_ms / 1e3,
        forwarder_core_share=(batches * costs.forwarder_ms_per_batch + per_station * costs.forwarder_ms_per_row) / 1e3,
        reconnection_s=plan.stations * costs.reconnection_ms / 1e3,
    )
