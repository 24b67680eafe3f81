"""Results of a benchmark as flat rows. Compare the ratios; milliseconds depend on the machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bench.clock import Times


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table."""

    table: str
    name: str
    ratio: float | None = None
    """Ratio to the reference of the table; ``None`` without a reference or a measurement."""
    median_ms: float | None = None
    p99_ms: float | None = None
    note: str = ""
    """Why it was not measured, or a remark."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Further figures, by name."""

    @classmethod
    def timed(cls, table: str, name: str, times: Times, ratio: float | None, note: str = "", **facts: Any) -> Row:
        """Create a row from measured durations."""
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
        """Return a flat mapping."""
        flat = asdict(self)
        del flat["facts"]
        return {**flat, **self.facts}


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """All results of one run."""

    headlines: dict[str, float | int | str | None]
    rows: list[Row]
    machine: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Headlines, machine and the table of rows."""
        return {**self.headlines, "machine": self.machine, "rows": [row.to_json() for row in self.rows]}

    def table(self, name: str) -> list[Row]:
        """Return the rows of one table, in order."""
        return [row for row in self.rows if row.table == name]
