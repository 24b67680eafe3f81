"""Long work: the bar on every page, the queue, and what a restart leaves."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from gonogo.ledger import Action
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import Role
from gonogo.server.background_work import Asked, Journal, Task, Worker, WorkKind, WorkState
from gonogo.server.database import Database
from gonogo.server.training.jobs import Jobs, Phase, Status, working_on, write_status
from gonogo.server.training.presets import Effort
from server_kit import WEAK_HASHER, XSS, Browser, Clock, make_app, text_of


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    made = make_app(tmp_path / "workspace")
    yield made
    made.state.components.close()


def browse(app: FastAPI, role: Role = Role.ENGINEER) -> Browser:
    browser = Browser(app)
    browser.login(role.value)
    return browser


class Blocker:
    """A task that runs until it is released, or stopped at its next step."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def __call__(self, task: Task) -> None:
        self.begun.set()
        task.step(0, 10)
        while not self.released.wait(0.01):
            task.step(5, 10)


def ask(worker: Worker, name: str, work: object, who: str = "engineer") -> Task:
    asked = Asked(kind=WorkKind.JUDGE, who=who, about=name, arguments={"dataset": name})
    return worker.submit(name, "Judging", work, asked=asked)  # type: ignore[arg-type]


def wait(task: Task) -> None:
    while not task.over:
        time.sleep(0.01)


def test_what_waits_is_done_in_order_moved_first_and_cancelled() -> None:
    blocker, done, keeper = Blocker(), [], Kept()
    worker = Worker(keeper)
    ask(worker, "now", blocker)
    assert blocker.begun.wait(10)
    tasks = {name: ask(worker, name, lambda task, name=name: done.append(name)) for name in ("a", "b", "c")}
    assert [task.asked.about for task in worker.busy() if task.asked] == ["now", "a", "b", "c"]
    assert worker.move_first(tasks["c"].number)
    assert worker.cancel(tasks["a"].number)
    assert tasks["a"].over
    assert not worker.cancel(tasks["a"].number)
    blocker.released.set()
    wait(tasks["b"])
    assert done == ["c", "b"]
    assert keeper.states == {1: "done", 2: "cancelled", 3: "done", 4: "done"}
    worker.close()


class Kept:
    """A journal in memory."""

    def __init__(self) -> None:
        self.states: dict[int, str] = {}

    def add(self, asked: Asked) -> int:
        self.states[len(self.states) + 1] = "waiting"
        return len(self.states)

    def set_state(self, number: int, state: WorkState, failure: object = "") -> None:
        self.states[number] = state.value


def test_work_in_blocks_lets_others_take_their_turn_and_is_one_task_to_the_end() -> None:
    worker, blocker, done = Worker(), Blocker(), []

    def in_blocks(task: Task) -> bool:
        done.append("block")
        task.step(done.count("block"), 3)
        return done.count("block") < 3

    worker.submit("block", "Blocking", blocker)
    blocked = worker.submit("blocks", "Blocks", in_blocks)
    other = worker.submit("o", "Other", lambda _: done.append("o"))
    blocker.released.set()
    wait(blocked)
    assert done == ["block", "o", "block", "block"]
    assert other.over
    assert (blocked.done, blocked.total, blocked.failure) == (3, 3, "")
    worker.close()


def test_the_time_left_follows_the_pace_and_begins_anew_with_another_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("gonogo.server.background_work.worker.time.monotonic", lambda: now[0])
    task = Task("Exporting", threading.Event())
    task.running = True
    assert task.seconds_left() is None
    task.step(40, 100)  # what an earlier start has done says nothing about the pace
    now[0] += 10
    task.step(60, 100)
    assert task.seconds_left() == pytest.approx(20)
    task.step(0, 7)
    assert task.seconds_left() is None


