"""What a benchmark found, as flat rows: ratios are what counts, milliseconds belong to the machine of the day."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bench.clock import Times


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of one table."""

    table: str
    name: str
    ratio: float | None = None
    """Against what the table says it is held; ``None`` where there is nothing to compare, or it was not measured."""
    median_ms: float | None = None
    p99_ms: float | None = None
    note: str = ""
    """Why it was not measured, or what else there is to know."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Further figures, by name."""

    @classmethod
    def timed(cls, table: str, name: str, times: Times, ratio: float | None, note: str = "", **facts: Any) -> Row:
        """A row of measured durations."""
        return cls(
            table=table,
            name=name,
            ratio=ratio,
            median_ms=times.median_ms,
            p99_ms=times.p99_ms,
            note=note,
            facts=facts,
        )

    def to_json(self) -> dict[str, Any]:
        """Flat."""
        flat = asdict(self)
        del flat["facts"]
        return {**flat, **self.facts}


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Everything that one run measured."""

    headlines: dict[str, float | int | str | None]
    rows: list[Row]
    machine: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Headlines, machine and the table of rows."""
        return {**self.headlines, "machine": self.machine, "rows": [row.to_json() for row in self.rows]}

    def table(self, name: str) -> list[Row]:
        """The rows of one table, in order."""
        return [row for row in self.rows if row.table == name]
