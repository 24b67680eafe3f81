"""A station whose surroundings fail: ports, files, disks, sockets, children. No part passes for it, and it says why."""

from __future__ import annotations

import errno
import io
import json
import os
import queue
import socket
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from gonogo.errors import InputError
from gonogo.line.messages import Answer, Cause, Trigger, fault
from gonogo.signing import Signature
from gonogo.station import AnswerError, Sender, companion, triggers
from gonogo.station import forwarder as forwarding
from gonogo.station.answers import HttpPort, LinePort, open_port
from gonogo.station.backlog import Backlog, Owed
from gonogo.station.companion import Companion, end_child, end_with_parent, start_child
from gonogo.station.forwarder import forward_command, forwarder, read_link
from gonogo.station.notices import Notices
from gonogo.station.outbox import outbox, read_destinations
from gonogo.station.outcomes import signature_details
from gonogo.station.settings import FileAnswers, FolderTrigger, HttpAnswers, StationSettings, StdoutAnswers
from gonogo.station.systemd import READY, notify
from gonogo.station.triggers import TriggerSource, open_source, watch_folder
from gonogo.testing.station import settings_for

NOW = datetime(2026, 1, 12, 8, 0, tzinfo=UTC)


def a_trigger(name: str = "a") -> Trigger:
    return Trigger(id=name, part=f"part {name}", at=NOW, due_s=1.0)


def an_answer(name: str = "a") -> Answer:
    return fault(a_trigger(name), Cause.LATE, "late")


