"""Shadow mode on the pages: start, evidence, the slider, the switch and who may do what, two people at once."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI

from gonogo.fleet import Evidence, Stage, Terms, decide, parts_needed_in_all, remaining
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger, Where
from gonogo.schema import Label, OperatingPoint, State
from gonogo.server import Options, Workspace, create_app
from gonogo.server.positions import JudgedScore, positions
from gonogo.server.shadow import trials
from gonogo.server.shadow.figures import ComparedPart, setting_of, slider
from gonogo.testing.station import patiently
from server_kit import WEAK_HASHER, XSS, Browser, record, text_of
from shadow_kit import NEW, OLD, TERMS, SilentLine, open_app, set_point, two_inspectors
from tiny_bundle import BAD_RED, GOOD_RED

BETWEEN = 87.0
"""Red that `OLD` sends to a person and `NEW` passes."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shadow") / "plant"
    shutil.rmtree(two_inspectors(root).datasets / "tiny")  # nobody looks at it here, and every test has a copy
    return root


@pytest.fixture
def app(template: Path, tmp_path: Path) -> Iterator[FastAPI]:
    shutil.copytree(template, tmp_path / "plant")
    made = open_app(tmp_path / "plant")
    yield made
    made.state.components.shadows.close()
    made.state.components.worker.close()


def browse(app: FastAPI, name: str = "engineer", **more: Any) -> Browser:
    browser = Browser(app, **more)
    browser.login(name)
    return browser


def start(browser: Browser, **more: str) -> Any:
    fields = {"candidate": NEW, "max_bad_flips": "0.2", "max_flips": "90", "min_settled": "2", **more}
    return browser.post("/shadow/start", **fields)


def page(browser: Browser) -> str:
    return text_of(browser.get("/shadow")).replace("\N{NO-BREAK SPACE}", " ")


def moves(app: FastAPI) -> list[dict[str, Any]]:
    with app.state.components.ledger_pool.reading() as ledger:
        return [dict(row.record.details) for row in ledger.actions(Where(action="fleet"))]


@pytest.mark.slow
def test_a_trial_starts_shows_its_evidence_and_ends_with_the_switch(app: FastAPI) -> None:
    anna, line = browse(app), SilentLine(app=app)
    assert "Let an inspector judge silently" in page(anna)
    assert start(anna).status_code == 303
    assert "judges silently" in page(anna)
    assert "No part judged by both yet" in page(anna)
    go, flip, stop = line.run(GOOD_RED, BETWEEN, BAD_RED)
    shown = page(anna)
    assert "parts judged by both 3" in shown
    assert "1 part would newly pass" in shown
    assert "66.7 % 2 of 3; 9.4 % to 99.2 % of the parts are judged alike" in shown
    assert "people: good none yet" in shown
    assert "1 newly passed part that a person has to decide" in shown
    assert f"/compare/picture.jpg?seq={flip}&amp;by={NEW}" in anna.get("/shadow").text
    sha = app.state.components.shadows.running().release.candidate_sha256
    refused = anna.post("/shadow/switch", candidate_sha256=sha)
    assert refused.status_code == 303
    assert "The evidence does not allow it" in page(anna)
    assert anna.call("/shadow/settle", {"seq": flip, "label": "good"}).json() == {"done": True}
    line.settle(go, Label.GOOD)
    line.settle(stop, Label.BAD)
    more = remaining(Stage.SHADOW, Evidence(parts=3, settled=3), TERMS).parts
    assert f"{more} more parts without" in page(anna)
    line.run(*[GOOD_RED] * more)
    assert "Deploy finer.inspector" in page(anna)
    assert anna.post("/shadow/switch", candidate_sha256=sha).status_code == 303
    space = app.state.components.workspace
    assert space.active_bundle() == space.bundles / NEW
    first, last = moves(app)
    assert (first["event"], last["event"], last["to"]) == ("start", "promote", "done")
    assert last["evidence"]["parts"] == 3 + more
    with app.state.components.ledger_pool.reading() as ledger:
        deployed = next(ledger.actions(Where(action="deploy"), newest_first=True))
    assert (deployed.record.who, deployed.record.details["rollout"]) == ("engineer", first["rollout"])
    assert "in use" in page(anna), "what was found is still shown"


