"""A process that records the parts of many stations, each in its own ledger, spread over time as on independent lines.

``python -m scale.recording`` is started by `scale.stations`. It prints ``ready`` when the ledgers are there, starts
when a line comes on its standard input, and ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gonogo.ledger import Ledger, VerdictRecord
from ledger_timing import parts
from scale.processes import allow_many_files, station_name

_PAGES_IN_LOG = 100
_MADE = 20


class Line:
    """One simulated station: its ledger, and made-up parts in turn."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.recorded = name, 0
        self.ledger = Ledger.open(folder / f"{name}.ledger")
        # A thousand write-ahead logs of 4 MB would fill the memory.
        self.ledger.engine.connection.wal_autocheckpoint(_PAGES_IN_LOG)  # type: ignore[attr-defined]
        self._made: list[VerdictRecord] = list(parts(self.ledger, count=_MADE, first=0, seed=0))

    def record(self) -> None:
        """Commit the verdict on the next part."""
        self.recorded += 1
        number = str(self.recorded)
        changes = {"station": self.name, "trigger_id": number, "part": number, "triggered_at": datetime.now(UTC)}
        self.ledger.append_verdict(self._made[self.recorded % _MADE].model_copy(update=changes))


def record_all(lines: list[Line], *, rate: float, seconds: float) -> dict[str, Any]:
    """Record parts at a rate per station; return what it took, and the head of each ledger."""
    cpu_s, began_s = time.process_time(), time.monotonic()
    for turn in range(round(rate * seconds)):
        for place, line in enumerate(lines):
            wait_s = began_s + (turn + place / len(lines)) / rate - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            line.record()
    heads = {line.name: line.ledger.head() for line in lines}
    return {
        "cpu_s": time.process_time() - cpu_s,
        "late_s": max(0.0, time.monotonic() - began_s - seconds),
        "recorded": sum(line.recorded for line in lines),
        "heads": {name: [head.seq, head.sha256] for name, head in heads.items()},
    }


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the ledgers")
    parser.add_argument("--count", type=int, required=True, help="number of stations")
    parser.add_argument("--rate", type=float, required=True, help="parts per second and station")
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    allow_many_files()
    lines = [Line(given.folder, station_name(number)) for number in range(given.count)]
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    print(json.dumps(record_all(lines, rate=given.rate, seconds=given.seconds)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
