"""A server with people, parts and a bundle, for tests: in process through `Browser`, or on a port with `running`."""

from __future__ import annotations

import html
import json
import os
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import argon2
import numpy as np
import tomli_w
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gonogo.dataset import Dataset, Split
from gonogo.evaluate import evaluate
from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger, VerdictRecord, View
from gonogo.schema import State
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import Role
from gonogo.server.stations.form import Fixed, to_content, usual_values
from gonogo.server.training.jobs import JobRequest, Phase, Status, write_status
from gonogo.server.training.presets import Effort
from tiny_bundle import BAD_RED, GOOD_RED, make_bundle, make_frame, make_parts

PASSWORD = "violet gasket 41 harbour"
PASSPHRASE = "tin whistle 12 cabinet"
SIGNATURE = {"passphrase": PASSPHRASE, "reason": "complaint 17", "meaning": "approved"}
"""What a person with a key of `give_key` types to sign a change."""
WEAK_HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
GO_BELOW, NO_GO_ABOVE = 85.0, 100.0

XSS = (
    "<script>window.pwned=1</script>",
    '"><img src=x onerror=window.pwned=1>',
    "' onfocus=window.pwned=1 autofocus x='",
    "</title><svg onload=window.pwned=1>",
    "</script><script>window.pwned=1</script>",
    "javascript:window.pwned=1",
    "{{ 7*7 }}{% raw %}${window.pwned=1}",
    "%(name)s %s <b>100%</b>",
    "\u202e<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
)
"""Names that must come out as text wherever they are shown. With slashes: for file names use `file_safe`."""


def file_safe(name: str) -> str:
    """A payload as a file name can carry it."""
    return name.replace("/", "\N{DIVISION SLASH}")


@dataclass
class Clock:
    """A clock that tests set."""

    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        return self.now


def make_app(root: Path, *, clock: Clock | None = None, **more: Any) -> FastAPI:
    """An app on a workspace, with one person of each role, named as the role, whose password is `PASSWORD`."""
    app = create_app(
        Workspace.open(root), options=Options(hasher=WEAK_HASHER, now=clock or Clock(), names=("testserver",)), **more
    )
    for role in Role:
        add_person(app, role.value, role)
    return app


def add_person(app: FastAPI, name: str, role: Role) -> None:
    """Add a person whose password is `PASSWORD`."""
    people = app.state.components.accounts.people
    user, password = people.add(name, role)
    people.change_password(user, password, PASSWORD)


def give_key(browser: Browser, passphrase: str = PASSPHRASE) -> str:
    """Make a signing key for the person who is logged in; returns its short name."""
    answer = browser.post("/signing-key", password=PASSWORD, new=passphrase, again=passphrase)
    assert answer.status_code == 303, answer.text
    found = re.search(r"/signing-key/([0-9a-f]{16})\.pub", browser.get("/signing-key").text)
    assert found is not None
    return found[1]


class Browser:
    """What a browser does, without one: keeps cookies, sends its origin and the CSRF token of the last page."""

    def __init__(self, app: FastAPI, *, accept_language: str = "en") -> None:
        self.client = TestClient(app, follow_redirects=False, raise_server_exceptions=False)
        self.client.headers |= {"accept": "text/html", "accept-language": accept_language}
        self.csrf = ""

    def set_cookie(self, value: str) -> None:
        """Have a session cookie of one's own making."""
        self.client.cookies.set("gonogo", value, domain="testserver.local", path="/")

    def get(self, path: str) -> Any:
        """Open a page."""
        answer: Any = self.client.get(path)
        self._remember(answer)
        return answer

    def post(self, path: str, **fields: str) -> Any:
        """Send a form."""
        answer: Any = self.client.post(
            path, data={"csrf": self.csrf, **fields}, headers={"origin": "http://testserver"}
        )
        self._remember(answer)
        return answer

    def call(self, path: str, body: object = None, *, csrf: str | None = None) -> Any:
        """Send JSON as a script does."""
        headers = {"origin": "http://testserver", "x-csrf-token": self.csrf if csrf is None else csrf}
        answer: Any = self.client.post(path, json=body, headers=headers)
        return answer

    def login(self, name: str, password: str = PASSWORD) -> Any:
        """Log in and fetch the CSRF token of the session."""
        self.get("/login")
        answer = self.post("/login", name=name, password=password)
        if answer.status_code == 303:
            self.get("/password")
        return answer

    def _remember(self, answer: Any) -> None:
        found = re.search(r'<meta name="csrf" content="([0-9a-f]*)"', answer.text)
        self.csrf = found[1] if found else self.csrf