@pytest.mark.slow
def test_the_words_are_german_too_and_what_is_missing_is_said_in_parts(app: FastAPI) -> None:
    anna = browse(app, accept_language="de")
    assert "Einen Prüfer still mitlaufen lassen" in page(anna)
    start(anna)
    SilentLine(app=app).run(GOOD_RED, GOOD_RED)
    assert "Teile ohne ein schlechtes, das neu durchginge" in page(anna)
    assert "Noch 2 von Menschen entschiedene Teile" in page(anna)


@pytest.mark.slow
def test_the_slider_says_which_parts_would_flip_and_where_it_proves_nothing(app: FastAPI) -> None:
    anna = browse(app)
    start(anna)
    SilentLine(app=app).run(GOOD_RED, BETWEEN, BAD_RED)
    strict = anna.get("/shadow/setting?position=0").json()["html"]
    assert "1 part would newly be stopped" in strict
    assert "own threshold" in strict
    lenient = anna.get("/shadow/setting?position=999").json()["html"]
    assert "2 parts would newly pass" in lenient
    own = anna.get("/shadow/setting").json()["html"]
    assert "own threshold" not in own
    assert "1 part would newly pass" in own


@pytest.mark.slow
def test_a_bad_part_that_newly_passes_keeps_the_candidate_from_the_line(app: FastAPI) -> None:
    anna, line = browse(app), SilentLine(app=app)
    start(anna, max_bad_flips="0.01")
    flips = line.run(*[BETWEEN] * 6)
    for seq in flips:
        line.settle(seq, Label.BAD)
    assert "It must be stopped." in page(anna)
    assert "Deploy finer" not in page(anna)
    assert anna.post("/shadow/stop", why="lets cracks pass").status_code == 303
    assert moves(app)[-1]["why"] == "lets cracks pass"
    assert "lets cracks pass" in page(anna)
    assert start(anna).status_code == 303
    assert "parts judged by both 0" in page(anna), "a new trial begins with the next part"


@pytest.mark.slow
def test_beside_people_every_part_is_theirs_and_flips_are_not_limited(app: FastAPI) -> None:
    space = app.state.components.workspace
    set_point(space.bundles / OLD, go_below=-math.inf, no_go_above=105.0)
    anna, line = browse(app), SilentLine(app=app)
    assert "sends every part to a person" in page(anna)
    start(anna)
    trial = app.state.components.shadows.running()
    assert (trial.people, trial.release.terms.max_flips) == (True, trials.ANY_FLIPS)
    for seq in line.run(*[GOOD_RED] * 5):
        line.settle(seq, Label.GOOD)
    assert "people: good 100.0 % 5 of 5" in page(anna)


@pytest.mark.slow
def test_two_people_at_once_start_one_trial_and_end_it_once(app: FastAPI) -> None:
    people = [browse(app), browse(app, "admin")]
    gate = threading.Barrier(2)

    def at_once(browser: Browser) -> None:
        gate.wait()
        start(browser)

    threads = [threading.Thread(target=at_once, args=(each,)) for each in people]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [move["event"] for move in moves(app)] == ["start"]
    said = [page(each) for each in people]
    assert sum("already judges silently" in each for each in said) == 1
    for each in people:
        each.post("/shadow/stop")
    assert [move["event"] for move in moves(app)] == ["start", "stop"]
    assert "Somebody may have stopped it" in page(people[1])


