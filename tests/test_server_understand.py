"""Understanding in process: the trade-off curve, new limits, mistakes, drift, kinds, comparing, history."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI

from gonogo import bundle
from gonogo.certification import recertify
from gonogo.dataset import Dataset, Split
from gonogo.evaluate import evaluate
from gonogo.inspector import Inspector
from gonogo.ledger import REVIEW, Ledger, Where
from gonogo.operating_point import Promise
from gonogo.schema import Label, State
from gonogo.server import Workspace
from gonogo.server.background_work import Task, Worker
from gonogo.server.review import BLIND_CHECK
from gonogo.server.understand.mistakes import limits_periods, pareto
from gonogo.server.understand.tradeoff import make_tradeoff
from server_kit import XSS, Browser, beat, fill, make_app, record, text_of
from tiny_bundle import BAD_RED, GOOD_RED

ASKED = Promise(max_escape=0.1, max_overkill=0.1, guard=None)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with limits and an earlier revision, and a line that it judged."""
    root = tmp_path_factory.mktemp("understand") / "plant"
    space = Workspace.open(root)
    fill(space, parts=0)
    path = space.bundles / "tiny.inspector"
    dataset = Dataset.read(space.datasets / "tiny")
    recertify(Inspector.load(path), dataset, Promise(max_escape=0.2, max_overkill=0.2, guard=None))
    recertify(Inspector.load(path), dataset, ASKED)
    rng, judge = np.random.default_rng(4), Inspector.load(path)
    with Ledger.open(space.ledger) as ledger:
        for number in range(40):
            record(ledger, 100 + number, GOOD_RED + float(rng.normal(0, 28)), rng=rng, judge=judge)
    return root


@pytest.fixture
def app(template: Path, tmp_path: Path) -> Iterator[FastAPI]:
    shutil.copytree(template, tmp_path / "plant")
    made = make_app(tmp_path / "plant")
    yield made
    made.state.components.worker.close()


def browse(app: FastAPI, name: str = "engineer", **more: Any) -> Browser:
    browser = Browser(app, **more)
    browser.login(name)
    return browser


def work_done(app: FastAPI) -> None:
    """Let the background work begin and wait for its end."""
    components = app.state.components
    components.inspectors.refresh()
    opened = components.inspectors.in_use()
    if opened is not None:
        components.understanding.drift.refresh(opened)
    while components.worker.busy():
        threading.Event().wait(0.02)


def judged(app: FastAPI, *states: State) -> list[int]:
    with app.state.components.ledger_pool.reading() as ledger:
        return [row.seq for row in ledger.verdicts(Where(states=states))]


def review(app: FastAPI, seq: int, label: Label, defect: str | None = None, who: str = "anna") -> None:
    app.state.components.ledger_pool.act(REVIEW, who, about=seq, label=label, defect=defect)


@pytest.mark.slow
def test_the_page_says_what_is_promised_and_what_became_of_the_calibration_parts(app: FastAPI) -> None:
    work_done(app)
    told = text_of(browse(app).get("/understand"))
    assert "At most 10 % of bad parts pass, with 95 % confidence." in told
    space = app.state.components.workspace
    truth = evaluate(
        Inspector.load(space.bundles / "tiny.inspector"), Dataset.read(space.datasets / "tiny"), (Split.CALIBRATE,)
    )
    escape = truth.escape
    assert escape.low is not None
    assert escape.high is not None
    expected = f"{escape.count} of {escape.of}; {100 * escape.low:.1f} % to {100 * escape.high:.1f} %"
    assert expected in told.replace("\N{NO-BREAK SPACE}", " ")
    assert "Labelled pictures: data set tiny, on which this inspector was trained." in told


@pytest.mark.slow
def test_the_page_tells_what_it_still_works_out_and_then_shows_it(app: FastAPI) -> None:
    browser = browse(app)
    assert "The labelled pictures are being judged." in text_of(browser.get("/understand"))
    work_done(app)
    assert browser.get("/understand/progress").json()["tasks"] == []
    assert "data-tradeoff" in browser.get("/understand").text


@pytest.mark.slow
def test_what_was_worked_out_is_kept_for_the_next_start(app: FastAPI) -> None:
    work_done(app)
    before = app.state.components.inspectors.pictures()
    root = app.state.components.workspace.root
    app.state.components.close()
    again = make_app_again(root)
    work_done(again)
    after = again.state.components.inspectors.pictures()
    assert after is not None
    assert after.pictures == before.pictures
    assert np.array_equal(after.directions, before.directions)
    next((root / "cache").glob("known-*.npz")).write_bytes(b"damaged")


def make_app_again(root: Path) -> FastAPI:
    from gonogo.server import Options, create_app
    from server_kit import WEAK_HASHER

    return create_app(Workspace.open(root), options=Options(hasher=WEAK_HASHER, names=("testserver",)))