def no_space(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


# --- answers


def test_answers_go_to_the_port_that_the_settings_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert open_port(None) is None
    port = open_port(StdoutAnswers(kind="stdout"))
    assert port is not None
    port.send(an_answer("one"))
    assert json.loads(capsys.readouterr().out)["trigger_id"] == "one"
    for name in ("two", "three"):
        port = open_port(FileAnswers(kind="file", file=tmp_path / "new" / "answers.jsonl"))
        assert port is not None
        port.send(an_answer(name))
    lines = (tmp_path / "new" / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["trigger_id"] for line in lines] == ["two", "three"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"answers\.jsonl: cannot be written"):
        open_port(FileAnswers(kind="file", file=tmp_path / "file" / "answers.jsonl"))
    (tmp_path / "token").write_text("s" * 32)
    (tmp_path / "token").chmod(0o600)
    http = HttpAnswers(kind="http", url="http://127.0.0.1:1/answers", token_file=tmp_path / "token", attempts=1)
    posted = open_port(http)
    assert isinstance(posted, HttpPort)
    with pytest.raises(AnswerError, match=r"http://127\.0\.0\.1:1/answers: .*\(1 attempts\)"):
        posted.send(an_answer())


def test_a_stream_that_is_closed_does_not_take_an_answer() -> None:
    stream = io.StringIO()
    stream.close()
    with pytest.raises(AnswerError, match="the stream: cannot be written"):
        LinePort(stream).send(an_answer())


class _Port:
    """A port that waits, and fails as it is told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure, self.go, self.busy, self.sent = failure, threading.Event(), threading.Event(), list[str]()

    def send(self, answer: Answer) -> None:
        self.busy.set()
        assert self.go.wait(60)
        if self.failure is not None:
            raise self.failure
        self.sent.append(answer.trigger_id)


def test_answers_that_the_line_does_not_take_are_reported_and_never_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gonogo.station.answers._WAITING", 1)
    port, told = _Port(), list[tuple[str, str]]()
    sender = Sender(port, lambda: None, lambda answer, why: told.append((answer.trigger_id, why))).start()
    sender.send(an_answer("a"))
    assert port.busy.wait(60)
    sender.send(an_answer("b"))
    sender.send(an_answer("c"))
    assert told == [("c", "1 answers are already waiting")]
    sender.close(timeout_s=0.01)  # the line does not even take the first one: nothing more can be done
    port.go.set()
    assert sender._queue.get(timeout=60) is not None or port.sent

    for failure, why in ((AnswerError("away"), "away"), (RuntimeError("odd"), "RuntimeError: odd")):
        told.clear()
        port = _Port(failure)
        port.go.set()
        sender = Sender(port, lambda: None, lambda answer, why: told.append((answer.trigger_id, why))).start()
        sender.send(an_answer("d"))
        sender.close(timeout_s=60)
        assert told == [("d", why)]


def test_a_sender_that_was_never_started_is_closed_at_once() -> None:
    Sender(_Port(), lambda: None, lambda *_: None).close(timeout_s=0.01)


# --- the backlog on a bad disk


def owed(name: str) -> Owed:
    return Owed(trigger=a_trigger(name), cause=Cause.LATE, reason="late", answered=True)


def test_a_backlog_on_a_full_disk_goes_on_in_memory_and_is_written_once_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "unrecorded.jsonl"
    backlog = Backlog(path)
    with monkeypatch.context() as full:
        full.setattr(Path, "open", no_space)
        full.setattr(Path, "write_text", no_space)
        assert backlog.add(owed("a"))
        backlog.mend()
        assert backlog.alarms == [f"{path}: No space left on device"]
    assert not path.exists()
    backlog.mend()
    assert backlog.alarms == []
    assert [each.trigger.id for each in Backlog(path)] == ["a"]

    with monkeypatch.context() as stuck:
        stuck.setattr(Path, "unlink", no_space)
        backlog.done(recorded=True)
        assert backlog.trouble
    backlog.mend()  # empty: the file goes
    assert (backlog.trouble, path.exists(), backlog.next()) == ("", False, None)


def test_a_backlog_that_cannot_be_read_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "unrecorded.jsonl"
    Backlog(path).add(owed("earlier"))
    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_text", no_space)
        backlog = Backlog(path)
        backlog.mend()
        assert "No space left on device" in backlog.alarms[0]
        backlog.add(owed("new"))
        backlog.done(recorded=True)
        assert path.exists(), "what an earlier run wrote is still owed"
    backlog.mend()
    assert next(iter(backlog)).trigger.id == "earlier"


def test_a_fault_that_no_ledger_takes_is_set_aside_with_an_alarm(tmp_path: Path) -> None:
    backlog = Backlog(tmp_path / "unrecorded.jsonl")
    backlog.add(owed("a"))
    backlog.add(owed("b"))
    assert backlog.give_up().trigger.id == "a"
    backlog.done(recorded=False)
    assert [each.trigger.id for each in backlog] == ["b"]
    assert backlog.alarms == [
        f"1 faults cannot be recorded: see {tmp_path / 'unrecordable.jsonl'}, then move the file away"
    ]
    assert Backlog(tmp_path / "unrecorded.jsonl").set_aside == 1


# --- triggers


def test_a_source_that_fails_ends_with_its_reason() -> None:
    def fails(stopped: threading.Event) -> None:
        raise RuntimeError("no line")

    source = TriggerSource(fails).start()
    assert source.ended.wait(60)
    assert source.trouble == "RuntimeError: no line"
    assert open_source(None, lambda *_, **__: None, lambda _: None) is None


def test_a_folder_that_is_away_is_complained_about_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints, stopped = list[str](), threading.Event()

    def complain(text: str) -> None:
        complaints.append(text)
        stopped.set()

    settings = FolderTrigger(kind="folder", folder=tmp_path / "away", poll_s=0.01, stable_s=0.0)
    watch_folder(settings, lambda *_, **__: pytest.fail("no trigger"), complain, stopped)
    assert complaints == [f"{tmp_path / 'away'}: cannot be read (No such file or directory)"]


def test_a_picture_that_is_moved_away_while_it_is_read_fires_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    stopped, seen, fired = threading.Event(), list[Path](), list[str]()

    def moved(folder: Path) -> list[Path]:
        seen.append(folder)
        if len(seen) > 3:
            stopped.set()
        return [tmp_path / "a.png", tmp_path / "b.png"]

    monkeypatch.setattr(triggers, "waiting_pictures", moved)
    settings = FolderTrigger(kind="folder", folder=tmp_path, poll_s=0.01, stable_s=0.0)
    watch_folder(settings, lambda name, **_: fired.append(name), pytest.fail, stopped)
    assert [name.partition("#")[0] for name in fired] == ["a.png"]


def test_a_timer_and_standard_input_are_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    from gonogo.station.settings import StdinTrigger, TimerTrigger

    fired, two = list[str](), threading.Event()

    def submit(name: str, **_: object) -> None:
        fired.append(name)
        if len(fired) >= 2:
            two.set()

    timer = open_source(TimerTrigger(kind="timer", every_s=0.01), submit, pytest.fail)
    assert timer is not None
    timer.start()
    assert two.wait(60)
    timer.stop()
    assert timer.ended.wait(60)
    assert len(set(fired)) == len(fired)
    fired.clear()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"A1\n\n\xe4\n"), encoding="utf-8"))
    lines = open_source(StdinTrigger(kind="stdin"), submit, pytest.fail)
    assert lines is not None
    assert lines.start().ended.wait(60)
    assert (fired, lines.trouble) == (["A1", "\\xe4"], ""), "a byte that is no UTF-8 does not end the station"
    monkeypatch.setattr(sys, "stdin", io.StringIO("B1\nB2\n"))
    stopped = open_source(StdinTrigger(kind="stdin"), submit, pytest.fail)
    assert stopped is not None
    stopped.stop()
    assert stopped.start().ended.wait(60)
    assert "B1" not in fired


# --- notices


class _Worker:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def send(self, notice: object) -> bool:
        self.heard.append(notice)
        return True


def test_a_worker_that_does_not_read_gets_no_more_notices_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gonogo.station.notices._UNHEARD", 2)
    notices, worker = Notices(window_s=1.0), _Worker()
    for name in ("a", "b", "c"):
        notices.came(a_trigger(name), worker)  # type: ignore[arg-type]
    assert len(worker.heard) == 2, "a full pipe would block the supervisor"
    notices.heard(worker)  # type: ignore[arg-type]
    assert len(worker.heard) == 3, "pictures may be left over"
    notices.heard(worker)  # type: ignore[arg-type]
    assert len(worker.heard) == 3
    notices.came(a_trigger("d"), None)
    notices.started(worker, [a_trigger("e")])  # type: ignore[arg-type]
    assert len(worker.heard) == 4


def test_a_picture_is_contested_only_by_a_trigger_that_came_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    notices = Notices(window_s=1.0)
    first, second = replace(a_trigger("a"), due_s=11.0), replace(a_trigger("b"), due_s=12.0)
    for trigger in (first, second):
        notices.came(trigger, None)
    judged = replace(an_answer("a"), sole_until_s=11.5)
    assert notices.contested(first, judged)
    assert not notices.contested(first, replace(judged, sole_until_s=10.5))
    assert not notices.contested(first, replace(judged, sole_until_s=None))


# --- systemd


def test_systemd_is_told_through_its_socket_and_its_absence_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY)
    for address in (str(tmp_path / "notify"), f"@gonogo-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(address.replace("@", "\0", 1))
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            assert notify(READY)
            assert systemd.recv(100) == b"READY=1"
    assert not notify(READY), "it no longer listens"


# --- companions


def test_a_companion_that_ends_is_reported_and_started_again_until_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companion, "_SHORTEST_PAUSE_S", 0.01)
    codes = queue.SimpleQueue[int]()
    log, code = tmp_path / "log", "import os, sys; print(os.environ['MARK'], flush=True); sys.exit(3)"
    with Companion([sys.executable, "-c", code], codes.put, log=log, environment={"MARK": "here"}) as beside:
        assert [codes.get(timeout=60), codes.get(timeout=60)] == [3, 3]
        assert "here" in log.read_text() or codes.get(timeout=60) == 3
    assert beside.process is not None
    assert beside.process.poll() is not None


def test_a_companion_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companion, "_SHORTEST_PAUSE_S", 0.01)
    tries = queue.SimpleQueue[int]()

    def no_process(*_: object, **__: object) -> NoReturn:
        tries.put(1)
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(companion, "start_child", no_process)
    with Companion(["absent"], pytest.fail):
        assert [tries.get(timeout=60), tries.get(timeout=60)] == [1, 1]


def test_a_child_ends_with_its_input_and_is_killed_if_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companion, "_PATIENCE_S", 30.0)
    willing = start_child([sys.executable, "-c", "import sys; sys.stdin.read()"])
    end_child(willing)
    assert willing.returncode == 0
    monkeypatch.setattr(companion, "_PATIENCE_S", 0.01)
    deaf = start_child([sys.executable, "-c", "import time; time.sleep(600)"])
    end_child(deaf)
    assert deaf.returncode == -9


def test_a_process_ends_as_soon_as_its_parent_does() -> None:
    reader, writer = os.pipe()
    ended = threading.Event()
    with os.fdopen(reader, encoding="utf-8") as source:
        end_with_parent(source, ended.set)
        os.write(writer, b"still here\n")
        assert not ended.wait(0.05)
        os.close(writer)
        assert ended.wait(60)


# --- the centre, and where results go


def centred(folder: Path, extra: str = "", *, results: bool = False) -> StationSettings:
    from gonogo.station import parse_settings

    settings_for(folder)
    (folder / "url").write_text("postgresql://u:p@h/d")
    text = (folder / "station.toml").read_text()
    more = f'[centre]\nurl_file = "url"\n{extra}\n'
    if results:
        more = f'[[results]]\nname = "out"\nkind = "folder"\nfolder = "out"\n{extra}\n'
    found = parse_settings(text + more, folder=folder)
    found.state_dir.mkdir(exist_ok=True)
    return found


def test_the_command_that_forwards_names_chain_frames_and_the_file_with_the_address(tmp_path: Path) -> None:
    settings = centred(tmp_path / "a", 'frames = "s3://bucket/x"\nchain = "line7"\nevery_s = 2.5')
    assert settings.centre is not None
    words = forward_command(settings, settings.centre)
    assert words[1:6] == ["-m", "gonogo", "ledger", "forward", "--with-parent"]
    assert "--chain=line7" in words
    assert "--every=2.5" in words
    assert "--frames=s3://bucket/x" in words
    assert words[-2:] == [str(settings.ledger), f"@{settings.centre.url_file}"]
    plain = centred(tmp_path / "b")
    assert plain.centre is not None
    words = forward_command(plain, plain.centre)
    assert "--chain=chaos" in words
    assert not any(word.startswith("--frames") for word in words)


def state(path: Path, *, ago_s: float = 0.0, **changes: object) -> None:
    found = {
        "at": (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(),
        "lag_rows": 0,
        "lag_s": 0.0,
        "centre_seq": 7,
        "clock_ahead_s": None,
        "trouble": "",
        "delivered": 5,
        "skipped": 0,
        "pictures_missing": 0,
    }
    path.write_text(json.dumps(found | changes))


def test_the_link_to_the_centre_alarms_when_refused_silent_or_behind(tmp_path: Path) -> None:
    assert read_link(settings_for(tmp_path / "none")) is None
    settings = centred(tmp_path / "line")
    link = settings.state_dir / "centre.json"

    def alarm() -> str:
        found = read_link(settings)
        assert found is not None
        return found.alarm

    assert read_link(settings) == forwarding._STARTING
    link.write_text('{"at": 3}')
    assert read_link(settings) == forwarding._STARTING
    state(link)
    assert alarm() == ""
    state(link, ago_s=500.0)
    assert alarm() == "the forwarder to the centre has been silent for 500 s"
    state(link, lag_rows=3, lag_s=700.0)
    assert alarm() == "3 rows wait for the centre, the oldest for 700 s"
    state(link, lag_rows=3, lag_s=700.0, trouble="no route")
    assert alarm() == "3 rows wait for the centre, the oldest for 700 s: no route"
    state(link, lag_rows=3, lag_s=10.0)
    assert alarm() == ""
    state(link, refused=True, trouble="another chain")
    assert alarm() == "another chain"


@pytest.mark.parametrize("log", ["one\nthe password is wrong\n", ""])
def test_a_forwarder_that_ends_says_why(log: str, tmp_path: Path) -> None:
    settings = centred(tmp_path / "line")
    assert settings.centre is not None
    beside = forwarder(settings, settings.centre)
    assert (tmp_path / "line" / "chaos.ledger-forwarded").exists(), "retention waits from now on"
    (settings.state_dir / "centre.log").write_text(log)
    beside._ended(3)
    found = read_link(settings)
    assert found is not None
    why = "the password is wrong" if log else "exit code 3"
    assert found.alarm == f"the forwarder to the centre ended: {why}"


def test_a_destination_alarms_when_refused_silent_behind_or_choosy(tmp_path: Path) -> None:
    assert read_destinations(settings_for(tmp_path / "none")) == ()
    settings = centred(tmp_path / "line", results=True)
    place = settings.state_dir / "results.json"

    def told(**changes: Any) -> tuple[str, str]:
        state(place, **changes)
        place.write_text(json.dumps({"out": json.loads(place.read_text())}))
        (found,) = read_destinations(settings)
        return found.trouble, found.alarm

    starting = "the process that delivers results has not started yet"
    assert [each.trouble for each in read_destinations(settings)] == [starting]
    for text in ("[]", "{", '{"out": 3}', '{"out": {"at": "x"}}'):
        place.write_text(text)
        assert [(each.trouble, each.alarm) for each in read_destinations(settings)] == [(starting, "")]
    assert told() == ("", "")
    assert told(ago_s=500.0)[1] == "results out: nothing was heard of its process for 500 s"
    assert told(lag_rows=3, lag_s=7000.0)[1] == "results out: 3 rows wait, the oldest for 7000 s"
    assert told(lag_rows=3, lag_s=7000.0, trouble="full")[1].endswith("7000 s: full")
    assert told(skipped=2)[1] == "results out: 2 were skipped because the receiver calls them malformed"
    assert told(refused=True, trouble="no such table") == ("no such table", "results out: no such table")


@pytest.mark.parametrize("log", ["no such table\n", ""])
def test_the_process_that_delivers_results_says_why_it_ended(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = centred(tmp_path / "line", results=True)
    beside = outbox(settings, tmp_path / "line" / "station.toml")
    assert beside is not None
    assert list(beside.command)[1:6] == ["-m", "gonogo", "ledger", "publish", "--with-parent"]
    (settings.state_dir / "results.log").write_text(log)
    beside._ended(3)
    (found,) = read_destinations(settings)
    why = "no such table" if log else "exit code 3"
    assert found.alarm == f"results out: the process that delivers results ended: {why}"
    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", no_space)
        beside._ended(4)  # readers see that the file is old
    assert read_destinations(settings)[0].alarm == found.alarm
    assert outbox(settings_for(tmp_path / "none"), tmp_path / "none" / "station.toml") is None


# --- outcomes


def test_a_row_about_a_signed_bundle_says_who_signed_it() -> None:
    assert signature_details(None) == {}
    signed = Signature(signer="anna", key_id="k1", signed=NOW, revoked=True)
    assert signature_details(signed) == {
        "signed_by": "anna",
        "key_id": "k1",
        "signed": NOW.isoformat(),
        "key_revoked": True,
    }
