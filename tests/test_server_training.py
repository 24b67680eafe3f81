"""Training from the server: the queue, a real run from labels to report, cancelling, restarts, deploying."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi import FastAPI

from gonogo.dataset import Dataset, Sample, Split, write_metadata
from gonogo.dataset.splits import Fractions, complete_splits
from gonogo.images import encode_png
from gonogo.ledger import Action
from gonogo.schema import Frame, Label
from gonogo.server import Workspace
from gonogo.server.language import RefusedError
from gonogo.server.training.jobs import Jobs, Phase, Status, is_worked_on, working_on, write_status
from gonogo.server.training.presets import BACKBONES, Effort, arguments
from server_kit import XSS, Browser, fill, make_app, text_of

LONGEST_S = 280.0


def disc(rng: np.random.Generator, *, bad: bool) -> Frame:
    """Brushed metal, with a dark spot where it is bad."""
    picture = cv2.GaussianBlur(rng.normal(130, 40, (72, 96)), (0, 0), sigmaX=6, sigmaY=0.8)
    if bad:
        spot = np.zeros((72, 96), np.uint8)
        cv2.circle(spot, (int(rng.integers(14, 82)), int(rng.integers(14, 58))), 9, 255, -1)
        picture[spot > 0] -= 70
    return np.repeat(np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)[..., None], 3, 2)


def make_discs(root: Path, rng: np.random.Generator, count: int = 24) -> Dataset:
    """Labelled, without splits; the last four have no label."""
    (root / "images").mkdir(parents=True)
    samples = []
    for number in range(count):
        bad, name = number % 2 == 1, f"images/{number:02d}.png"
        (root / name).write_bytes(encode_png(disc(rng, bad=bad)))
        label = None if number >= count - 4 else Label.BAD if bad else Label.GOOD
        samples.append(Sample(file_name=name, label=label, defect="spot" if label is Label.BAD else None))
    write_metadata(root, samples)
    return Dataset.read(root)


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are queued and never begun."""
    monkeypatch.setattr(Jobs, "start_queued", lambda self: None)


def engineer(app: FastAPI) -> Browser:
    browser = Browser(app)
    browser.login("engineer")
    return browser


def ask_for(jobs: Jobs, name: str = "one", **values: Any) -> int:
    given: dict[str, Any] = {
        "dataset": "discs",
        "effort": Effort.QUICK,
        "weights": "none",
        "roi": "none",
        "who": "anna",
    }
    return jobs.add(name=name, **{**given, **values}).request.number


def wait(browser: Browser, number: int) -> dict[str, Any]:
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        state: dict[str, Any] = browser.client.get(f"/training/{number}/state").json()
        if state["over"]:
            return state
        time.sleep(0.2)
    raise AssertionError(f"not over after {LONGEST_S} s: {state['log']}")


@pytest.mark.slow
def test_labels_become_an_inspector_a_report_and_the_one_in_use(space: Workspace, rng: np.random.Generator) -> None:
    made = make_discs(space.datasets / "discs", rng)
    app = make_app(space.root)
    browser = engineer(app)
    answer = browser.post("/datasets/discs/train", inspector="disc", effort="quick", weights="none")
    assert answer.headers["location"] == "/training/1"
    state = wait(browser, 1)
    assert state["phase"] == "done", state["log"]
    labelled = Dataset.read(made.root).samples
    assert all((sample.split is None) == (sample.label is None) for sample in labelled)
    page = text_of(browser.get("/training/1"))
    assert "Bad parts passed" in page
    assert "every part that it does not reject goes to review" in page

    report = browser.client.get("/training/1/report")
    assert "sandbox" in report.headers["content-security-policy"]
    assert "script-src" not in report.headers["content-security-policy"]
    assert "disc.inspector" in report.text

    assert browser.post("/deploy", inspector="disc.inspector").status_code == 303
    assert space.active_bundle() == space.bundles / "disc.inspector"
    with app.state.components.ledger_pool.reading() as ledger:
        last = list(ledger.actions())[-1].record
    assert isinstance(last, Action)
    assert (last.action, last.who, last.details["bundle"]) == ("deploy", "engineer", "disc.inspector")
    assert app.state.components.jobs.trained_on("discs") == space.bundles / "disc.inspector"


