"""Many stations on one centre, while its database crashes and the network is cut.

``make scale-stations``: starts a PostgreSQL server of its own (Debian's package, as its own user, on disk) and 1,000
simulated stations with one part per second each for ten minutes; ``QUICK=1``: 10 stations for half a minute. Stations
are real but for their cameras: each has its ledger, its own connection and the forwarder that a station runs, many of
them in a process, at the other end of a network in a network namespace. After three tenths of the time the database is
killed and started again, after six tenths the network loses every packet for a tenth of the time. Then every chain is
verified at the centre and compared with its ledger. Ledgers lie in memory where there is room: a thousand stations have
a thousand disks. The last line holds the figures as JSON; exit code 1 if a row was lost or doubled, or a chain broken.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from command import print_figures, run
from gonogo.centre import Centre, verify_chain
from gonogo.errors import UnfitError
from gonogo.progress import track
from gonogo.testing import postgres
from scale import network as networks
from scale.network import Network
from scale.processes import busy_s, child

_FORWARDING_PROCESSES = 2
_RESTART_AT, _CUT_AT, _CUT_FOR = 0.3, 0.6, 0.1
_BYTES_PER_STATION = 2_000_000
_LATE_S = 5.0
"""A row that reaches the centre later than this after its commit has waited for the centre or the network."""


@dataclass(kw_only=True)
class Events:
    """What was done to the stations, in seconds of the Unix clock, and what it cost."""

    began_s: float = 0.0
    ended_s: float = 0.0
    restarted_s: float = 0.0
    mended_s: float = 0.0
    database_cpu_s: float = 0.0
    forwarding_cpu_s: float = 0.0
    machine_cpu_s: float = 0.0
    network_bytes: int = 0
    recorded: dict[str, Any] = field(default_factory=dict)
    caught_up: bool = True


def simulate(
    server: postgres.Server, network: Network, folder: Path, *, stations: int, rate: float, seconds: float
) -> Events:
    """Run the stations, crash the database and cut the network on the way, and wait until all have caught up."""
    address = server.url().replace("127.0.0.1", network.address)
    shares = [range(stations)[place::_FORWARDING_PROCESSES] for place in range(_FORWARDING_PROCESSES)]
    firsts = [sum(map(len, shares[:place])) for place in range(len(shares))]
    with contextlib.ExitStack() as stack:
        words = [str(folder), "--count", str(stations), "--rate", str(rate), "--seconds", str(seconds)]
        recording = stack.enter_context(child("scale.recording", words))
        recording.expect("ready")
        forwarding = []
        for first, share in zip(firsts, shares, strict=True):
            words = [address, str(folder), "--first", str(first), "--count", str(len(share)), "--every", "1"]
            forwarding.append(stack.enter_context(child("scale.forwarding", words, before=network.prefix())))
        for each in forwarding:
            each.expect("ready")
        events, before = Events(began_s=time.time()), (server.cpu_s(), network.sent_bytes(), busy_s())
        recording.tell("go")
        _disturb(server, network, events, seconds)
        events.recorded = recording.result()
        for each in forwarding:
            each.tell(str(round(rate * seconds) + 1))
        for found in [each.result() for each in forwarding]:
            events.forwarding_cpu_s += found["cpu_s"]
            events.caught_up &= found["caught_up"]
    events.ended_s = time.time()
    events.database_cpu_s += server.cpu_s() - before[0]
    events.network_bytes = network.sent_bytes() - before[1]
    events.machine_cpu_s = busy_s() - before[2]
    return events


def _disturb(server: postgres.Server, network: Network, events: Events, seconds: float) -> None:
    cut = False
    for step in track(range(round(seconds)), "running stations"):
        time.sleep(max(0.0, events.began_s + step + 1 - time.time()))
        share = (step + 1) / seconds
        if not events.restarted_s and share >= _RESTART_AT:
            events.database_cpu_s += server.cpu_s()
            server.stop("immediate")
            server.start()
            events.restarted_s = time.time()
        if not cut and share >= _CUT_AT:
            network.cut()
            cut = True
        if cut and not events.mended_s and share >= _CUT_AT + _CUT_FOR:
            network.mend()
            events.mended_s = time.time()


def compare(centre: Centre, events: Events) -> dict[str, Any]:
    """Verify every chain at the centre, and compare its head with the station's ledger."""
    heads = {name: tuple(head) for name, head in events.recorded["heads"].items()}
    found = {each.name: each for each in centre.chains()}
    expected = sum(seq for seq, _ in heads.values())
    with centre.begin() as connection:
        stored, different = connection.exec_driver_sql(
            "SELECT count(*), count(DISTINCT (chain, seq)) FROM entries"
        ).one()
    broken = sum(bool(verify_chain(centre, name)) for name in track(sorted(heads), "verifying chains"))
    unequal = sum(heads[name] != (found[name].head.seq, found[name].head.sha256) for name in heads)
    return {
        "rows": stored,
        "rows_lost": expected - different,
        "rows_doubled": stored - different,
        "chains_broken": broken,
        "chains_unlike_ledger": unequal,
        "alarms": sum(each.alarm is not None for each in found.values()),
    }


_LAGS = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY lag), percentile_cont(0.99) WITHIN GROUP (ORDER BY lag), max(lag),
  count(*), max(received) FILTER (WHERE lag > %(late)s)