@pytest.mark.slow
def test_a_start_that_makes_no_sense_is_refused_with_the_reason(app: FastAPI) -> None:
    components, anna = app.state.components, browse(app)
    for candidate, why in (
        (OLD, "is in use. Choose another one."),
        ("../x", "There is no inspector ../x."),
        ("none.inspector", "There is no inspector"),
    ):
        start(anna, candidate=candidate)
        assert why in page(anna)
    shutil.copytree(components.workspace.bundles / OLD, components.workspace.bundles / "copy.inspector")
    start(anna, candidate="copy.inspector")
    assert "is a copy of the inspector in use" in page(anna)
    components.catalogue.archive(NEW, "anna")
    start(anna)
    assert "is archived" in page(anna)
    assert start(anna, max_bad_flips="2").status_code == 303
    assert moves(app) == []
    (components.workspace.root / "active").unlink()
    assert "No inspector is in use" in page(anna)
    components.catalogue.restore(NEW, "anna")
    start(anna)
    assert "there is nothing to judge beside" in page(anna)


@pytest.mark.slow
def test_an_auditor_reads_and_changes_nothing_and_operators_see_nothing(app: FastAPI) -> None:
    start(browse(app))
    auditor = browse(app, "auditor")
    assert "judges silently" in page(auditor)
    assert "/shadow/stop" not in auditor.get("/shadow").text
    assert auditor.post("/shadow/stop").status_code == 403
    assert browse(app, "operator").get("/shadow").status_code == 403
    assert auditor.get("/shadow?channel=none").status_code == 404


@pytest.mark.slow
def test_another_inspector_or_other_limits_end_the_comparison_and_the_switch(app: FastAPI) -> None:
    space, anna, line = app.state.components.workspace, browse(app), SilentLine(app=app)
    start(anna)
    line.run(*[GOOD_RED] * 60)
    line.decided()
    assert "Deploy finer.inspector" in page(anna)
    sha = app.state.components.shadows.running().release.candidate_sha256
    set_point(space.bundles / NEW, go_below=90.0, no_go_above=105.0)
    assert "The candidate has changed since the start" in page(anna)
    assert "Deploy finer.inspector" not in page(anna)
    anna.post("/shadow/switch", candidate_sha256=sha)
    assert space.active_bundle() == space.bundles / OLD
    set_point(space.bundles / OLD, go_below=81.0, no_go_above=105.0)
    assert "The inspector in use has changed since the start" in page(anna)
    anna.post("/shadow/switch", candidate_sha256="0" * 64)
    assert "Another candidate judges silently now" in page(anna)


@pytest.mark.slow
def test_a_restart_goes_on_with_the_trial(app: FastAPI) -> None:
    root = app.state.components.workspace.root
    start(browse(app))
    line = SilentLine(app=app)
    line.run(GOOD_RED, BETWEEN)
    app.state.components.shadows.close()
    again = open_app_again(root)
    again.state.components.shadows.resume()
    assert again.state.components.shadows._companion is not None
    SilentLine(app=again, count=2000).run(BAD_RED)
    assert "parts judged by both 3" in page(browse(again))
    again.state.components.shadows.stop("anna")
    assert again.state.components.shadows._companion is None
    again.state.components.worker.close()


def open_app_again(root: Path) -> FastAPI:
    made = create_app(Workspace.open(root), options=Options(hasher=WEAK_HASHER, names=("testserver",)))
    made.state.components.shadows.command = lambda _: ["cat"]
    return made


@pytest.mark.slow
def test_a_silent_judge_that_keeps_ending_is_counted_and_given_up(app: FastAPI) -> None:
    shadows, anna = app.state.components.shadows, browse(app)
    start(anna)
    release = shadows.running().release
    for _ in range(release.terms.max_crashes):
        shadows._ended(release, 1)
    assert shadows._companion is not None
    shadows._ended(release, 1)
    assert shadows._companion is None
    assert "ended 3 times by itself" in page(anna)
    assert "It must be stopped." in page(anna)


@pytest.mark.slow
def test_names_of_parts_come_out_as_text(app: FastAPI) -> None:
    browser, line = browse(app), SilentLine(app=app)
    start(browser)
    names = [name for name in XSS if name.isprintable()]
    line.run(*[BETWEEN] * len(names), parts=names)
    browser.post("/shadow/stop", why="".join(names)[:2000])
    shown = browser.get("/shadow").text
    assert shown.count("pwned") >= len(names)
    assert not any(each in shown for each in ("<script>window.pwned", "<img src=x", "<svg onload", "<iframe"))