@pytest.mark.slow
def test_too_few_labels_end_in_a_sentence_that_says_what_is_missing(space: Workspace, rng: np.random.Generator) -> None:
    make_discs(space.datasets / "discs", rng, count=14)
    browser = engineer(make_app(space.root))
    browser.post("/datasets/discs/train", inspector="disc", effort="quick", weights="none")
    assert wait(browser, 1)["phase"] == "failed"
    assert "Expected at least 20 labelled pictures, found 10" in text_of(browser.get("/training/1"))
    assert not (space.bundles / "disc.inspector").exists()


@pytest.mark.slow
def test_a_run_that_is_cancelled_ends_and_the_next_one_begins(space: Workspace, rng: np.random.Generator) -> None:
    make_discs(space.datasets / "discs", rng)
    browser = engineer(make_app(space.root))
    for name in ("first", "second"):
        browser.post("/datasets/discs/train", inspector=name, effort="thorough", weights="none")
    assert "Queued: 1 run ahead" in text_of(browser.get("/training/2"))
    until = time.monotonic() + LONGEST_S
    while browser.client.get("/training/1/state").json()["phase"] == "queued" and time.monotonic() < until:
        time.sleep(0.1)
    assert not Jobs(space).find(1).status.phase.over, "a server that starts anew finds it at work"
    browser.post("/training/1/cancel")
    assert wait(browser, 1)["phase"] == "cancelled"
    assert not (space.bundles / "first.inspector").exists()
    browser.post("/training/2/cancel")
    assert wait(browser, 2)["phase"] == "cancelled"
    assert "This training run has already ended" in text_of(
        browser.post("/training/2/cancel") and browser.get("/training/2")
    )


@pytest.mark.usefixtures("idle")
def test_the_queue_is_in_order_and_survives_a_restart(space: Workspace) -> None:
    jobs = Jobs(space)
    assert [ask_for(jobs, name) for name in ("one", "two")] == [1, 2]
    again = Jobs(space)
    assert [(job.request.number, job.status.phase) for job in again.all()] == [(2, Phase.QUEUED), (1, Phase.QUEUED)]
    assert again.find(1).request.who == "anna"
    jobs.cancel(1)
    assert again.find(1).status.phase is Phase.CANCELLED


@pytest.mark.usefixtures("idle")
def test_a_run_whose_process_died_is_said_to_have_failed(space: Workspace) -> None:
    jobs = Jobs(space)
    folder = jobs.find(ask_for(jobs)).folder
    write_status(folder, Status(phase=Phase.TRAINING, began_at=datetime.now(UTC)))
    with working_on(folder):
        assert is_worked_on(folder)
        assert jobs.find(1).status.phase is Phase.TRAINING, "its lock is held, whatever became of the server"
    assert jobs.find(1).status.phase is Phase.FAILED
    assert "exited unexpectedly" in jobs.find(1).status.problem


@pytest.mark.usefixtures("idle")
def test_a_name_can_be_taken_once(space: Workspace) -> None:
    jobs = Jobs(space)
    ask_for(jobs)
    with pytest.raises(RefusedError, match="already"):
        ask_for(jobs)
    (space.bundles / "there.inspector").mkdir()
    with pytest.raises(RefusedError, match="already"):
        ask_for(jobs, "there")
    assert jobs.free_name("there") == "there-1"
    with pytest.raises(RefusedError, match="letters"):
        ask_for(jobs, "../../etc")


