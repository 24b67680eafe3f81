"""Measure the centre on this machine: migration, forwarding in small batches, and what the line pays for it.

``make centre-timing``, or ``python benchmarks/centre_timing.py``: starts a PostgreSQL server of its own (Debian's
package, as its own user), fills a ledger with 1,000,000 made-up parts (``QUICK=1``: 10,000), migrates it and verifies
it on both sides, forwards further ledgers in batches of 1, 10 and 100 rows, and times the local append with and without
a forwarder beside it, in turns. ``make scale-migration`` is the migration alone. The last line holds the figures as
JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from command import print_figures, run
from gonogo.errors import UnfitError
from gonogo.ledger import Ledger, verify
from gonogo.testing import postgres
from ledger_timing import fill, parts

if TYPE_CHECKING:
    from gonogo.centre import Centre

_ROUNDS = 6
_CONNECTIONS = 40
_SERVER = "-c shared_buffers=256MB -c max_wal_size=2GB"


def measure(folder: Path, centre: Centre, server: postgres.Server, *, rows: int, all_: bool = True) -> dict[str, Any]:
    """Run every measurement, or the migration alone; return the figures by name."""
    found = _migration(folder, centre, rows)
    if not all_:
        return found
    found |= {**_batches(folder, centre, server), **_connections(folder, centre, server)}
    return {**found, **_line(folder, centre), **_imports()}


def _migration(folder: Path, centre: Centre, rows: int) -> dict[str, Any]:
    from gonogo.centre import move, verify_chain

    path = folder / "large.ledger"
    with Ledger.open(path) as ledger:
        fill(ledger, rows=rows, seed=5)
    local_s = _seconds(lambda: _require_none(verify(path)))
    began_s = time.monotonic()
    moved = move(path, centre, "large")
    whole_s = time.monotonic() - began_s
    centre_s = _seconds(lambda: _require_none(verify_chain(centre, "large")))
    with centre.begin() as connection:
        size = connection.exec_driver_sql("SELECT pg_total_relation_size('entries')").scalar_one()
    return {
        "migrated_rows": moved.rows,
        "migrate_rows_per_s": round(moved.rows_per_s),
        "migrate_minutes": round(moved.seconds / 60, 2),
        "migrate_minutes_with_verification": round(whole_s / 60, 2),
        "verify_local_rows_per_s": round(moved.rows / local_s),
        "verify_centre_rows_per_s": round(moved.rows / centre_s),
        "centre_bytes_per_row": round(size / moved.rows),
        "local_bytes_per_row": round(path.stat().st_size / moved.rows),
    }


def _batches(folder: Path, centre: Centre, server: postgres.Server) -> dict[str, Any]:
    """Forward a ledger in small batches: what one connection does in a second, and what both sides compute for it."""
    from gonogo.centre import Forwarder

    found: dict[str, float] = {}
    for size, count in ((1, 300), (10, 2000), (100, 5000)):
        path = folder / f"batches-{size}.ledger"
        with Ledger.open(path) as ledger:
            fill(ledger, rows=count, seed=size)
        forwarder = Forwarder(path, centre, f"batches-{size}", rows_per_batch=size)
        began_s, own_s, server_s = time.monotonic(), time.process_time(), server.cpu_s()
        for _ in forwarder.catch_up():
            pass
        sent = forwarder.link().rows_sent
        found |= {
            f"forward_rows_per_s_in_batches_of_{size}": round(sent / (time.monotonic() - began_s)),
            f"database_cpu_s_per_1000_rows_in_batches_of_{size}": round(1e3 * (server.cpu_s() - server_s) / sent, 3),
            f"forwarder_cpu_s_per_1000_rows_in_batches_of_{size}": round(1e3 * (time.process_time() - own_s) / sent, 3),
        }
    return found


def _connections(folder: Path, centre: Centre, server: postgres.Server) -> dict[str, Any]:
    """What a station costs that comes back after a restart: a new connection, and its first batch."""
    from gonogo.centre import Centre, Forwarder

    path = folder / "connections.ledger"
    with Ledger.open(path) as ledger:
        fill(ledger, rows=_CONNECTIONS, seed=3)
    next(iter(Forwarder(path, centre, "connections", rows_per_batch=1).catch_up()))
    own_s, server_s = time.process_time(), server.cpu_s()
    for _ in range(_CONNECTIONS):
        with contextlib.closing(Centre.connect(server.url(), connections=1)) as fresh:
            Forwarder(path, fresh, "connections", rows_per_batch=1).step()
    return {
        "database_cpu_ms_per_connection": round(1e3 * (server.cpu_s() - server_s) / _CONNECTIONS, 1),
        "forwarder_cpu_ms_per_connection": round(1e3 * (time.process_time() - own_s) / _CONNECTIONS, 1),
    }


def _line(folder: Path, centre: Centre) -> dict[str, Any]:
    """Commit verdicts with and without a forwarder that follows in its own process, in turns."""
    path = folder / "line.ledger"
    with Ledger.open(path) as ledger:
        ledger.frames.put(b"a made-up frame")
        made = parts(ledger, count=2 * _ROUNDS * 200, first=0, seed=9)
        rates: dict[str, list[float]] = {"alone": [], "with_forwarder": []}
        for _ in range(_ROUNDS):
            for name, beside in (("alone", contextlib.nullcontext()), ("with_forwarder", _forwarding(path, centre))):
                with beside:
                    began_s = time.monotonic()
                    for _ in range(200):
                        ledger.append_verdict(next(made))
                    rates[name].append(200 / (time.monotonic() - began_s))
    return {f"commits_per_s_{name}": round(sorted(each)[len(each) // 2]) for name, each in rates.items()}


@contextlib.contextmanager
def _forwarding(path: Path, centre: Centre) -> Iterator[None]:
    from gonogo.centre import Forwarder

    forwarder, stop = Forwarder(path, centre, "line"), threading.Event()
    thread = threading.Thread(target=lambda: forwarder.run(stop, every_s=0.1))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _imports() -> dict[str, Any]:
    """CPU seconds to import what a station needs, and what only its forwarder needs."""
    found = {}
    for name, modules in {"station": "gonogo.station.worker", "centre": "gonogo.centre"}.items():
        code = f"import time; import {modules}; print(time.process_time())"
        took = [
            float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
            for _ in range(3)
        ]
        found[f"import_{name}_cpu_s"] = round(min(took), 2)
    return found


def _seconds(work: Any) -> float:
    began_s = time.monotonic()
    work()
    return time.monotonic() - began_s


def _require_none(findings: list[Any]) -> None:
    if findings:
        raise UnfitError(f"expected an intact chain, found {findings[0].what}.")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="parts in the ledger that is migrated")
    parser.add_argument("--folder", type=Path, help="folder on the disk to measure; default: a temporary one")
    parser.add_argument("--quick", action="store_true", help="10,000 parts")
    parser.add_argument("--only", choices=["migration"], help="leave out everything else")
    given = parser.parse_args()
    why_not = postgres.missing()
    if why_not:
        raise UnfitError(f"cannot measure here: {why_not}.")
    from gonogo.centre import Centre

    with (
        tempfile.TemporaryDirectory(dir=given.folder) as folder,
        postgres.server(below=postgres.on_disk(), extra=_SERVER) as server,
        contextlib.closing(Centre.connect(server.url())) as centre,
    ):
        centre.prepare()
        rows = 10_000 if given.quick else given.rows
        figures = measure(Path(folder), centre, server, rows=rows, all_=given.only is None)
    for name, value in figures.items():
        print(f"{name:52s} {value:>12}")  # noqa: T201
    print_figures(figures)


if __name__ == "__main__":
    run(main)