@pytest.mark.slow
def test_what_was_interrupted_is_said_and_continued_with_one_click(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    first = make_app(root)
    first.state.components.datasets.create("tiles")
    journal: Journal = first.state.components.journal
    asked = Asked(
        kind=WorkKind.EXPORT, who="engineer", about="tiles-coco.zip", arguments={"request": {"kind": "actions"}}
    )
    journal.set_state(journal.add(asked), WorkState.RUNNING)  # and the server is killed
    first.state.components.ledger_pool.append(Action(action="note", who="anna"))
    first.state.components.close()

    again = create_app(Workspace.open(root), options=Options(hasher=WEAK_HASHER, names=("testserver",)))
    again.state.components.start()
    browser = browse(again)
    assert browser.get("/long-work/state").json()["interrupted"] == 1
    shown = text_of(browser.get("/long-work"))
    assert "Interrupted" in shown
    assert "tiles-coco.zip" in shown
    answer = browser.post("/long-work/w1/resume")
    assert answer.status_code == 303
    assert browser.get("/long-work/state").json()["interrupted"] == 0
    while browser.get("/export/state").json()["busy"]:
        time.sleep(0.02)
    ended = [item for item in browser.get("/long-work/state?since=1").json()["ended"] if item["state"] == "done"]
    assert len(ended) == 1
    assert ended[0]["link"] == "/export"
    assert "There is" in text_of(browser.get("/long-work")) or "actions-0001.csv" in text_of(browser.get("/long-work"))
    assert browser.post("/long-work/w1/resume").headers["location"]  # a second click, in another tab
    assert len(again.state.components.board.ended()) == 1
    again.state.components.close()


def test_closing_the_server_interrupts_what_runs_and_waits(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "server.db")
    journal = Journal(database)
    worker, blocker = Worker(journal), Blocker()
    ask(worker, "a", blocker)
    ask(worker, "b", blocker)
    assert blocker.begun.wait(10)
    worker.close()
    assert {entry.asked.about for entry in journal.in_state(WorkState.INTERRUPTED)} == {"a", "b"}
    assert ask(worker, "c", blocker).over
    database.close()


def test_people_see_and_cancel_their_own_work_and_engineers_all(app: FastAPI) -> None:
    worker, blocker = app.state.components.worker, Blocker()
    mine = ask(worker, "of the auditor", blocker, who="auditor")
    assert blocker.begun.wait(10)
    waiting = ask(worker, XSS[0], blocker, who="engineer")
    auditor, engineer, operator = (browse(app, role) for role in (Role.AUDITOR, Role.ENGINEER, Role.OPERATOR))
    assert operator.get("/long-work/state").json()["first"] is None
    assert operator.post(f"/long-work/w{mine.number}/cancel").status_code == 403
    assert auditor.get("/long-work/state").json()["more"] == 0
    assert auditor.post(f"/long-work/w{waiting.number}/cancel").status_code == 403
    said = engineer.get("/long-work/state").json()
    assert (said["first"]["name"], said["more"]) == ("Judging: of the auditor", 1)
    page = engineer.get("/long-work")
    assert XSS[0] not in page.text
    assert "Do next" in text_of(page)
    assert engineer.post(f"/long-work/w{waiting.number}/first").status_code == 303
    assert auditor.post(f"/long-work/w{mine.number}/cancel").status_code == 303
    wait(mine)
    assert auditor.get("/long-work/state?since=1").json()["ended"][0]["state"] == "cancelled"
    assert engineer.get("/long-work/state?since=1").json()["ended"] == []
    engineer.post(f"/long-work/w{waiting.number}/cancel")
    wait(waiting)
    with app.state.components.ledger_pool.reading() as ledger:
        acts = [row.record.who for row in ledger.actions() if row.record.action == "work_cancelled"]
    assert acts == ["auditor", "engineer"]


IDENTIFIERS = ("w999", "t999", "x1", "w", "w-1", "w1e3", "%2e%2e")


def test_what_does_not_exist_is_refused(app: FastAPI) -> None:
    browser = browse(app)
    for identifier, act in itertools.product(IDENTIFIERS, ("cancel", "first", "resume", "dismiss")):
        assert browser.post(f"/long-work/{identifier}/{act}").status_code in (303, 404)


def queued(jobs: Jobs, count: int) -> None:
    jobs.start_queued = lambda: None  # type: ignore[method-assign]
    for number in range(count):
        jobs.add(dataset="tiles", name=f"i{number}", effort=Effort.QUICK, weights="none", roi="none", who="engineer")


def test_a_training_run_is_interrupted_continued_moved_and_dismissed(app: FastAPI) -> None:
    jobs: Jobs = app.state.components.jobs
    queued(jobs, 3)
    browser = browse(app)
    browser.post("/long-work/t3/first")
    assert [job.request.number for job in jobs.queue()] == [3, 1, 2]
    write_status(jobs.find(1).folder, Status(phase=Phase.TRAINING))  # and its process is killed
    assert jobs.find(1).interrupted
    assert browser.get("/long-work/state").json()["interrupted"] == 1
    (jobs.find(1).folder / "cancel").touch()
    browser.post("/long-work/t1/resume")
    assert jobs.find(1).status.phase is Phase.QUEUED
    assert not jobs.find(1).cancelling
    write_status(jobs.find(2).folder, Status(phase=Phase.TRAINING))
    browser.post("/long-work/t2/dismiss")
    assert browser.get("/long-work/state").json()["interrupted"] == 0
    assert jobs.find(2).status.phase is Phase.FAILED
    assert "Start again" in text_of(browser.get("/long-work"))
    assert "Continue" in text_of(browser.get("/training/2"))
    with working_on(jobs.find(3).folder):
        write_status(jobs.find(3).folder, Status(phase=Phase.TRAINING))
        assert [job.request.number for job in jobs.queue()] == [3, 1]
        assert browser.post("/long-work/t3/resume").status_code == 303
        assert jobs.find(3).status.phase is Phase.TRAINING


def test_a_continued_run_does_not_take_the_name_of_another(app: FastAPI) -> None:
    jobs: Jobs = app.state.components.jobs
    queued(jobs, 1)
    write_status(jobs.find(1).folder, Status(phase=Phase.CANCELLED))
    queued(jobs, 1)
    browse(app).post("/long-work/t1/resume")
    assert jobs.find(1).status.phase is Phase.CANCELLED


def test_the_journal_keeps_the_latest_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gonogo.server.background_work.journal.KEPT", 3)
    database = Database.open(tmp_path / "server.db")
    journal = Journal(database, now=Clock())
    numbers = [journal.add(Asked(kind=WorkKind.VERIFY, who="anna")) for _ in range(5)]
    assert [journal.find(number) is not None for number in numbers] == [False, False, True, True, True]
    assert journal.begin() == 3
    database.close()
