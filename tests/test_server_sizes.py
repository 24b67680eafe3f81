"""The page Sizes of a data set: scale, limits, two people at once, what is measured, and copies of inspectors."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI

from gonogo import bundle
from gonogo.cli.checks_file import read_checks
from gonogo.config import Checks, Scale
from gonogo.images import encode_png
from gonogo.ledger import Action
from gonogo.server import Workspace
from measured_plates import SIZE_WH, make_measured
from server_kit import Browser, make_app, text_of

PAGE = "/datasets/plates/sizes"
SCALE = {"mm_per_px": 0.1, "relative_error": 0.01, "size_wh": list(SIZE_WH), "homography": None, "target": "ruler"}


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    found = Workspace.open(tmp_path / "plant")
    make_measured(found.datasets, found.bundles)
    found.activate("plate.inspector")
    return found


@pytest.fixture
def app(space: Workspace) -> FastAPI:
    return make_app(space.root)


@pytest.fixture
def engineer(app: FastAPI) -> Browser:
    browser = Browser(app)
    browser.login("engineer")
    return browser


def limit(value: float | None = 5.0, **more: object) -> dict[str, object]:
    return {"name": "long scratch", "size": "longer_than_mm", "limit": value, "then": "review", **more}


def save(browser: Browser, *rules: dict[str, object], digest: str = "", scale: object = SCALE) -> Any:
    return browser.call(PAGE, {"digest": digest, "scale": scale, "rules": rules})


def trial(browser: Browser, *rules: dict[str, object], **more: object) -> Any:
    body = {"scale": SCALE, "rules": rules, "inspector": "plate.inspector", **more}
    while (found := browser.call(f"{PAGE}/try", body)).json().get("busy"):
        time.sleep(0.02)
    return found


def test_sizes_are_saved_as_the_file_that_the_command_line_reads(
    app: FastAPI, engineer: Browser, space: Workspace
) -> None:
    assert engineer.get(PAGE).status_code == 200
    path = space.datasets / "plates" / "checks.toml"
    path.write_text("# by hand\n[health]\ndarkest = 20.0\n")
    digest = engineer.get(PAGE).text.split('data-digest="')[1].split('"')[0]
    answer = save(engineer, limit(), limit(2, name="wide", size="wider_than_mm", then="no_go"), digest=digest)
    assert answer.status_code == 200, answer.text
    found = read_checks(path)
    assert found.scale == Scale.model_validate(SCALE)
    assert [(rule.name, rule.then) for rule in found.rules] == [("long scratch", "review"), ("wide", "no_go")]
    assert found.health is not None
    assert found.health.darkest == 20.0
    assert (path.parent / "checks.before.toml").read_text().startswith("# by hand")
    with app.state.components.ledger_pool.reading() as ledger:
        last = list(ledger.actions())[-1].record
    assert isinstance(last, Action)
    assert (last.action, last.who, last.details["dataset"]) == ("sizes", "engineer", "plates")
    assert last.details["rules"] == ["long scratch (review)", "wide (no_go)"]


def test_the_second_of_two_people_is_told_what_to_do_and_overwrites_nothing(
    engineer: Browser, space: Workspace
) -> None:
    first = save(engineer, limit())
    second = save(engineer, limit(9, name="other"))
    assert second.status_code == 409
    assert "open the saved sizes in another tab" in second.json()["message"]
    assert [rule.name for rule in read_checks(space.datasets / "plates/checks.toml").rules] == ["long scratch"]
    assert save(engineer, limit(), digest=first.json()["digest"]).json()["digest"] == first.json()["digest"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "first"}, "name"),
        ({"limit": None}, "limit"),
        ({"limit": -1}, "limit"),
        ({"kind": "scratch", "then": "no_go"}, "kind"),
    ],
)
def test_a_wrong_value_is_shown_at_its_limit(
    engineer: Browser, space: Workspace, wrong: dict[str, object], field: str
) -> None:
    answer = save(engineer, limit(name="first"), {**limit(), **wrong})
    assert answer.status_code == 422
    assert [(each["row"], each["field"]) for each in answer.json()["problems"]] == [(1, field)]
    assert not (space.datasets / "plates/checks.toml").exists()


@pytest.mark.slow
def test_other_requests_are_refused(app: FastAPI, engineer: Browser, space: Workspace) -> None:
    assert "need a scale" in save(engineer, limit(), scale=None).json()["message"]
    assert "needs a scale" in trial(engineer, scale=None).json()["message"]
    assert save(engineer, scale={**SCALE, "mm_per_px": 0}).status_code == 422
    assert "no inspector other" in trial(engineer, inspector="other").json()["message"]
    assert "not for training" in trial(engineer, file="images/7.png").json()["message"]
    assert "name of a zone" in trial(engineer, limit(zone="nowhere")).json()["message"]
    short = {"file": "images/0.png", "ends_xy": [10, 10, 20, 10], "mm": 1}
    assert "at least 50 pixels" in engineer.call(f"{PAGE}/edge", short).json()["message"]
    for role in ("operator", "reviewer", "auditor"):
        browser = Browser(app)
        browser.login(role)
        assert save(browser, limit()).status_code == 403
    (space.datasets / "plates/checks.toml").write_text("[scale\n")
    assert "expected TOML" in text_of(engineer.get(PAGE))
    assert save(engineer, limit()).status_code == 422
    assert (space.datasets / "plates/checks.toml").read_text() == "[scale\n"


@pytest.mark.slow
def test_the_scale_comes_from_a_known_length_or_a_checkerboard(engineer: Browser) -> None:
    body = {"file": "images/0.png", "ends_xy": [14, 64, 114, 64], "mm": 10}
    found = engineer.call(f"{PAGE}/edge", body).json()["scale"]
    assert (found["mm_per_px"], found["size_wh"]) == (pytest.approx(0.1), list(SIZE_WH))
    squares = np.kron(np.indices((7, 10)).sum(axis=0) % 2, np.ones((40, 40), np.int64))
    board = np.pad(255 * (1 - squares), 40, constant_values=255).astype(np.uint8)
    fields = {"across": "9", "down": "6", "square_mm": "5"}
    sent = {"photo": ("board.png", encode_png(np.repeat(board[..., None], 3, axis=2)), "image/png")}
    headers = {"origin": "http://testserver", "x-csrf-token": engineer.csrf}
    answer = engineer.client.post(f"{PAGE}/board", data=fields, files=sent, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["scale"]["mm_per_px"] == pytest.approx(5 / 40, rel=1e-3)
    assert answer.json()["scale"]["size_wh"] == list(board.shape[::-1])
    sent = {"photo": ("board.png", b"nothing", "image/png")}
    assert engineer.client.post(f"{PAGE}/board", data=fields, files=sent, headers=headers).status_code == 422


@pytest.mark.slow
def test_only_pictures_for_training_and_validation_are_measured(engineer: Browser) -> None:
    one = trial(engineer, limit(), file="images/4.png").json()
    assert one["measured"]
    assert one["sizes"][0]["longer_than_mm"][0] == pytest.approx(8.0, abs=0.3)
    assert (one["before"], one["after"]) == ("go", "review")
    found = trial(engineer, limit()).json()
    assert [(each["file"], each["bad"], each["stopped"]) for each in found["rows"] if each["longer_than_mm"]] == [
        ("images/2.png", False, False),
        ("images/4.png", True, True),
        ("images/5.png", True, True),
    ]
    assert len(found["rows"]) == 6
    assert "2 pictures for other use are left out" in " ".join(found["piece"].split())


@pytest.mark.slow
def test_an_inspector_is_copied_and_stays_as_it_is(app: FastAPI, engineer: Browser, space: Workspace) -> None:
    before = bundle.read_bundle(space.bundles / "plate.inspector")
    digest = save(engineer, limit()).json()["digest"]
    assert "Its certified limits hold" in text_of(engineer.get(PAGE))
    body = {"inspector": "plate.inspector", "copy_name": "sized", "digest": digest}
    assert "changed in the meantime" in engineer.call(f"{PAGE}/copy", {**body, "digest": ""}).json()["message"]
    assert engineer.call(f"{PAGE}/copy", body).status_code == 200
    assert "already exists" in engineer.call(f"{PAGE}/copy", body).json()["message"]
    assert engineer.call(f"{PAGE}/copy", {**body, "copy_name": "../x"}).status_code == 422
    made = bundle.read_bundle(space.bundles / "sized.inspector")
    assert Checks.of(made.manifest.recipe).rules[0].name == "long scratch"
    assert made.manifest.operating_point == before.manifest.operating_point is not None
    assert bundle.read_bundle(before.root).sha256 == before.sha256
    active = space.active_bundle()
    assert active == before.root
    rejecting = save(engineer, limit(then="no_go"), digest=digest).json()
    assert "until it is certified again" in rejecting["piece"]
    engineer.call(f"{PAGE}/copy", {**body, "copy_name": "strict", "digest": rejecting["digest"]})
    assert bundle.read_bundle(space.bundles / "strict.inspector").manifest.operating_point is None
    with app.state.components.ledger_pool.reading() as ledger:
        last = list(ledger.actions())[-1].record
    assert isinstance(last, Action)
    assert (last.action, last.details["bundle"], last.details["certified"]) == ("checks", "strict.inspector", False)
    assert last.details["before_sha256"] == before.sha256