def test_what_remains_is_what_the_decision_asks_for() -> None:
    for bad in (0, 1, 4):
        needed = parts_needed_in_all(TERMS, bad)
        for parts, ready in ((needed, True), (needed - 1, False)):
            evidence = Evidence(parts=parts, bad_flips=bad, flips=bad, settled=50)
            assert (decide(Stage.SHADOW, evidence, TERMS, promised=True).bad_flips[1] <= TERMS.max_bad_flips) is ready
    assert parts_needed_in_all(Terms()) == 6376
    missing = remaining(Stage.CANARY, Evidence(parts=10, settled=1, live=3), TERMS)
    assert (missing.settled, missing.live, missing.done) == (1, 197, False)


def test_positions_lie_between_the_scores_and_hold_the_threshold_in_force() -> None:
    found = positions([3.0, 1.0, 2.0, 2.0], 1.7)
    assert found.thresholds[found.now] == 1.7
    assert found.at(None) == 1.7
    assert sum(found.thresholds[0] > score for score in (1.0, 2.0, 3.0)) == 0
    assert all(found.at(10**6) > score for score in (1.0, 2.0, 3.0))
    assert positions([], -math.inf).thresholds == (-math.inf,)
    assert len(positions(range(10_000), 12.5).thresholds) <= 101
    assert positions([5.0], 5.0).at(0) < 5.0


def part(answered: State, silent: State, score: float | None, label: Label | None = None) -> ComparedPart:
    return ComparedPart(name="p", seq=1, answered=answered, silent=silent, score=score, label=label)


def test_a_part_that_was_held_by_more_than_its_score_never_passes(template: Path) -> None:
    point = Inspector.load(template / "bundles" / NEW, replay=False).bundle.manifest.operating_point
    assert isinstance(point, OperatingPoint)
    below = point.go_below - 1.0
    held = part(State.REVIEW, State.REVIEW, below)  # out of distribution, say
    assert not held.passes(point, math.inf)
    assert part(State.REVIEW, State.GO, below).passes(point, math.inf)
    assert not part(State.GO, State.FAULT, None).passes(point, math.inf)
    assert JudgedScore(state=State.NO_GO, score=below).at(point, -math.inf, math.inf) is State.REVIEW
    parts = (part(State.GO, State.GO, below), held, part(State.NO_GO, State.GO, below, Label.BAD))
    found = setting_of(parts, point, slider(parts, point).at(None))
    assert (found.cells.agreement.count, found.cells.newly_go.count, found.people[Label.BAD].count) == (2, 1, 1)
    assert [each.label for each in found.newly_go] == [Label.BAD]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_silent_judge_is_a_process_of_its_own_that_ends_with_the_server(app: FastAPI, tmp_path: Path) -> None:
    components = app.state.components
    components.shadows.command = trials.beside_command
    components.shadows.start(NEW, TERMS, "anna")
    companion = components.shadows._companion
    assert companion is not None
    judge, number = Inspector.load(components.workspace.bundles / OLD, replay=False), 1000
    rng = np.random.default_rng(1)

    def judged() -> bool:
        nonlocal number
        number += 1
        with Ledger.open(components.workspace.ledger) as ledger:
            record(ledger, number, BETWEEN, rng=rng, judge=judge)
            return any(ledger.actions(Where(action="shadow")))

    patiently(judged, "nothing was judged silently")
    components.shadows.stop("anna")
    patiently(lambda: companion.process is None or companion.process.poll() is not None, "it still runs")
    changed = json.loads((components.workspace.root / "cache/shadow/job.json").read_text())
    changed["place"] = str(components.workspace.bundles / OLD)
    (tmp_path / "job.json").write_text(json.dumps(changed))
    command = [sys.executable, "-m", "gonogo.fleet", "beside", str(tmp_path / "job.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as other:
        assert other.wait(120) == 1, "the bundle is not the one of the release"
        assert other.stderr is not None
        assert "it was changed" in other.stderr.read()
