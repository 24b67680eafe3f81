"""Load test of the pages' live streams: ``python benchmarks/streams.py [--pages 10] [--minutes 10] [--parts-per-s 2]``.

Opens the station's stream as browsers do, each page being closed and opened again every half minute, while parts are
recorded. Prints memory, open files, threads and streams at the start of each tenth, and the figures on the last line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

from gonogo.ledger import Ledger, VerdictRecord, View
from gonogo.schema import State
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import Role
from gonogo.server.components import Components
from gonogo.server.station.feed import MAX_PER_PERSON

PASSWORD = "violet gasket 41 harbour"
REOPEN_S = 30.0
WARM_UP = 0.2
"""Share of the time after which memory must stop growing."""


class Page(threading.Thread):
    """The stream of one browser, reopened whenever it ends."""

    def __init__(self, address: str, cookies: httpx.Cookies, until: float) -> None:
        super().__init__(daemon=True)
        self._address, self._cookies, self._until = address, cookies, until
        self.events, self.longest_silence_s, self.failures = 0, 0.0, 0

    def run(self) -> None:
        """Read until the end of the test."""
        while time.monotonic() < self._until:
            opened = heard = time.monotonic()
            try:
                with httpx.stream(
                    "GET", f"{self._address}/station/events", cookies=self._cookies, timeout=10
                ) as answer:
                    answer.raise_for_status()
                    for line in answer.iter_lines():
                        now = time.monotonic()
                        if line.startswith("event:"):
                            self.events += 1
                            self.longest_silence_s = max(self.longest_silence_s, now - heard)
                            heard = now
                        if now - opened > REOPEN_S or now > self._until:
                            break
            except httpx.HTTPError:
                self.failures += 1
                time.sleep(0.2)


def main() -> None:
    """Serve in a separate process, measure it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--parts-per-s", type=float, default=2)
    parser.add_argument("--port", type=int, default=8765)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace.open(Path(folder) / "plant")
        prepare(space, arguments.pages)
        command = [sys.executable, "-m", "gonogo", "serve", str(space.root), "--port", str(arguments.port)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            figures = _watch(server, space, arguments)
        finally:
            server.terminate()
            server.wait(timeout=20)
    print(json.dumps(figures))  # noqa: T201


def prepare(space: Workspace, pages: int, *, role: Role = Role.OPERATOR) -> None:
    """Create as many accounts of a role as needed, all with `PASSWORD`."""
    components: Components = create_app(space, options=Options()).state.components
    for number in range(-(-pages // MAX_PER_PERSON)):
        user, password = components.accounts.people.add(f"{role} {number}", role)
        components.accounts.people.change_password(user, password, PASSWORD)
    components.close()


def _watch(server: subprocess.Popen[bytes], space: Workspace, arguments: argparse.Namespace) -> dict[str, float]:
    address = f"http://127.0.0.1:{arguments.port}"
    sessions = [log_in(address, f"operator {number}") for number in range(-(-arguments.pages // MAX_PER_PERSON))]
    begun, duration_s = time.monotonic(), arguments.minutes * 60
    pages = [Page(address, sessions[number // MAX_PER_PERSON], begun + duration_s) for number in range(arguments.pages)]
    for page in pages:
        page.start()
    process, number = psutil.Process(server.pid), 0
    samples: list[tuple[float, int, int]] = []
    with Ledger.open(space.ledger) as ledger:
        while time.monotonic() < begun + duration_s:
            number += 1
            ledger.append_verdict(_part(number))
            time.sleep(1 / arguments.parts_per_s)
            if time.monotonic() - begun > len(samples) * duration_s / 10:
                memory_mb = process.memory_info().rss / 1e6
                samples.append((memory_mb, process.num_fds(), process.num_threads()))
                print(f"{time.monotonic() - begun:6.0f} s  {memory_mb:6.1f} MB  {samples[-1][1:]}")  # noqa: T201
    for page in pages:
        page.join(timeout=15)
    warm = samples[int(WARM_UP * len(samples)) :]
    return {
        "pages": arguments.pages,
        "minutes": arguments.minutes,
        "parts": number,
        "events": sum(page.events for page in pages),
        "failures": sum(page.failures for page in pages),
        "longest_silence_s": round(max(page.longest_silence_s for page in pages), 2),
        "memory_mb_warm": round(warm[0][0], 1),
        "memory_mb_end": round(warm[-1][0], 1),
        "open_files_warm": warm[0][1],
        "open_files_end": warm[-1][1],
    }


def log_in(address: str, name: str) -> httpx.Cookies:
    """Wait for the server and log in."""
    for _ in range(200):
        try:
            httpx.get(f"{address}/health")
            break
        except httpx.TransportError:
            time.sleep(0.1)
    with httpx.Client(headers={"origin": address}, timeout=120) as client:
        csrf = client.get(f"{address}/login").text.split('name="csrf" content="')[1].split('"')[0]
        client.post(f"{address}/login", data={"name": name, "password": PASSWORD, "csrf": csrf})
        return client.cookies


def _part(number: int) -> VerdictRecord:
    fault = number % 50 == 0
    score, reason = (None, "no picture") if fault else (float(number % 17), f"score {number % 17}")
    state = State.FAULT if fault else State.REVIEW
    return VerdictRecord(
        station="line-1",
        trigger_id=f"t{number}",
        state=state,
        score=score,
        reason=reason,
        cause="no_frame" if fault else None,
        views=(View(frame_sha256=None, state=state, score=score, reason=reason),),
        triggered_at=datetime.now(UTC),
    )


if __name__ == "__main__":
    main()