FROM (
  SELECT extract(epoch FROM received_at) AS received, extract(epoch FROM received_at - at::timestamptz) AS lag
  FROM ledger_rows WHERE kind = 'verdict'
) AS each WHERE received BETWEEN %(first)s AND %(last)s"""


def lags(centre: Centre, events: Events, seconds: float) -> dict[str, Any]:
    """Return how long rows took to the centre: undisturbed, and after each disturbance until all had caught up."""

    def between(first_s: float, last_s: float) -> tuple[Any, ...]:
        with centre.begin() as connection:
            values = {"late": _LATE_S, "first": first_s, "last": last_s}
            return tuple(connection.exec_driver_sql(_LAGS, values).one())

    restart_s, cut_s = (events.began_s + share * seconds for share in (_RESTART_AT, _CUT_AT))
    calm = between(events.began_s, restart_s)
    found = {"lag_p50_s": calm[0], "lag_p99_s": calm[1], "calm_rows_per_s": calm[3] / (seconds * _RESTART_AT)}
    for name, first_s, last_s in (
        ("restart", events.restarted_s, cut_s),
        ("cut", events.mended_s, events.ended_s),
    ):
        p50, _, most, count, caught_up = between(first_s, last_s)
        until_s = max(0.0, float(caught_up or first_s) - first_s)
        found |= {f"lag_after_{name}_p50_s": p50, f"lag_after_{name}_max_s": most, f"caught_up_after_{name}_s": until_s}
        if until_s:
            _, _, _, count, _ = between(first_s, first_s + until_s)
            found[f"rows_per_s_after_{name}"] = count / until_s
    return {name: round(float(value or 0.0), 3) for name, value in found.items()}


def costs(centre: Centre, events: Events, rows: int) -> dict[str, Any]:
    """Return what a row costs in processor time and bytes."""
    with centre.begin() as connection:
        size, heap = connection.exec_driver_sql(
            "SELECT pg_total_relation_size('entries'), pg_relation_size('entries')"
        ).one()
    own_s = events.database_cpu_s + events.forwarding_cpu_s + events.recorded["cpu_s"]
    return {
        "database_cpu_s_per_1000_rows": round(1000 * events.database_cpu_s / rows, 3),
        "forwarder_cpu_s_per_1000_rows": round(1000 * events.forwarding_cpu_s / rows, 3),
        "recording_cpu_s_per_1000_rows": round(1000 * events.recorded["cpu_s"] / rows, 3),
        "network_bytes_per_row": round(events.network_bytes / rows),
        "centre_bytes_per_row": round(size / rows),
        "of_these_indexes": round((size - heap) / rows),
        "parts_recorded_late_by_s": round(events.recorded["late_s"], 1),
        "cores_used": round(own_s / (events.ended_s - events.began_s), 2),
        "cores_used_by_others": round((events.machine_cpu_s - own_s) / (events.ended_s - events.began_s), 2),
    }


def measure(*, stations: int, rate: float, seconds: float) -> dict[str, Any]:
    """Run everything; return the figures by name."""
    extra = f"-c shared_buffers=256MB -c max_wal_size=2GB -c max_connections={stations + 20}"
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(networks.network())
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=_roomy(stations)))
        extra = f"{extra} -c listen_addresses=127.0.0.1,{network.address}"
        server = stack.enter_context(postgres.server(below=postgres.on_disk(), extra=extra))
        with (server.folder / "data" / "pg_hba.conf").open("a") as access:
            access.write(f"host all all {network.subnet} trust\n")
        server.run("pg_ctl", "reload", "-D", f"{server.folder}/data")
        centre = stack.enter_context(contextlib.closing(Centre.connect(server.url())))
        centre.prepare()
        events = simulate(server, network, Path(folder), stations=stations, rate=rate, seconds=seconds)
        same = compare(centre, events)
        late_s, recorded = events.recorded["late_s"], events.recorded["recorded"]
        return {
            "stations": stations,
            "seconds": seconds,
            "parts_recorded": recorded,
            "parts_per_s_and_station": round(recorded / stations / (seconds + late_s), 3),
            "all_caught_up": events.caught_up,
            **same,
            **lags(centre, events, seconds),
            **costs(centre, events, same["rows"]),
        }


def _roomy(stations: int) -> Path | None:
    """Return a folder in memory if there is room for the ledgers; ``None`` for the usual folder of temporary files."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * stations * _BYTES_PER_STATION
    return memory if roomy else None


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 stations for half a minute")
    parser.add_argument("--stations", type=int, help="number of stations, in place of 1,000")
    parser.add_argument("--seconds", type=float, help="duration, in place of 600")
    parser.add_argument("--rate", type=float, default=1.0, help="parts per second and station")
    given = parser.parse_args()
    why_not = postgres.missing() or networks.missing()
    if why_not:
        print_figures({"skipped": why_not})
        return
    figures = measure(
        stations=given.stations or (10 if given.quick else 1000),
        rate=given.rate,
        seconds=given.seconds or (30.0 if given.quick else 600.0),
    )
    for name, value in figures.items():
        print(f"{name:36s} {value!s:>12}")  # noqa: T201
    print_figures(figures)
    wrong = [
        name
        for name in ("rows_lost", "rows_doubled", "chains_broken", "chains_unlike_ledger", "alarms")
        if figures[name]
    ]
    if wrong or not figures["all_caught_up"]:
        raise UnfitError(f"not as promised: {', '.join(wrong) or 'not all stations have caught up'}.")


if __name__ == "__main__":
    run(main)