@pytest.mark.usefixtures("idle")
def test_only_weights_of_the_workspace_can_be_asked_for(space: Workspace) -> None:
    jobs = Jobs(space)
    jobs.weights.mkdir()
    (jobs.weights / "resnet18_to_layer3.safetensors").touch()
    for name in ("../x.safetensors", "/etc/passwd", "squeezenet1_1.safetensors"):
        with pytest.raises(RefusedError, match="no weights file"):
            ask_for(jobs, weights=name)
    number = ask_for(jobs, weights="resnet18_to_layer3.safetensors", roi="learned")
    given = jobs.find(number).request.train_arguments(jobs.weights, Path("discs"))
    assert given[:4] == ["--backbone", "resnet18", "--weights", str(jobs.weights / "resnet18_to_layer3.safetensors")]
    assert given[4:6] == ["--cut", "layer3"]
    assert given[-2:] == ["--roi", "learned"]


def test_every_effort_is_a_command_that_gonogo_takes() -> None:
    from typer.main import get_command

    from gonogo.cli import app
    from gonogo.model.backbones import ARCHITECTURES

    assert set(BACKBONES) == set(ARCHITECTURES)
    train = get_command(app).commands["train"]  # type: ignore[attr-defined]
    for effort in Effort:
        for weights in (None, Path("mobilenet_v2.safetensors")):
            train.make_context("train", ["data", "--out", "a.inspector", *arguments(effort, weights)])
    with pytest.raises(RefusedError, match="named after its backbone"):
        arguments(Effort.QUICK, Path("mine.safetensors"))


@pytest.mark.slow
def test_an_inspector_that_is_broken_or_not_there_is_not_deployed(space: Workspace) -> None:
    fill(space)
    browser = engineer(make_app(space.root))
    shutil.copytree(space.bundles / "tiny.inspector", space.bundles / "broken.inspector")
    (space.bundles / "broken.inspector" / "inspector.json").write_text("{}")
    for name in ("broken.inspector", "none.inspector", "../../x.inspector", ""):
        browser.post("/deploy", inspector=name)
        assert space.active_bundle() == space.bundles / "tiny.inspector"


@pytest.mark.usefixtures("idle")
def test_what_a_log_says_comes_out_as_text(space: Workspace) -> None:
    app = make_app(space.root)
    folder = app.state.components.jobs.find(ask_for(app.state.components.jobs)).folder
    (folder / "log.txt").write_text("\n".join(XSS))
    (folder / "progress.json").write_text('{"step": "<script>window.pwned=1</script>", "done": 1, "total": 2}')
    write_status(folder, Status(phase=Phase.FAILED, problem=XSS[0]))
    browser = engineer(app)
    for text in (browser.get("/training/1").text, browser.client.get("/training/1/state").json()["piece"]):
        assert XSS[0] not in text
        assert XSS[1] not in text


@pytest.mark.usefixtures("idle")
def test_a_report_written_by_somebody_else_runs_nothing(space: Workspace) -> None:
    app = make_app(space.root)
    folder = app.state.components.jobs.find(ask_for(app.state.components.jobs)).folder
    browser = engineer(app)
    assert browser.client.get("/training/1/report").status_code == 404
    (folder / "report.html").write_text(XSS[0])
    policy = browser.client.get("/training/1/report").headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "allow-" not in policy


def test_pictures_keep_their_split_when_others_are_added() -> None:
    kinds = [(Label.GOOD, None), (Label.BAD, "spot")]
    first = [Sample(file_name=f"{n}.png", label=kinds[n % 2][0], defect=kinds[n % 2][1], group=n) for n in range(40)]
    before = complete_splits(first, Fractions(), 0)
    copy = first[3].model_copy(update={"file_name": "copy.png"})
    more = [
        Sample(file_name=f"m{n}.png", label=kinds[n % 2][0], defect=kinds[n % 2][1], group=100 + n) for n in range(40)
    ]
    after = complete_splits([*before, copy, *more], Fractions(), 0)
    assert after[:40] == before
    assert after[40].split is before[3].split, "a re-shot copy follows its original"
    counts = {split: sum(sample.split is split for sample in after) for split in Split}
    assert counts[Split.TRAIN] == pytest.approx(40.5, abs=2)
    assert counts[Split.CALIBRATE] == pytest.approx(20.25, abs=2)
