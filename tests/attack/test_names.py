"""The name storm: hostile names through every way into a station. No worker dies, and none goes without an answer."""

from __future__ import annotations

import http.client
import io
import json
import os
import threading
import time
import urllib.parse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gonogo import images
from gonogo.capture import PushCamera
from gonogo.capture.deliveries import Matching
from gonogo.ledger import Ledger, verify
from gonogo.station.http import StationServer
from gonogo.station.settings import FolderTrigger
from gonogo.station.triggers import read_trigger_lines, watch_folder
from gonogo.testing import fake_frame
from gonogo.testing.station import StationBench, patiently, settings_for, station_bench

pytestmark = pytest.mark.attack

WINDOW_S = 10.0
"""Long: what is tried are names, not the speed of a busy machine."""
PIECES = (
    "\ud800",
    "\udfff\ud800",
    "\udce4",
    "\0",
    "\n",
    "\r\n",
    "\t",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\u200b",
    "\ufeff",
    "\ufffe",
    "שלום",
    "مرحبا",
    "e\u0301",
    "é",
    "ﬁ",
    "Å",
    "💥",
    "\N{MATHEMATICAL FRAKTUR CAPITAL U}",
    "../",
    "..\\",
    "/etc/passwd",
    "CON",
    "NUL.png",
    "COM1",
    "LPT9.",
    ".",
    "..",
    "~",
    "-rf",
    "$(reboot)",
    "`id`",
    "%s%n",
    "%00",
    "%2e%2e%2f",
    "'; DROP TABLE rows; --",
    '"}',
    "{",
    "[1]",
    "<script>",
    "#",
    "##",
    " ",
    "\N{NO-BREAK SPACE}",
    "null",
    "x" * 199,
    "x" * 10_000,
)