def text_of(answer: Any) -> str:
    """A page without its tags, spaces joined."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def record(
    ledger: Ledger, number: int, red: float, *, rng: np.random.Generator, judge: Inspector | None = None, **more: Any
) -> None:
    """One part in the ledger; its score is its red, its frame is stored, the thresholds are `GO_BELOW` and above."""
    frame = make_frame(red, rng)
    score = None if judge is None else judge.inspect(frame).score
    score = float(frame[..., 0].mean()) if score is None else score
    state = State.GO if score < GO_BELOW else State.NO_GO if score > NO_GO_ABOVE else State.REVIEW
    view = View(
        frame_sha256=ledger.frames.put(encode_png(frame)),
        state=state,
        score=score,
        reason=f"score {score:.1f}",
        box_xyxy=(0.0, 0.0, 32.0, 32.0),
    )
    values: dict[str, Any] = {
        "station": "line-1",
        "trigger_id": f"t{number}",
        "part": f"P-{number:04d}",
        "lot": "L-7",
        "state": state,
        "score": score,
        "reason": view.reason,
        "go_below": GO_BELOW,
        "no_go_above": NO_GO_ABOVE,
        "bundle_sha256": None if judge is None else judge.bundle_sha256,
        "bundle": None if judge is None else str(judge.path),
        "views": (view,),
        "triggered_at": datetime.now(UTC) - timedelta(seconds=1),
    }
    ledger.append_verdict(VerdictRecord(**{**values, **more}))


def record_fault(ledger: Ledger, number: int, cause: str = "camera_lost", reason: str = "no camera") -> None:
    """A part that could not be judged."""
    ledger.append_verdict(
        VerdictRecord(
            station="line-1",
            trigger_id=f"t{number}",
            state=State.FAULT,
            score=None,
            reason=reason,
            cause=cause,
            triggered_at=datetime.now(UTC),
        )
    )


def record_run(space: Workspace, judge: Inspector, dataset: Dataset) -> None:
    """A finished training run, number 1, as if it had made a bundle that is there."""
    folder = space.jobs / "0001"
    folder.mkdir()
    request = JobRequest(
        number=1,
        dataset=dataset.root.name,
        bundle=judge.path.name,
        effort=Effort.QUICK,
        weights="none",
        who="engineer",
        asked_at=datetime.now(UTC),
    )
    (folder / "job.json").write_text(request.model_dump_json())
    write_status(folder, Status(phase=Phase.DONE, began_at=request.asked_at, ended_at=request.asked_at))
    (folder / "log.txt").write_text("$ gonogo train\n")
    (folder / "evaluation.json").write_text(json.dumps(evaluate(judge, dataset, (Split.TEST,)).to_json()))
    (folder / "report.html").write_text("<!doctype html><title>Report</title><p>Report")


def fill(space: Workspace, *, parts: int = 12) -> Inspector:
    """A data set, a bundle in use with its training run, judged parts of every state, and a station that never ran."""
    rng = np.random.default_rng(5)
    dataset = make_parts(space.datasets / "tiny", rng)
    make_bundle(space.bundles / "tiny.inspector", dataset)
    judge = Inspector.load(space.bundles / "tiny.inspector")
    record_run(space, judge, dataset)
    space.activate("tiny.inspector")
    with Ledger.open(space.ledger) as ledger:
        for number in range(parts):
            red = (GOOD_RED, GOOD_RED, (GOOD_RED + BAD_RED) / 2, BAD_RED)[number % 4] + float(rng.normal(0, 3))
            record(ledger, number, red, rng=rng, judge=judge)
        record_fault(ledger, parts)
        record(ledger, parts + 1, BAD_RED, rng=rng, judge=judge)
    set_up_station(space, "packing")
    return judge


def set_up_station(space: Workspace, name: str, **fields: str) -> Path:
    """Write the settings of a station as the form does; nothing is recorded. Returns its folder."""
    folder = space.root / "stations" / name
    fixed = Fixed(name=name, ledger=os.path.relpath(space.ledger, folder), bundles="../..")
    (folder / "incoming").mkdir(parents=True)
    content = to_content({**usual_values(name), "min_free_mb": "1", **fields}, fixed)
    (folder / "station.toml").write_text(tomli_w.dumps(content))
    return folder


def beat(
    space: Workspace, *, ago_s: float = 0.0, health: str = "running", alarms: tuple[str, ...] = (), station: str = ""
) -> None:
    """Write the status file that a station writes."""
    space.station_state.mkdir(exist_ok=True)
    status = {"beat": (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(), "health": health, "alarms": alarms}
    status |= {"station": station} if station else {}
    (space.station_state / "status.json").write_text(json.dumps(status))