@pytest.mark.slow
def test_the_dial_agrees_with_the_evidence_in_the_bundle(app: FastAPI) -> None:
    work_done(app)
    inspectors = app.state.components.inspectors
    gauge, known = inspectors.in_use(), inspectors.pictures()
    tradeoff = make_tradeoff(gauge, known)
    assert tradeoff is not None
    assert tradeoff.bad_share == gauge.evidence["bad_share"]
    for setting in gauge.evidence["tradeoff"]:
        point = tradeoff.point(
            tradeoff.escapes.index(setting["max_escape"]), tradeoff.overkills.index(setting["max_overkill"])
        )
        assert point.holds == setting["certifiable"]
        assert point.review_rate == pytest.approx(setting["review_rate"])
    now = tradeoff.setting(tradeoff.escape_now, tradeoff.overkill_now, [])
    assert now.in_force
    assert now.limits == gauge.point
    assert now.review_rate == pytest.approx(gauge.evidence["review_rate"])


@pytest.mark.slow
def test_the_slider_shows_other_figures_for_other_limits(app: FastAPI) -> None:
    work_done(app)
    browser = browse(app)
    strict = browser.get("/understand/setting?escape=0&overkill=8").json()["html"]
    lenient = browser.get("/understand/setting?escape=11&overkill=8").json()["html"]
    assert "cannot be promised" in strict
    assert "At most 30\N{NO-BREAK SPACE}% of bad parts pass" in lenient
    assert "These limits are in force" in browser.get("/understand/setting").json()["html"]
    other = browser.get("/understand/setting?bad_share=0.3").json()["html"]
    assert 'data-bad-share="0.3"' in other
    for query in ("escape=99&overkill=0", "escape=-1&overkill=0", "bad_share=0", "bad_share=1.5", "escape=x"):
        assert browser.get(f"/understand/setting?{query}").status_code == 422


@pytest.mark.slow
def test_new_limits_become_a_revision_and_two_actions(app: FastAPI) -> None:
    work_done(app)
    components, browser = app.state.components, browse(app)
    before = components.inspectors.in_use()
    browser.get("/understand")
    body = {"max_escape": 0.15, "max_overkill": 0.15, "bad_share": 0.05}
    assert browser.call("/understand/apply", body).json() == {"done": True}
    work_done(app)
    after = components.inspectors.in_use()
    assert after.point.escape.max_rate == 0.15
    assert after.sha256 == bundle.read_bundle(before.path).sha256 != before.sha256
    assert before.sha256 in after.family
    assert after.graph == before.graph
    with components.ledger_pool.reading() as ledger:
        asked = next(ledger.actions(Where(action="operating_point_asked"))).record
        done = next(ledger.actions(Where(action="operating_point"))).record
    assert asked.who == done.who == "engineer"
    assert (done.details["before"], done.details["after"]) == (before.sha256, after.sha256)
    told = text_of(browser.get("/understand"))
    assert "At most 15 % of bad parts pass" in told
    assert "engineer set the limits of tiny.inspector" in told


@pytest.mark.slow
def test_the_heat_of_older_parts_is_still_drawn_after_new_limits(app: FastAPI) -> None:
    components = app.state.components
    space = components.workspace
    recertify(
        Inspector.load(space.bundles / "tiny.inspector"), Dataset.read(space.datasets / "tiny"), Promise(max_escape=0.3)
    )
    seq = judged(app, State.REVIEW)[0]
    browser = browse(app)
    plain, heated = (browser.get(f"/parts/{seq}/picture.jpg?heat={heat}").content for heat in ("false", "true"))
    assert plain != heated


@pytest.mark.slow
@pytest.mark.parametrize("body", [{"max_escape": 0, "max_overkill": 0.1, "bad_share": 0.1}, {"max_escape": 0.1}, {}])
def test_malformed_limits_are_refused(app: FastAPI, body: object) -> None:
    work_done(app)
    assert browse(app).call("/understand/apply", body).status_code == 422


@pytest.mark.slow
def test_an_auditor_reads_everything_and_changes_nothing(app: FastAPI) -> None:
    work_done(app)
    browser = browse(app, "auditor")
    assert "data-apply" not in browser.get("/understand").text
    body = {"max_escape": 0.15, "max_overkill": 0.15, "bad_share": 0.05}
    assert browser.call("/understand/apply", body).status_code == 403


def test_parts_on_which_a_person_and_the_verdict_disagree_are_shown(app: FastAPI) -> None:
    passed, rejected = judged(app, State.GO), judged(app, State.NO_GO)
    review(app, passed[0], Label.BAD, "crack")
    review(app, passed[1], Label.GOOD)
    review(app, rejected[0], Label.GOOD)
    told = text_of(browse(app).get("/understand")).replace("\N{NO-BREAK SPACE}", " ")
    assert "Passed, but a person says bad 50.0 % 1 of 2; 1.3 % to 98.7 %" in told
    assert "Rejected, but a person says good 100.0 % 1 of 1" in told
    assert f'data-seq="{passed[0]}"' in browse(app).get("/understand").text


def test_a_decision_that_was_taken_back_is_no_mistake(app: FastAPI) -> None:
    seq = judged(app, State.GO)[0]
    review(app, seq, Label.BAD)
    app.state.components.ledger_pool.act(REVIEW, "anna", about=seq)
    assert "Passed, but a person says bad" not in text_of(browse(app).get("/understand"))


