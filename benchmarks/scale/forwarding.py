"""A process with the forwarders of many stations, each as a station runs it: its own connection, its own pace.

``python -m scale.forwarding`` is started by `scale.stations`, in the network namespace. It prints ``ready`` when every
forwarder has reached the centre. A line on its standard input holds the last row of the ledgers; when the centre has
it from each, or after five minutes, the process ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path

from gonogo.centre import Centre, Forwarder
from scale.processes import allow_many_files, station_name

_PATIENCE_S = 300.0


def wait_for(forwarders: list[Forwarder], seq: int) -> bool:
    """Wait until the centre has a row of every ledger; return whether it has."""
    until_s, waiting = time.monotonic() + _PATIENCE_S, forwarders
    while waiting and time.monotonic() < until_s:
        time.sleep(0.2)
        waiting = [each for each in waiting if each.link().centre_seq < seq]
    return not waiting


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("centre", help="URL of the centre")
    parser.add_argument("folder", type=Path, help="folder of the ledgers")
    parser.add_argument("--first", type=int, required=True, help="number of the first station")
    parser.add_argument("--count", type=int, required=True, help="number of stations")
    parser.add_argument("--every", type=float, required=True, help="seconds between two looks of a forwarder")
    given = parser.parse_args()
    allow_many_files()
    names = [station_name(number) for number in range(given.first, given.first + given.count)]
    centres = [Centre.connect(given.centre, connections=1) for _ in names]
    forwarders = [
        Forwarder(given.folder / f"{name}.ledger", centre, name) for name, centre in zip(names, centres, strict=True)
    ]
    stop = threading.Event()
    threads = [threading.Thread(target=each.run, args=(stop,), kwargs={"every_s": given.every}) for each in forwarders]
    for thread in threads:
        thread.start()
    wait_for(forwarders, 1)
    print("ready", flush=True)  # noqa: T201
    cpu_s = time.process_time()
    caught_up = wait_for(forwarders, int(sys.stdin.readline()))
    cpu_s = time.process_time() - cpu_s
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"cpu_s": cpu_s, "caught_up": caught_up}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