def names(count: int, seed: int) -> list[str]:
    """Names made of one to three hostile pieces, most of them with a number that makes them one of a kind."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        pieces = [PIECES[choice] for choice in rng.integers(len(PIECES), size=rng.integers(1, 4))]
        made.append("".join(pieces) + (f"{number}" if rng.random() < 0.9 else ""))
    return made


class Storm:
    """Counts what came of each name; fires one after the other, so that none is refused as one too many."""

    def __init__(self, line: StationBench) -> None:
        self.line, self.figures = line, dict.fromkeys(("tried", "answered", "refused", "silent"), 0)

    def fire(self, trigger_id: str, **given: str | None) -> None:
        """Hand in one trigger and wait for its answer."""
        self.figures["tried"] += 1
        plc, expected = self.line.plc, 1
        if trigger_id in plc.answers:
            expected += len(plc.answers[trigger_id])
        try:
            plc.fire(self.line.supervisor.submit, trigger_id, **given)
        except ValueError:
            self.figures["refused"] += 1
            raise  # the source says so, in a line
        try:
            plc.wait(trigger_id, answers=expected, timeout_s=6 * WINDOW_S)
            self.figures["answered"] += 1
        except TimeoutError:
            self.figures["silent"] += 1


def _ask(port: int, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=6 * WINDOW_S)
    connection.request("POST", path, body=body)
    response = connection.getresponse()
    return response.status, response.read()


def through_http(line: StationBench, count: int) -> Storm:
    """``POST /trigger``, as an id alone and as JSON with every name in every field."""
    storm = Storm(line)
    server = StationServer(line.supervisor, host="127.0.0.1", port=0, token=None, triggers=True).start()
    for number, name in enumerate(names(count, 1)):
        fields = {"id": name, "part": name, "lot": name}
        plain = name.encode("utf-8", "surrogatepass")
        body = json.dumps(fields).encode() if number % 3 else plain
        code, told = _ask(server.port, "/trigger", body)
        storm.figures["tried"] += 1
        storm.figures["answered" if code == 200 else "refused" if code in (400, 413) and told else "silent"] += 1
    server.close()
    return storm


def through_frames(count: int) -> dict[str, int]:
    """``POST /frames/NAME``: each is taken, or refused with its reason."""
    figures = dict.fromkeys(("tried", "answered", "refused", "silent"), 0)
    camera = PushCamera(matching=Matching(max_waiting=1_000, keep_s=3_600.0)).start()
    for name in names(count, 2):
        code, told = _ask(camera.port, "/frames/" + urllib.parse.quote(name, errors="surrogatepass"), b"picture")
        figures["tried"] += 1
        figures["answered" if code == 202 else "refused" if code == 400 and told else "silent"] += 1
    camera.close()
    return figures


def through_stdin(line: StationBench, count: int) -> Storm:
    """Lines on standard input, bytes that are no UTF-8 among them."""
    storm, complaints = Storm(line), list[str]()
    lines = [json.dumps({"id": name, "product": None, "lot": name}) for name in names(count, 3)]
    raw = b"\n".join([*(each.encode() for each in lines), *(b"\xff\xfe%d" % number for number in range(count // 10))])
    stream = io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8", errors="backslashreplace")
    read_trigger_lines(stream, storm.fire, complaints.append, threading.Event())
    assert len(complaints) == storm.figures["refused"]
    assert all(text.isprintable() for text in complaints)
    return storm


def through_folder(line: StationBench, folder: Path, count: int) -> Storm:
    """Files with hostile names in the watched folder, Latin-1 bytes among them."""
    folder.mkdir()
    picture, made = images.encode_png(fake_frame(1)), 0
    for number, name in enumerate(names(count, 4)):
        text = name.replace("/", "\N{DIVISION SLASH}").replace("\0", "") + ".png"
        data = text.encode("utf-8", "surrogatepass") if number % 2 else text.encode("latin-1", "replace")
        if name.startswith(".") or len(data) > 255:
            continue
        Path(os.fsdecode(os.fsencode(folder) + b"/" + data)).write_bytes(picture)
    made = sum(1 for path in folder.iterdir() if not path.name.startswith("."))
    storm, stopped = Storm(line), threading.Event()
    settings = FolderTrigger(kind="folder", folder=folder, stable_s=0.0, poll_s=0.05)
    watcher = threading.Thread(target=watch_folder, args=(settings, storm.fire, lambda _: None, stopped))
    watcher.start()
    patiently(lambda: storm.figures["tried"] >= made, "files are left over")
    time.sleep(0.2)
    stopped.set()
    watcher.join()
    assert storm.figures["tried"] == made
    return storm


def test_no_name_kills_a_worker_or_goes_without_an_answer(
    tmp_path: Path, attempts: Callable[[int], int], record: Callable[..., None]
) -> None:
    warnings.simplefilter("ignore")
    count, settings = attempts(1000), settings_for(tmp_path / "line", window_s=WINDOW_S, stall_s=3 * WINDOW_S)
    with station_bench(settings) as line:
        line.ready()
        ways = {
            "http": through_http(line, count).figures,
            "frames": through_frames(count),
            "stdin": through_stdin(line, count).figures,
            "folder": through_folder(line, tmp_path / "incoming", count).figures,
        }
        line.plc.fire(line.supervisor.submit, "the-last-part")
        assert line.plc.wait("the-last-part", timeout_s=6 * WINDOW_S).row is not None
        line.settled()
        deaths = line.supervisor.metrics.events["restarts"]
    with Ledger.open(settings.ledger, create=False) as ledger:
        rows = {row.record.trigger_id for row in ledger.verdicts()}
    answered = set(line.plc.answers)
    figures = {f"{way}_{what}": number for way, found in ways.items() for what, number in found.items()}
    record("names", **figures, worker_deaths=deaths, without_a_row=len(answered - rows))
    assert deaths == 0
    assert answered == rows
    assert not any(found["silent"] for found in ways.values())
    assert all(found["answered"] and found["refused"] for found in ways.values())
    assert not verify(settings.ledger)
