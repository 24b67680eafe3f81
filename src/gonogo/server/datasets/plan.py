"""The page that plans certifications: what a data set can promise now, and what is missing for more."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from pathlib import Path

from fastapi import Request
from fastapi.responses import Response

from gonogo.certification.planning import LineRate, Plan, make_plan
from gonogo.dataset.judged import JUDGED
from gonogo.ledger import By, Ledger, Where
from gonogo.schema import State
from gonogo.server import responses
from gonogo.server.context import Use
from gonogo.server.dataset_store import Datasets, Records
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.station.feed import Feed

_OBSERVED = timedelta(days=30)
_KEPT = 8


class Plans:
    """Keeps the latest plan of each data set: for 100,000 pictures, trying other splits takes many seconds."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[object, ...], Plan]] = {}
        self._lock = threading.Lock()

    def of(self, records: Records, line: LineRate | None) -> Plan:
        """Return the plan of a data set, made anew after it, what was judged of it, or the line's rate has changed.

        Raises:
            InputError: see `make_plan`.
        """
        judged = records.root / JUDGED
        stamp = _stamp(judged) if judged.is_file() else None
        key = (records.version, stamp, line)
        with self._lock:
            known = self._known.pop(records.name, None)
            plan = known[1] if known is not None and known[0] == key else make_plan(records.dataset, line=line)
            self._known[records.name] = (key, plan)
            while len(self._known) > _KEPT:
                self._known.pop(next(iter(self._known)))
            return plan


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def plan_page(
    request: Request,
    datasets: Use[Datasets],
    plans: Use[Plans],
    ledger_pool: Use[LedgerPool],
    feed: Use[Feed],
    name: str,
) -> Response:
    """What can be promised now, and how many parts, which splits and how many days other limits take."""
    records = datasets.read(name)
    with ledger_pool.reading() as ledger:
        line = line_rate(ledger, feed.now())
    found = plans.of(records, line)
    offered = {target.splits for each in found.labels for target in each.targets if target.splits}
    return responses.page(
        request,
        "plan.html",
        name=name,
        plan=found,
        line=line,
        unlabelled=records.overview.pictures - records.overview.good - records.overview.bad,
        offered=sorted(offered),
    )


def line_rate(ledger: Ledger, now: datetime) -> LineRate | None:
    """Return what the stations of a ledger made in the last 30 days, on days with parts; ``None`` without any.

    The share of bad parts is that of the verdicts no-go among go and no-go: what a person decided later is not counted.
    """
    counts = ledger.tally((By.DAY, By.STATE), Where(since=now - _OBSERVED))
    judged = sum(counts.values())
    if not judged:
        return None
    states = {state: sum(n for (_, at), n in counts.items() if at == state) for state in (State.GO, State.NO_GO)}
    decided = sum(states.values())
    days = len({day for day, _ in counts})
    share = states[State.NO_GO] / decided if decided else 0.0
    # Three digits, so that a plan is not made anew for every part.
    return LineRate(parts_per_day=float(f"{judged / days:.3g}"), bad_share=float(f"{share:.3g}"))
