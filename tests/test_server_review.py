"""Reviewing in process: who gets which part, decisions that count once, blind checks, the data set that comes of it."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI

from gonogo.dataset import Split
from gonogo.inspector import Inspector
from gonogo.ledger import REVIEW, Ledger, Where
from gonogo.schema import Label, State
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import Role
from gonogo.server.review import BLIND_CHECK, REVIEWED
from gonogo.server.review.queue import CHECK_SHARE, LEASE_S, ReviewQueue
from server_kit import WEAK_HASHER, XSS, Browser, Clock, add_person, fill, make_app, record, text_of
from tiny_bundle import BAD_RED, GOOD_RED

DOUBTFUL_RED = (GOOD_RED + BAD_RED) / 2 + 2


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("review") / "plant"
    fill(Workspace.open(root))
    app = make_app(root)
    work_done(app)  # what is known of the pictures is then in the cache of every copy
    app.state.components.close()
    (root / "server.db").unlink()
    return root


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(template: Path, tmp_path: Path, clock: Clock) -> Iterator[FastAPI]:
    shutil.copytree(template, tmp_path / "plant")
    made = make_app(tmp_path / "plant", clock=clock)
    made.state.components.review.queue.check_share = 0.0
    yield made
    made.state.components.worker.close()


def add_doubtful(app: FastAPI, count: int, **more: Any) -> None:
    rng, space = np.random.default_rng(9), app.state.components.workspace
    judge = Inspector.load(space.bundles / "tiny.inspector", replay=False)
    with Ledger.open(space.ledger) as ledger:
        first = ledger.head().seq
        for number in range(count):
            record(ledger, 1000 + first + number, DOUBTFUL_RED, rng=rng, judge=judge, **more)


def browse(app: FastAPI, name: str = "reviewer") -> Browser:
    browser = Browser(app)
    browser.login(name)
    return browser


def deal(browser: Browser, want: int = 5, holding: tuple[str, ...] = ()) -> list[str]:
    answer = browser.call("/review/deal", {"want": want, "holding": list(holding)})
    assert answer.status_code == 200, answer.text
    return [item["ticket"] for item in answer.json()["items"]]


def decide(browser: Browser, ticket: str, label: str = "bad", defect: str | None = None) -> Any:
    return browser.call("/review/decide", {"ticket": ticket, "label": label, "defect": defect, "ms": 700})


def reviews(app: FastAPI, action: str = REVIEW) -> list[Any]:
    with app.state.components.ledger_pool.reading() as ledger:
        return [row.record for row in ledger.actions(Where(action=action))]


def doubtful(app: FastAPI) -> list[int]:
    with app.state.components.ledger_pool.reading() as ledger:
        return [row.seq for row in ledger.verdicts(Where(states=(State.REVIEW,), undecided=True))]


def seq_of(app: FastAPI, who: str, ticket: str) -> int:
    found: int = app.state.components.review.queue.find(who, ticket).seq
    return found


@pytest.mark.slow
def test_a_decision_is_an_action_with_name_kind_and_duration(app: FastAPI) -> None:
    browser, (oldest, *_) = browse(app), doubtful(app)
    ticket = deal(browser)[0]
    assert decide(browser, ticket, "bad", "scratch").status_code == 200
    (said,) = reviews(app)
    assert (said.who, said.about, said.label, said.defect) == ("reviewer", oldest, Label.BAD, "scratch")
    assert said.details["ms"] == 700
    assert oldest not in doubtful(app)


@pytest.mark.slow
def test_a_decision_sent_twice_counts_once(app: FastAPI) -> None:
    browser = browse(app)
    ticket = deal(browser)[0]
    assert [decide(browser, ticket).status_code for _ in range(3)] == [200, 200, 200]
    assert len(reviews(app)) == 1
    refused = decide(browser, ticket, "good")
    assert refused.status_code == 422
    assert "Undo that first" in refused.json()["message"]


def test_a_decision_sent_by_many_threads_at_once_counts_once(app: FastAPI) -> None:
    desk = app.state.components.review.queue
    ticket = deal(browse(app))[0]
    begin = threading.Barrier(8)

    def send() -> None:
        begin.wait()
        desk.decide("reviewer", ticket, Label.GOOD, None)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reviews(app)) == 1


def test_two_people_get_different_parts(app: FastAPI) -> None:
    add_doubtful(app, 6)
    add_person(app, "Berta", Role.REVIEWER)
    one, two = browse(app), browse(app, "Berta")
    first = {seq_of(app, "reviewer", ticket) for ticket in deal(one, 4)}
    second = {seq_of(app, "Berta", ticket) for ticket in deal(two, 8)}
    assert len(first) == 4
    assert not first & second
    assert first | second == set(doubtful(app))


def test_a_part_goes_to_somebody_else_when_a_person_has_gone_silent(app: FastAPI, clock: Clock) -> None:
    one, two = browse(app), browse(app, "engineer")
    mine = deal(one, 8)
    assert deal(two) == []
    clock.now += LEASE_S - 1
    assert deal(one, 0, tuple(mine)) == []  # renews what it holds
    clock.now += LEASE_S - 1
    assert deal(two) == []
    clock.now += 2
    assert len(deal(two, 8)) == len(mine)
    lost = one.call("/review/deal", {"want": 0, "holding": mine}).json()["lost"]
    assert set(lost) == set(mine)


def test_the_second_of_two_reviewers_is_told_who_decided_and_nothing_is_doubled(app: FastAPI, clock: Clock) -> None:
    one, two = browse(app), browse(app, "engineer")
    late = deal(one, 1)[0]
    clock.now += LEASE_S + 1
    quick = deal(two, 1)[0]
    assert seq_of(app, "reviewer", late) == seq_of(app, "engineer", quick)
    assert decide(two, quick, "bad", "crack").status_code == 200
    answer = decide(one, late, "good")
    assert answer.status_code == 409
    assert "engineer already decided this part: bad, crack" in answer.json()["message"]
    assert [said.who for said in reviews(app)] == ["engineer"]


def test_a_part_decided_in_another_program_is_no_longer_dealt(app: FastAPI) -> None:
    browser, (oldest, *rest) = browse(app), doubtful(app)
    held = deal(browser, 1)
    app.state.components.ledger_pool.act(REVIEW, "gonogo", about=oldest, label=Label.GOOD)
    answer = browser.call("/review/deal", {"want": 1, "holding": held}).json()
    assert answer["lost"] == held
    assert [seq_of(app, "reviewer", item["ticket"]) for item in answer["items"]] == rest[:1]


def test_a_page_opened_anew_gets_the_same_parts(app: FastAPI) -> None:
    browser = browse(app)
    before = deal(browser, 3)
    assert deal(browser, 3) == before


def test_nobody_uses_the_ticket_of_another(app: FastAPI) -> None:
    one, two = browse(app), browse(app, "engineer")
    ticket = deal(one, 1)[0]
    assert decide(two, ticket).status_code == 409
    assert two.get(f"/review/{ticket}/picture.jpg").status_code == 404
    assert two.get(f"/review/{ticket}/nearest").status_code == 404
    assert one.get(f"/review/{ticket}/picture.jpg?heat=true").headers["content-type"] == "image/jpeg"
    assert reviews(app) == []


def test_a_decision_kept_over_a_restart_of_the_server_is_still_taken(app: FastAPI) -> None:
    ticket = deal(browse(app), 1)[0]
    root = app.state.components.workspace.root
    app.state.components.close()
    again = create_app(Workspace.open(root), options=Options(hasher=WEAK_HASHER, names=("testserver",)))
    assert decide(browse(again), ticket, "good").status_code == 200
    assert len(reviews(again)) == 1


def test_taking_back_makes_the_part_doubtful_again_for_the_same_person(app: FastAPI) -> None:
    browser, waiting = browse(app), doubtful(app)
    ticket = deal(browser, 1)[0]
    decide(browser, ticket)
    assert [browser.call("/review/undo", {"ticket": ticket}).status_code for _ in range(2)] == [200, 200]
    assert doubtful(app) == waiting
    assert [said.label for said in reviews(app)] == [Label.BAD, None]
    others = {each.seq for each in app.state.components.review.queue.deal("engineer", want=8)[0]}
    assert others == set(waiting[1:])  # the first is in the hands of who took it back
    assert decide(browser, ticket, "good").status_code == 200
    assert [said.label for said in reviews(app)] == [Label.BAD, None, Label.GOOD]


def test_what_somebody_else_has_changed_since_is_not_taken_back(app: FastAPI) -> None:
    browser = browse(app)
    ticket = deal(browser, 1)[0]
    decide(browser, ticket)
    app.state.components.ledger_pool.act(REVIEW, "anna", about=seq_of(app, "reviewer", ticket), label=Label.GOOD)
    answer = browser.call("/review/undo", {"ticket": ticket})
    assert answer.status_code == 409
    assert "anna" in answer.json()["message"]


def work_done(app: FastAPI) -> None:
    """Wait until the background work is over."""
    components = app.state.components
    components.inspectors.refresh()
    while components.worker.busy():
        threading.Event().wait(0.02)


def test_a_page_that_was_opened_before_the_kinds_were_known_gets_them_later(app: FastAPI) -> None:
    browser, hold, worker = browse(app), threading.Event(), app.state.components.worker
    worker.submit("hold", "something else", lambda task: bool(hold.wait(30)) and None)
    early = browser.get("/review").text
    assert "data-kinds-later" in early
    assert "data-kind=" not in early
    assert browser.get("/review/kinds").json() == {"kinds": [], "later": True}
    hold.set()
    work_done(app)
    assert browser.get("/review/kinds").json() == {"kinds": ["crack", "hole"], "later": False}
    assert "data-kinds-later" not in browser.get("/review").text


def decided_before(app: FastAPI, who: str = "anna", label: Label = Label.BAD) -> list[int]:
    seqs = doubtful(app)[:2]
    for seq in seqs:
        app.state.components.ledger_pool.act(REVIEW, who, about=seq, label=label)
    return seqs


def test_blind_checks_look_like_any_part_and_leave_the_decision_alone(app: FastAPI) -> None:
    add_doubtful(app, 3)
    known = decided_before(app)
    desk = app.state.components.review.queue
    desk.check_share, desk.dice = 1.0, random.Random(1)
    browser = browse(app)
    answer = browser.call("/review/deal", {"want": 4}).json()["items"]
    shown = [seq_of(app, "reviewer", item["ticket"]) for item in answer]
    checks = [item for item, seq in zip(answer, shown, strict=True) if seq in known]
    assert len(checks) == 2
    assert {frozenset(item) for item in answer} == {frozenset({"ticket", "part", "views", "facts"})}
    assert decide(browser, checks[0]["ticket"], "bad").json() == {"done": True}
    assert decide(browser, checks[1]["ticket"], "good").json() == {"done": True}
    assert [said.who for said in reviews(app)] == ["anna", "anna"]
    assert [said.details["expected"] for said in reviews(app, BLIND_CHECK)] == ["bad", "bad"]
    rate = app.state.components.review.decisions.agreement()["reviewer"]
    assert (rate.count, rate.of) == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("together", [1, 5])
def test_blind_checks_come_at_the_promised_rate_however_many_parts_a_page_asks_for(app: FastAPI, together: int) -> None:
    add_doubtful(app, 160)
    desk = app.state.components.review.queue
    desk.check_share, desk.dice = CHECK_SHARE, random.Random(11)
    new, checks = 0, 0
    while new < 150:
        for each in desk.deal("reviewer", want=together)[0]:
            desk.decide("reviewer", each.ticket, Label.GOOD, None)
            new, checks = new + (not each.blind), checks + each.blind
    assert 8 <= checks <= 24
    assert checks == len(reviews(app, BLIND_CHECK))


def test_a_blind_check_that_is_due_outlives_a_restart_and_comes_after_the_last_part(app: FastAPI) -> None:
    decided_before(app)
    desk = app.state.components.review.queue
    desk.check_share = 1.0
    while (found := desk.deal("reviewer", want=1)[0]) and not found[0].blind:
        desk.check_share = 0.0  # due once, after the first part
        desk.decide("reviewer", found[0].ticket, Label.GOOD, None)
        components = app.state.components
        desk = ReviewQueue(
            components.accounts.database,
            components.ledger_pool,
            desk._decisions,
            now=desk._now,
            comparable=desk.comparable,
            check_share=0.0,
        )
    assert found[0].blind
    desk.decide("reviewer", found[0].ticket, Label.GOOD, None)
    assert not any(each.blind for _ in range(20) for each in desk.deal("reviewer", want=1)[0])


def test_a_blind_check_taken_back_is_not_counted(app: FastAPI) -> None:
    decided_before(app)
    desk = app.state.components.review.queue
    desk.check_share = 1.0
    ticket = desk.deal("reviewer", want=2)[0][1].ticket
    browser = browse(app)
    decide(browser, ticket, "good")
    assert browser.call("/review/undo", {"ticket": ticket}).status_code == 200
    assert app.state.components.review.decisions.agreement() == {}
    assert len(reviews(app)) == 2


def test_nobody_is_asked_twice_about_one_part_nor_about_what_they_have_just_decided(app: FastAPI) -> None:
    add_doubtful(app, 4)
    desk = app.state.components.review.queue
    desk.check_share = 1.0
    decided_before(app, "reviewer")
    assert [each.blind for each in desk.deal("reviewer", want=4)[0]] == [False] * 4
    others = [each for each in desk.deal("engineer", want=2)[0] if each.blind]
    for each in others:
        desk.decide("engineer", each.ticket, Label.BAD, None)
    asked = {each.seq for each in others}
    assert not asked & {each.seq for each in desk.deal("engineer", want=8)[0] if each.blind}


def test_decisions_become_a_data_set_that_follows_them(app: FastAPI) -> None:
    components, browser = app.state.components, browse(app)
    first, second = deal(browser, 2)
    decide(browser, first, "bad", "scratch")
    decide(browser, second, "good")
    components.review.collector.run(at_once=True)
    made = components.datasets.read(REVIEWED)
    assert sorted((s.label, s.defect, s.lot, s.split) for s in made.samples.values()) == [
        (Label.BAD, "scratch", "L-7", Split.TRAIN),
        (Label.GOOD, None, "L-7", Split.TRAIN),
    ]
    for sample in made.samples.values():
        assert made.dataset.load(sample).shape == (32, 32, 3)
    components.review.collector.run(at_once=True)
    assert components.datasets.read(REVIEWED).version == made.version  # nothing was written again
    browser.call("/review/undo", {"ticket": first})
    components.review.collector.run(at_once=True)
    assert components.review.collector.count() == 1
    decide(browser, first, "bad", "dent")
    components.review.collector.run(at_once=True)
    assert {s.defect for s in components.datasets.read(REVIEWED).samples.values()} == {"dent", None}


def test_what_an_engineer_adds_to_a_reviewed_picture_stays(app: FastAPI) -> None:
    components, browser = app.state.components, browse(app)
    first, second = deal(browser, 2)
    decide(browser, first, "bad", "scratch")
    with components.datasets.changing(REVIEWED) as draft:
        ((name, sample),) = draft.samples.items()
        draft.put([sample.model_copy(update={"box_xyxy": (1.0, 1.0, 9.0, 9.0), "defect": "fine scratch"})])
    decide(browser, second, "good")
    components.review.collector.run(at_once=True)
    found = components.datasets.read(REVIEWED).find(name)
    assert (found.box_xyxy, found.defect) == ((1.0, 1.0, 9.0, 9.0), "fine scratch")


def test_reviewed_pictures_are_copied_once_and_never_beside_their_own_proof(app: FastAPI) -> None:
    components, browser = app.state.components, browse(app, "engineer")
    proving = next(s for s in components.datasets.read("tiny").samples.values() if s.split is Split.CALIBRATE)
    first, second = deal(browser, 2)
    decide(browser, first, "bad", "scratch")
    decide(browser, second, "good")
    components.review.collector.run(at_once=True)
    with components.datasets.changing(REVIEWED) as draft:
        one = next(iter(draft.samples.values()))
        draft.put([one.model_copy(update={"part": proving.part})])
    for _ in range(2):
        browser.get("/review")
        assert browser.post("/review/copy", dataset="tiny").status_code == 303
    copied = [s for s in components.datasets.read("tiny").samples.values() if s.file_name.startswith("reviewed/")]
    assert len(copied) == 1
    assert copied[0].split is Split.TRAIN
    assert "Already there: 1. Not added, because their parts are in the val, calibrate or test split: 1." in text_of(
        browser.get("/review")
    )
    assert browser.post("/review/copy", dataset="../..").headers["location"] == "/"


def test_the_nearest_taught_examples_are_those_of_the_bundles_own_data_set(app: FastAPI) -> None:
    browser = browse(app)
    ticket = deal(browser, 1)[0]
    work_done(app)
    answer = browser.get(f"/review/{ticket}/nearest").json()
    assert answer["html"].count("<li") == 6
    assert "on which the inspector in use was trained" in answer["html"]
    number = answer["html"].split("/judged/")[1].split("/")[0]
    assert browser.get(f"/judged/{number}/picture.jpg").headers["content-type"] == "image/jpeg"
    assert browser.get("/judged/99999/picture.jpg").status_code == 404


def test_neighbours_leave_out_the_part_itself_and_other_pictures_of_it(app: FastAPI) -> None:
    work_done(app)
    known = app.state.components.inspectors.pictures()
    own = known.pictures[0]
    found = known.nearest(known.directions[0], 3, not_part="nothing")
    assert own.file not in {near.picture.file for near in found}
    assert [near.distance for near in found] == sorted(near.distance for near in found)
    nearest = found[0].picture
    assert nearest.part not in {n.picture.part for n in known.nearest(known.directions[0], 3, not_part=nearest.part)}


@pytest.mark.parametrize("body", [{"ticket": "x"}, {"ticket": "x" * 100, "label": "bad"}, {"label": "bad"}, {}, []])
def test_a_malformed_decision_is_refused(app: FastAPI, body: object) -> None:
    assert browse(app).call("/review/decide", body).status_code == 422
    assert reviews(app) == []


def test_a_good_part_has_no_kind_and_a_kind_is_one_line(app: FastAPI) -> None:
    browser = browse(app)
    ticket = deal(browser, 1)[0]
    assert decide(browser, ticket, "good", "scratch").status_code == 422
    assert decide(browser, ticket, "bad", "two\nlines").status_code == 422
    assert decide(browser, ticket, "bad", "x" * 100).status_code == 422
    assert reviews(app) == []


@pytest.mark.parametrize("name", [name for name in XSS if name.isprintable()])
def test_names_of_parts_and_kinds_come_out_as_text(app: FastAPI, name: str) -> None:
    add_doubtful(app, 1, part=name, lot=name, station=name)
    app.state.components.ledger_pool.act(REVIEW, name, about=doubtful(app)[0], label=Label.BAD, defect=name[:60])
    browser = browse(app)
    items = browser.call("/review/deal", {"want": 8}).json()["items"]
    for html in (items[-1]["facts"], browser.get("/review").text):
        assert "<script>window.pwned" not in html
        assert "<img src=x" not in html
        assert "<svg onload" not in html
