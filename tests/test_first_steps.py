"""The overview as a path: what is done, what is next, one button."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gonogo.certification import recertify
from gonogo.dataset import Dataset
from gonogo.server.access import Role
from gonogo.server.dataset_store import Overview
from gonogo.server.first_steps import Progress, Standing, first_steps
from gonogo.server.workspace import Workspace
from server_kit import Browser, add_person, fill, make_app, text_of

NOTHING = Standing(datasets=(), jobs=(), bundles=0, in_use=False, point=None, judged=False)

LABELLED = Overview(name="a", pictures=99, good=50, bad=40)


def next_step(**changes: object) -> tuple[str, str]:
    from dataclasses import replace

    found = [each for each in first_steps(replace(NOTHING, **changes)) if each.progress is Progress.NEXT]  # type: ignore[arg-type]
    assert len(found) <= 1
    return (found[0].title, found[0].to) if found else ("", "")


@pytest.mark.parametrize(
    ("changes", "title", "to"),
    [
        ({}, "Photographs", "/datasets"),
        ({"datasets": [Overview(name="a")]}, "Photographs", "/datasets/a"),
        ({"datasets": [Overview(name="a", pictures=9)]}, "Labels", "/datasets/a/label"),
        ({"datasets": [Overview(name="a", pictures=99, good=50, bad=40)]}, "Training", "/datasets/a#train-title"),
        (
            {"datasets": [Overview(name="a", pictures=99, good=50, bad=40)], "bundles": 1},
            "Check",
            "/datasets/a#train-title",
        ),
        ({"datasets": [Overview(name="a", pictures=9)], "bundles": 1, "in_use": True}, "Promise", "/datasets/a/plan"),
    ],
)
def test_the_first_step_that_is_not_done_is_next(changes: dict[str, object], title: str, to: str) -> None:
    assert next_step(**changes) == (title, to)


def test_the_data_set_with_the_most_labels_leads() -> None:
    both = [Overview(name="big", pictures=900), Overview(name="labelled", pictures=30, good=10, bad=5)]
    assert next_step(datasets=both) == ("Labels", "/datasets/labelled/label")


def test_an_empty_workspace_shows_one_button_and_an_operator_sees_no_path(tmp_path: Path) -> None:
    app = make_app(tmp_path / "space")
    add_person(app, "eve", Role.ENGINEER)
    add_person(app, "otto", Role.OPERATOR)
    engineer, operator = Browser(app), Browser(app)
    engineer.login("eve")
    operator.login("otto")
    page = engineer.get("/").text
    assert re.findall(r'class="button" href="(/[^"]*)"', page) == ["/datasets"]
    assert page.count('aria-current="step"') == 1
    assert "From photographs to a line" not in text_of(operator.get("/"))


@pytest.mark.slow
def test_a_line_without_a_promise_is_led_to_the_plan_and_one_with_it_to_nothing(tmp_path: Path) -> None:
    space = Workspace.open(tmp_path / "space")
    judge = fill(space)
    app = make_app(space.root)
    add_person(app, "eve", Role.ENGINEER)
    browser = Browser(app)
    browser.login("eve")
    assert 'class="button" href="/datasets/tiny/plan"' in browser.get("/").text
    recertify(judge, Dataset.read(space.datasets / "tiny"))
    assert "From photographs to a line" not in text_of(browser.get("/"))
