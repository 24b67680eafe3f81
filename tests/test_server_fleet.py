"""The page of all stations: what the command says, in two languages, also where a release cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from gonogo import signing
from gonogo.config import settings
from gonogo.fleet import LedgerFile, ReleaseServer, Shelf, Terms
from gonogo.ledger import Ledger, VerdictRecord
from gonogo.schema import State
from gonogo.server import Workspace
from gonogo.server.access import Role
from gonogo.signing import Use
from gonogo.testing import write_fake_bundle
from server_kit import Browser, make_app
from tests.fleet_kit import NOW


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FastAPI, ReleaseServer]]:
    monkeypatch.setenv("GONOGO_TRUST_STORE", str(tmp_path / "trust.json"))
    settings.cache_clear()
    key, public = signing.make_key_pair(tmp_path / "k", "anna")
    uses = (Use.BUNDLE, Use.RELEASE)
    signing.add_key(tmp_path / "trust.json", signing.read_public_key(public), uses, now=NOW)
    app = make_app(tmp_path / "plant")
    space = Workspace.open(tmp_path / "plant")
    shelf = Shelf(space.root / "releases")
    place = LedgerFile(path=space.ledger)
    server = ReleaseServer(
        shelf=shelf, channel="chip", trust_store=tmp_path / "trust.json", ledger=space.ledger, places=(place,)
    )
    with Ledger.open(space.ledger) as ledger:
        record = VerdictRecord(
            station="line-1",
            trigger_id="t1",
            state=State.FAULT,
            score=None,
            reason="no picture",
            cause="no_frame",
            triggered_at=NOW,
        )
        ledger.append_verdict(record)
    for name in ("one", "two"):
        signing.sign_bundle(write_fake_bundle(tmp_path / name, name=name), key, now=NOW)
    server.put_first(tmp_path / "one", key, who="anna", why="")
    server.start(tmp_path / "two", key, canaries=("a",), terms=Terms(), who="anna", why="")
    yield app, server
    settings.cache_clear()


def shown(app: FastAPI, language: str) -> str:
    browser = Browser(app, accept_language=language)
    browser.login(Role.ENGINEER.value)
    return str(browser.get("/fleet").text)


def test_all_stations_and_roll_outs_are_shown_in_both_languages(plant: tuple[FastAPI, ReleaseServer]) -> None:
    app, server = plant
    page = shown(app, "en")
    candidate = server.judge().release.candidate_sha256
    assert candidate is not None
    for expected in (
        "judges silently",
        "not enough evidence yet",
        candidate[:12],
        "People have decided 0",
        "not declared fit",
    ):
        assert expected in page
    german = shown(app, "de")
    assert "urteilt still mit" in german
    assert "Alle Stationen" in german


def test_a_release_that_cannot_be_verified_is_said(plant: tuple[FastAPI, ReleaseServer]) -> None:
    app, server = plant
    place = server.shelf.root / "chip" / "release.json"
    place.write_text(json.dumps({"statement": "{}", "key_id": "0" * 16, "signature": "0" * 128}))
    assert "does not know" in shown(app, "en")


@pytest.mark.slow
def test_a_roll_out_is_shown_with_its_agreement_and_is_not_moved_from_the_page(
    plant: tuple[FastAPI, ReleaseServer],
) -> None:
    app, server = plant
    assert "/shadow?channel=chip" in shown(app, "en")
    browser = Browser(app)
    browser.login(Role.ENGINEER.value)
    page = str(browser.get("/shadow?channel=chip").text)
    assert f"Channel chip, release {server.judge().release.sequence}" in page
    assert "No part judged by both yet" in page
    assert "/shadow/stop" not in page
