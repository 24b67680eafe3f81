"""Names from outside: what no ledger can take is refused or escaped at the edge, and nothing kills a worker twice."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gonogo import images
from gonogo.capture import PushCamera
from gonogo.capture.deliveries import Matching
from gonogo.errors import InputError
from gonogo.ledger import Ledger, Where
from gonogo.names import clean_name, readable
from gonogo.schema import Frame, State, Verdict
from gonogo.station import Cause, Supervisor, Trigger, parse_settings
from gonogo.station.backlog import Backlog, Owed
from gonogo.station.challenge import CHALLENGE
from gonogo.station.http import StationServer
from gonogo.station.messages import Dying, ExpectPicture, decode_for_supervisor, encode
from gonogo.station.settings import FolderTrigger
from gonogo.station.triggers import watch_folder
from gonogo.testing import fake_frame
from gonogo.testing.station import settings_for, station_bench
from test_station import Line

NOW = datetime(2026, 1, 12, 8, 0, tzinfo=UTC)
HOSTILE = ("\ud800", "A\udce4", "line\u2028two", "tab\t", "nul\0", "\x85", "go\u202e.gpj", "a" * 10_000, "")
ODD = (
    "../../etc/passwd",
    "CON",
    "nul.png",
    "שלום",
    "e\u0301",
    "é",
    "'; DROP TABLE rows; --",
    "💥" * 50,
    "%00",
    ".",
    "-",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_is_no_single_line_of_text_is_refused_with_a_printable_message(name: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        clean_name(name)
    assert str(caught.value).encode()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_a_name(name: str) -> None:
    assert clean_name(name) == name


def test_every_hostile_trigger_is_refused_and_the_worker_lives(tmp_path: Path) -> None:
    with station_bench(settings_for(tmp_path / "line")) as line:
        line.ready()
        for name in HOSTILE:
            with pytest.raises(ValueError, match="expected"):
                line.supervisor.submit(name)
            with pytest.raises(ValueError, match="expected"):
                line.supervisor.submit("A", part=name)
        line.plc.fire(line.supervisor.submit, "part-1", part=ODD[3])
        assert line.plc.wait("part-1").state is State.GO
        assert (line.supervisor.metrics.events["refused"], line.supervisor.metrics.events["restarts"]) == (
            2 * len(HOSTILE),
            0,
        )


def poisoned(trigger_id: str, **names: str) -> str:
    trigger = {"id": trigger_id, "part": None, "lot": None, "product": None, "at": NOW.isoformat(), "due_s": 0.0}
    return json.dumps({"trigger": {**trigger, **names}, "cause": "process", "reason": "d\ud800ed", "answered": True})


def test_a_poisoned_backlog_of_an_earlier_run_is_recorded_in_escaped_form(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "line")
    settings.state_dir.mkdir()
    lines = [
        poisoned("\ud800"),
        poisoned("B" * 300),
        poisoned("C", part="x\0y"),
        "[1]",
        '{"trigger": 7}',
        '{"a": "\xff',
    ]
    (settings.state_dir / "unrecorded.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    with station_bench(settings) as line:
        line.ready()
        line.settled()
        line.plc.fire(line.supervisor.submit, "part-1")
        assert line.plc.wait("part-1").state is State.GO
        assert line.supervisor.metrics.events["restarts"] == 0
    with Ledger.open(settings.ledger, create=False) as ledger:
        rows = {row.record.trigger_id: row.record for row in ledger.verdicts()}
    assert rows["\\ud800"].reason == "d\\ud800ed"
    assert rows["C"].part == "x\\x00y"
    assert len(next(name for name in rows if name.startswith("BBB"))) == 200


def test_a_fault_that_the_ledger_will_never_take_is_set_aside_and_kills_no_worker(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "line")
    with station_bench(settings) as line:
        line.ready()
        line.supervisor._triggers.backlog.add(
            Owed(trigger=Trigger(id="two\nlines", at=NOW, due_s=0.0), cause=Cause.LATE, reason="r", answered=True)
        )
        line.settled()
        assert line.supervisor.metrics.events["restarts"] == 0
    assert '"two\\nlines"' in (settings.state_dir / "unrecordable.jsonl").read_text()
    assert "unrecordable.jsonl" in json.loads(line.supervisor.published[0])["alarms"][0]


@pytest.mark.slow
def test_a_record_that_crashes_the_worker_is_not_given_to_the_next_one(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "line")
    script = (
        "import sys, os\n"
        "from dataclasses import replace\n"
        "from gonogo.line.messages import *\n"
        "from gonogo.station.messages import *\n"
        "from gonogo.station.messages import decode_for_worker, encode\n"
        "print(encode(Ready(report=WorkerReport())), end='', flush=True)\n"
        "for line in sys.stdin:\n"
        "    match decode_for_worker(line):\n"
        "        case RecordFault(trigger=Trigger(id='deadly')): os.abort()\n"
        "        case RecordFault(trigger=trigger):\n"
        "            told = FaultRecorded(answer=replace(fault(trigger, Cause.LATE, 'r'), row=1))\n"
        "        case RecordNote(): told = NoteHandled(retry=False)\n"
        "        case _: told = Reported(report=WorkerReport())\n"
        "    print(encode(told), end='', flush=True)\n"
    )
    settings.state_dir.mkdir()
    backlog = Backlog(settings.state_dir / "unrecorded.jsonl")
    for name in ("deadly", "A"):
        backlog.add(Owed(trigger=Trigger(id=name, at=NOW, due_s=0.0), cause=Cause.LATE, reason="r", answered=True))
    supervisor = Supervisor(settings, [sys.executable, "-c", script], lambda _: None)
    supervisor.start()
    while supervisor.unrecorded:
        time.sleep(0.01)
    supervisor.stop()
    assert supervisor.metrics.events["restarts"] == 1
    assert "deadly" in (settings.state_dir / "unrecordable.jsonl").read_text()


@pytest.mark.slow
def test_a_worker_that_fails_leaves_its_traceback_in_the_log_and_its_reason_in_the_status() -> None:
    program = (
        "from gonogo.station.worker import worker_main\n"
        "def make():\n"
        "    raise RuntimeError('the lens \\ud800 fell off')\n"
        "worker_main(make)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=b"", capture_output=True, check=False)
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    assert b"fell off" in done.stderr
    assert decode_for_supervisor(done.stdout.decode()) == Dying(reason="RuntimeError: the lens \\ud800 fell off")


@pytest.mark.slow
def test_a_notice_that_fails_beside_a_judgement_ends_the_worker_with_its_traceback_as_well() -> None:
    program = (
        "from gonogo.station.changeover import Changeover\n"
        "from gonogo.station.worker import worker_main\n"
        "class Broken:\n"
        "    challenges, slots = None, ()\n"
        "    changeover = Changeover({None: ()}, station='s1')\n"
        "    def start(self): pass\n"
        "    def pictures(self): return {}\n"
        "    def find_troubles(self): return []\n"
        "    def acknowledged_stop(self): return ''\n"
        "    def expect(self, trigger_id, came_s): raise RuntimeError('the shutter fell off')\n"
        "worker_main(Broken)\n"
    )
    notice = encode(ExpectPicture(trigger_id="A", came_s=0.0)).encode()
    done = subprocess.run([sys.executable, "-c", program], input=notice, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    last = done.stdout.decode().splitlines(keepends=True)[-1]
    assert decode_for_supervisor(last) == Dying(reason="RuntimeError: the shutter fell off")


def test_a_file_name_that_is_no_text_is_escaped_and_its_part_answered(tmp_path: Path) -> None:
    picture = images.encode_png(fake_frame(1))
    for name in (b"b\xe4d.png", "gut ü.png".encode(), b"two\nlines.png", b"x" * 220 + b".png"):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(picture)
    fired: dict[str, str] = {}
    complaints: list[str] = []
    stopped = threading.Event()

    def submit(trigger_id: str, *, part: str) -> None:  # as the supervisor does
        fired[clean_name(trigger_id)] = clean_name(part)

    settings = FolderTrigger(kind="folder", folder=tmp_path, stable_s=0.0, poll_s=0.01)
    watcher = threading.Thread(target=watch_folder, args=(settings, submit, complaints.append, stopped))
    watcher.start()
    until = time.monotonic() + 60
    while (len(fired) < 2 or len(complaints) < 2) and time.monotonic() < until:
        time.sleep(0.01)
    stopped.set()
    watcher.join()
    assert set(fired.values()) == {"b\\udce4d", "gut ü"}
    assert len(complaints) == 2
    assert all(text.isprintable() for text in complaints)


def test_text_is_made_readable_whatever_it_holds() -> None:
    assert readable("plain ü \N{COLLISION SYMBOL}") == "plain ü \N{COLLISION SYMBOL}"
    assert readable("a\ud800\0b\nc") == "a\\ud800\\x00b\\nc"


def test_a_known_bad_part_with_an_odd_name_or_one_that_breaks_the_network_holds_the_station_and_kills_no_worker(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "known"
    folder.mkdir()
    Path(os.fsdecode(bytes(folder) + b"/b\xe4d.png")).write_bytes(images.encode_png(fake_frame(1, bad=True)))
    line = Line(tmp_path, extra='[challenge]\nevery_s = 60.0\npictures = "known"\n')
    line.moment += timedelta(seconds=61)
    line.station.idle()
    with line.ledger() as ledger:
        tests = [row.record.details for row in ledger.actions(Where(action=CHALLENGE))]
    assert [(test["part"], test["passed"]) for test in tests] == [("b\\udce4d.png", True)]

    def fail(frame: Frame) -> Verdict:
        raise RuntimeError("the network failed")

    assert line.slot.model is not None
    line.slot.model = replace(line.slot.model, inspect=fail)
    line.moment += timedelta(seconds=61)
    line.station.idle()
    assert line.station.challenges is not None
    assert "the network failed" in line.station.challenges.standing().held


# --- who may trigger and send pictures


def ask(port: int, path: str, body: bytes, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", path, body=body, headers={name.replace("_", "-"): it for name, it in headers.items()})
    response = connection.getresponse()
    return response.status, response.read().decode()


FOREIGN: tuple[dict[str, str], ...] = (
    {"Host": "evil.example"},
    {"Host": "evil.example:8791"},
    {"Host": "127.0.0.1.evil.example"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec_Fetch_Site": "cross-site"},
)


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_can_neither_trigger_nor_send_pictures(tmp_path: Path, headers: dict[str, str]) -> None:
    supervisor = Supervisor(settings_for(tmp_path / "line"), ["true"], lambda _: None)
    server = StationServer(supervisor, host="127.0.0.1", port=0, token=None, triggers=True).start()
    camera = PushCamera().start()
    try:
        assert ask(server.port, "/trigger", b"A", **headers)[0] == 403
        assert ask(camera.port, "/frames/A", b"picture", **headers)[0] == 403
        assert ask(camera.port, "/frames/A", b"picture")[0] == 202
    finally:
        server.close()
        camera.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:80", "192.168.1.7", "line-pc", "LINE-PC:8791"])
def test_the_machine_is_known_by_address_and_by_its_own_and_its_given_names(tmp_path: Path, host: str) -> None:
    camera = PushCamera(hosts=("line-pc",)).start()
    try:
        assert ask(camera.port, "/frames/A", b"picture", Host=host)[0] == 202
    finally:
        camera.close()


@pytest.mark.parametrize("body", [b'{"id":"\\ud800"}', b'{"id":"A","\\ud800":1}', b"\xff\xfe", b"x" * 300, b""])
def test_a_hostile_trigger_over_http_is_a_400_that_says_why(tmp_path: Path, body: bytes) -> None:
    supervisor = Supervisor(settings_for(tmp_path / "line"), ["true"], lambda _: None)
    server = StationServer(supervisor, host="127.0.0.1", port=0, token=None, triggers=True).start()
    try:
        code, text = ask(server.port, "/trigger", body)
        assert (code, bool(text)) == (400, True)
        assert ask(server.port, "/trigger", b"A", Content_Length="²")[0] in (400, 413)
    finally:
        server.close()


def test_a_picture_with_a_name_that_no_trigger_can_have_is_refused() -> None:
    camera = PushCamera().start()
    try:
        assert ask(camera.port, "/frames/" + "a" * 300, b"picture")[0] == 400
        assert ask(camera.port, "/frames/%00", b"picture")[0] == 400
        assert ask(camera.port, "/frames/A", b"picture")[0] == 202
    finally:
        camera.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('[trigger]\nkind = "stdin"', '[http]\nport = 0\n[trigger]\nkind = "http"'),
        ('{ kind = "fake", pictures = "none" }', '{ kind = "push", port = 0 }'),
    ],
)
def test_triggers_and_pictures_over_http_need_a_token_unless_told_otherwise(
    tmp_path: Path, before: str, after: str
) -> None:
    settings_for(tmp_path)
    text = (tmp_path / "station.toml").read_text().replace(before, after)
    with pytest.raises(InputError, match="token_file"):
        parse_settings(text, folder=tmp_path)
    separator = ", " if "push" in after else "\n"
    for told in ('token_file = "token"', "allow_without_token = true"):
        assert parse_settings(text.replace("port = 0", f"port = 0{separator}{told}"), folder=tmp_path)


LARGE = 2**63 + 1
REFUSED_TRIGGERS = (
    f'{{"id": {LARGE}}}',
    f'{{"id": {"9" * 4_000}}}',
    f'{{"id": "A", "part": {LARGE}}}',
    '{"id": ' + "[" * 4_000,
    '{"id": ' + '{"id": ' * 500,
    '{"id": NaN}',
    '{"id": "A", "lot": "' + "a" * 3_000 + '"}',
    '{"id": "A", "seed": 1}',
    "a" * 4_000,
)


def test_numbers_beyond_64_bits_deep_json_and_long_paths_are_refused_by_a_stations_ports(tmp_path: Path) -> None:
    long = "/" + "a" * 5_000
    lengths = (str(LARGE), "9" * 5_000, "-1", "0x10", "1e3", "٣")
    with station_bench(settings_for(tmp_path / "line")) as line:
        server = StationServer(line.supervisor, host="127.0.0.1", port=0, token=None, triggers=True).start()
        camera = PushCamera(matching=Matching(any_name=True)).start()
        try:
            line.ready()
            for body in REFUSED_TRIGGERS:
                assert 400 <= ask(server.port, "/trigger", body.encode())[0] < 500, body[:40]
            for port, place in ((server.port, "/trigger"), (camera.port, "/frames/A")):
                for path in (long, place + long, f"{place}?{long}", "/%00", "/%ff%fe", "//"):
                    assert 400 <= ask(port, path, b"\xff")[0] < 500, path[:40]
                for length in lengths:
                    assert 400 <= _status_for(port, place, {"Content-Length": length.encode()}) < 500, length[:40]
            for moment in ("9" * 5_000, f"{LARGE}-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2026-01-31T14:00:00"):
                assert ask(camera.port, "/frames", b"picture", Captured_At=moment)[0] == 400, moment[:40]
            for moment in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"):
                assert ask(camera.port, "/frames", b"picture", Captured_At=moment)[0] in (202, 503)
            line.plc.fire(line.supervisor.submit, "part-1")
            assert line.plc.wait("part-1").state is State.GO
            assert line.supervisor.metrics.events["restarts"] == 0
        finally:
            camera.close()
            server.close()


def _status_for(port: int, path: str, headers: dict[str, bytes]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse().status