def test_kinds_are_counted_the_most_frequent_first(app: FastAPI) -> None:
    seqs = judged(app, State.GO, State.REVIEW)
    for seq, kind in zip(seqs, ["crack", "hole", "crack", None, "crack"], strict=False):
        review(app, seq, Label.BAD, kind)
    kinds = pareto(list(app.state.components.review.decisions.standing().values()))
    assert [(kind.name, kind.rate.count, kind.rate.of) for kind in kinds] == [
        ("crack", 3, 5),
        ("hole", 1, 5),
        (None, 1, 5),
    ]
    assert kinds[-1].running == 1.0
    assert [each.seq for each in kinds[0].examples] == [seqs[4], seqs[2], seqs[0]]


@pytest.mark.slow
def test_drift_is_looked_for_part_after_part_and_goes_on_at_the_next_visit(app: FastAPI) -> None:
    work_done(app)
    drift, space = app.state.components.understanding.drift, app.state.components.workspace
    gauge = app.state.components.inspectors.in_use()
    first = drift.of(gauge)
    assert first.test.parts == 40
    assert not first.test.alarm
    judge, rng = Inspector.load(gauge.path), np.random.default_rng(1)
    with Ledger.open(space.ledger) as ledger:
        for number in range(60):
            record(ledger, 500 + number, BAD_RED + 60, rng=rng, judge=judge)
    work_done(app)
    second = drift.of(gauge)
    assert second.test.parts == 100
    assert second.test.alarm
    told = text_of(browse(app, accept_language="de").get("/understand"))
    assert "Die Linie hat sich verändert." in told
    assert "Werte höher als bei der Kalibrierung" in told


def test_the_stations_own_alarms_are_shown(app: FastAPI) -> None:
    beat(app.state.components.workspace, alarms=("the lamp is dark",))
    assert "the lamp is dark" in text_of(browse(app).get("/understand"))


def test_the_history_names_every_limit_and_when_it_was_in_force(app: FastAPI) -> None:
    found = limits_periods(app.state.components.inspectors.in_use(), [])
    assert [period.point.escape.max_rate for period in found] == [0.1, 0.2]
    assert found[0].ended is None
    assert found[0].begun == found[1].ended


def test_agreement_in_blind_checks_is_shown_for_each_person(app: FastAPI) -> None:
    act = app.state.components.ledger_pool.act
    for number in range(4):
        label = Label.BAD if number else Label.GOOD
        act(BLIND_CHECK, "berta", about=3 + number, label=label, ticket=f"t{number}", expected="bad")
    told = text_of(browse(app).get("/understand")).replace("\N{NO-BREAK SPACE}", " ")
    assert "berta 75.0 % 3 of 4; 19.4 % to 99.4 %" in told


def test_a_workspace_without_a_bundle_has_a_page_that_says_so(tmp_path: Path) -> None:
    app = make_app(tmp_path / "empty")
    assert "No inspector is in use" in text_of(browse(app).get("/understand"))
    assert browse(app).get("/understand/setting").json() == {"html": ""}
    assert (
        browse(app).call("/understand/apply", {"max_escape": 0.1, "max_overkill": 0.1, "bad_share": 0.1}).status_code
        == 422
    )
    assert browse(app, "reviewer").get("/review").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in XSS if name.isprintable()])
def test_nothing_that_people_typed_comes_out_as_markup(app: FastAPI, name: str) -> None:
    components = app.state.components
    rng, judge = np.random.default_rng(2), Inspector.load(components.workspace.bundles / "tiny.inspector", replay=False)
    with Ledger.open(components.workspace.ledger) as ledger:
        record(ledger, 900, GOOD_RED - 30, rng=rng, judge=judge, part=name, lot=name)
        seq = ledger.head().seq
    review(app, seq, Label.BAD, name[:60], who=name)
    components.ledger_pool.act(BLIND_CHECK, name, about=seq, label=Label.BAD, ticket="t", expected="bad")
    components.ledger_pool.act("operating_point", name, bundle=name)
    shown = browse(app).get("/understand").text
    assert "<script>window.pwned" not in shown
    assert "<img src=x" not in shown
    assert "<svg onload" not in shown


def test_work_that_fails_says_so_and_the_next_work_is_done() -> None:
    worker, done = Worker(), threading.Event()

    def fail(task: Task) -> None:
        raise ZeroDivisionError

    def succeed(task: Task) -> None:
        task.step(1, 1)
        done.set()

    failed = worker.submit("a", "failing", fail)
    worker.submit("b", "succeeding", succeed)
    assert done.wait(10)
    assert failed.over
    assert "log" in str(failed.failure)
    worker.close()


def test_the_same_work_is_not_done_twice_at_once_and_ends_when_the_server_does() -> None:
    worker, begun, steps = Worker(), threading.Event(), []

    def work(task: Task) -> None:
        begun.set()
        while True:
            steps.append(1)
            task.step(len(steps), 0)
            threading.Event().wait(0.01)

    first = worker.submit("a", "endless", work)
    assert begun.wait(10)
    assert worker.submit("a", "endless", work) is first
    worker.close()
    assert first.over
