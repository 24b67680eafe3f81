"""Chaos test of picture matching: late, duplicate, misnamed, unexpected and missing pictures.

Every picture carries the number of the part that it shows. The cameras are real ones, fed over HTTP and through
folders; pictures are tied to their triggers by name, by capture time, or by nothing but their order.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from chaos.findings import Findings, check
from gonogo import images
from gonogo.capture.push import CAPTURED_AT
from gonogo.ledger import Ledger
from gonogo.schema import Frame, State
from gonogo.station.judging import ANSWERED_FAULT
from gonogo.station.settings import StationSettings, parse_settings
from gonogo.testing import fake_frame
from gonogo.testing.station import PATIENCE_S, StationBench, station_bench

MISHAPS = ("late", "missing", "doubled", "misnamed", "leftover")
LANES = {
    "push-name": 0.26,
    "folder-name": 0.26,
    "push-time": 0.17,
    "folder-time": 0.17,
    "push-order": 0.07,
    "folder-order": 0.07,
}
"""Ways of delivery and matching, with their shares of all triggers."""
_LATEST_S = 1.5
_CAMERA_S = 0.25
_TAKEN_WITHIN_S = 0.03
_BITS = 20
_CELL = 8
_NOBODY = 2**_BITS - 1
_KILL_EVERY = 150


def picture_of(number: int, *, bad: bool, exposure: int = 0) -> Frame:
    """Return the picture of a part, with its number encoded in the first row of cells.

    Args:
        number: Of the part.
        bad: Whether the part is bad.
        exposure: Another exposure of the same part has other pixels.
    """
    frame = fake_frame(number * 8 + exposure, bad=bad)
    for bit in range(_BITS):
        frame[:_CELL, bit * _CELL : (bit + 1) * _CELL, 1] = 230 if number >> bit & 1 else 20
    return frame


def number_of(frame: Frame) -> int:
    """Decode the number of the part that a picture shows."""
    cells = frame[_CELL // 2, _CELL // 2 :: _CELL, 1][:_BITS] > 128
    return int(sum(1 << bit for bit, is_set in enumerate(cells.tolist()) if is_set))


def is_bad(number: int) -> bool:
    """Whether a part is bad; two of five are."""
    return number % 5 in (1, 3) or number == _NOBODY


@dataclass(kw_only=True)
class _Feeder:
    """Delivers pictures to one station's camera."""

    folder: Path
    """Folder for the pictures, or the folder of the station with an HTTP camera."""
    port: int | None
    tie: str
    sent: int = 0
    fed_s: float = 0.0
    timers: list[threading.Timer] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, data: bytes, name: str, captured: datetime) -> None:
        """Deliver one picture under a name."""
        if self.port is None:
            self._write(data, name, captured)
        else:
            self._post(data, name, captured)

    def later(self, lag_s: float, data: bytes, name: str, captured: datetime) -> None:
        """Deliver one picture late; skip it if the machine is too busy to keep the longest delay."""
        until_s = time.monotonic() + 0.8 * _LATEST_S

        def send() -> None:
            if time.monotonic() < until_s:
                self.send(data, name, captured)

        timer = threading.Timer(lag_s, send)
        self.timers = [each for each in self.timers if each.is_alive()] + [timer]
        timer.start()

    def done(self) -> None:
        """Wait for the late pictures."""
        for timer in self.timers:
            timer.join()

    def _post(self, data: bytes, name: str, captured: datetime) -> None:
        headers = {CAPTURED_AT: captured.isoformat()} if self.tie == "time" else {}
        with contextlib.suppress(OSError, http.client.HTTPException):  # its worker was killed: a missing picture
            assert self.port is not None, "asked before"
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5.0)
            connection.request("POST", f"/frames/{name}" if name else "/frames", body=data, headers=headers)
            connection.getresponse().read()
            connection.close()

    def _write(self, data: bytes, name: str, captured: datetime) -> None:
        with self.lock:
            self.sent += 1
            number = self.sent
        partial, target = self.folder / f".{number}.part", self.folder / f"{name or f'camera-{number}'}.png"
        partial.write_bytes(data)
        os.utime(partial, (captured.timestamp(), captured.timestamp()))
        partial.replace(target)


def picture_lane(
    folder: Path, lane: str, triggers: int, seed: int, *, tick: Callable[[], None] = lambda: None
) -> Findings:
    """Send parts through one station with late, duplicate, misnamed, unexpected and missing pictures."""
    way, _, tie = lane.partition("-")
    settings, feeder = _settings_for(folder, way, tie)
    rng, found, numbers = random.Random(seed), Findings(), dict[str, int]()
    with station_bench(settings, cameras=True) as line:
        line.ready()
        time.sleep(_LATEST_S)  # a start puts the order of pictures in doubt
        number = 0
        while number < triggers:
            count = rng.randint(2, 4) if rng.random() < (0.02 if tie == "order" else 0.1) else 1
            burst = range(number + 1, min(triggers, number + count) + 1)
            for number in burst:
                trigger_id = f"{lane}-{number}"
                numbers[trigger_id] = number
                if tie == "time" and rng.random() < 0.98:  # else two parts come within one exposure time
                    time.sleep(max(0.0, feeder.fed_s + 1.5 * _TAKEN_WITHIN_S - time.monotonic()))
                line.plc.fire(line.supervisor.submit, trigger_id, part=trigger_id)
                _feed(feeder, rng, lane, number, found, first=number == burst[0])
                if number % _KILL_EVERY == 0:
                    _kill_worker(line, found)
                tick()
            answers = [line.plc.wait(f"{lane}-{each}", timeout_s=PATIENCE_S) for each in burst]
            line.ready()
            if tie == "order" and any(answer.state is State.FAULT for answer in answers) and rng.random() < 0.8:
                feeder.done()
                time.sleep(1.2 * _LATEST_S)
        feeder.done()
        line.settled()
        plc = line.plc
    found.add("triggers", triggers)
    check(settings, plc, found)
    answered_go = {
        trigger_id for trigger_id, given in plc.answers.items() if any(each.state is State.GO for each in given)
    }
    _check_pictures(settings, numbers, answered_go, found)
    return found


def _feed(feeder: _Feeder, rng: random.Random, lane: str, number: int, found: Findings, *, first: bool) -> None:
    """Deliver a part's picture or a disturbance; wait for all answers before the ``first`` part of a burst."""
    tie, captured = feeder.tie, datetime.now(UTC)
    feeder.fed_s = time.monotonic()
    own = f"{lane}-{number}" if tie == "name" else ""
    data = images.encode_png(picture_of(number, bad=is_bad(number)))
    mishap = rng.choice(MISHAPS) if rng.random() < (0.05 if tie == "order" else 0.25) else ""
    if mishap:
        found.add(mishap)
    if mishap == "missing":
        return
    if mishap == "late":
        feeder.later(rng.uniform(0.3, 0.5), data, own, captured)
        return
    if mishap == "misnamed":
        # Nobody can tell a picture of this part under the name of one that still waits.
        others = [f"nobody-{number}", *([f"{lane}-{number - 1}"] if first else [])]
        if tie == "time":
            others.append(f"{lane}-{number + 1}")
        feeder.send(data, rng.choice(others), captured)
        return
    feeder.send(data, own, captured)
    if mishap == "doubled":
        exposure = rng.randint(0, 1) if tie != "order" else 0
        again = images.encode_png(picture_of(number, bad=is_bad(number), exposure=exposure))
        if rng.random() < 0.5:
            feeder.send(again, own, captured)
        else:
            feeder.later(rng.uniform(0.02, 0.4), again, own, captured)
    elif mishap == "leftover":
        stray = images.encode_png(picture_of(_NOBODY, bad=True, exposure=rng.randint(0, 7)))
        if tie == "order":
            time.sleep(0.15)  # beyond the part's own turn
        feeder.send(stray, "" if tie != "name" else f"test-{number}", datetime.now(UTC))
        time.sleep(0.03)  # nothing but its order tells it from a picture of the next part


def _kill_worker(line: StationBench, found: Findings) -> None:
    pid = line.supervisor.worker_pid
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            found.add("worker_kills")


def _check_pictures(settings: StationSettings, numbers: dict[str, int], answered_go: set[str], found: Findings) -> None:
    """Check every judged picture: does it show the right part, and was no bad part judged go?"""
    for name in MISHAPS:
        found.add(name, 0)
    with Ledger.open(settings.ledger, create=False, read_only=True) as ledger:
        taken_back = {row.record.about for row in ledger.actions() if row.record.action == ANSWERED_FAULT}
        for row in ledger.verdicts():
            number = numbers[row.record.trigger_id]
            for view in row.record.views:
                if view.score is None or view.frame_sha256 is None or row.record.state is State.FAULT:
                    continue
                if row.seq in taken_back:  # judged, but answered with fault
                    found.add("taken_back")
                    continue
                shows = number_of(np.asarray(ledger.frames.load(view.frame_sha256)))
                found.add("judged")
                found.require("other_part", shows == number, f"{row.record.trigger_id} was judged on part {shows}")
            passed = row.record.state is State.GO and row.seq not in taken_back
            found.require("bad_go", not (passed and is_bad(number)), f"{row.record.trigger_id} is bad and is go")
    for trigger_id in answered_go:
        found.require("bad_go", not is_bad(numbers[trigger_id]), f"{trigger_id} is bad and was answered go")


def _settings_for(folder: Path, way: str, tie: str) -> tuple[StationSettings, _Feeder]:
    folder.mkdir(parents=True)
    (folder / "bundle").mkdir()
    (folder / "bundle" / "SHA256SUMS").write_text("fake\n")
    incoming, port = folder / "incoming", None
    incoming.mkdir()
    if way == "push":
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        camera = f'kind = "push"\nport = {port}\nallow_without_token = true\nkeep_s = 1.0\nmax_waiting = 64'
    else:
        camera = 'kind = "folder"\nfolder = "incoming"\nstable_s = 0.0'
        camera += "\nmtime_is_capture_time = true" if tie == "time" else ""
    camera += "\nany_name = true" if tie == "order" else ""
    text = f"""
station = "pictures"
bundle = "bundle"
ledger = "pictures.ledger"
state_dir = "state"
window_s = 1.0
camera_timeout_s = {_CAMERA_S}
min_free_mb = 1
[[cameras]]
[cameras.camera]
{camera}
latest_s = {_LATEST_S}
taken_within_s = {_TAKEN_WITHIN_S}
clock_error_ms = 2.0
[cameras.health]
frozen = false
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
[watchdog]
restarts = 1000000
within_s = 3600.0
stall_s = 5.0
start_s = 300.0
heartbeat_s = 0.5
"""
    (folder / "station.toml").write_text(text)
    return parse_settings(text, folder=folder), _Feeder(folder=incoming, port=port, tie=tie)
