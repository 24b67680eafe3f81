"""Several stations on one screen, and the strip of the last rejects."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI

from gonogo.ledger import Ledger
from gonogo.server.access import Role
from gonogo.server.station.wall import Tile, read_tiles
from gonogo.server.workspace import Workspace
from server_kit import XSS, Browser, add_person, beat, fill, make_app, record, text_of
from tiny_bundle import BAD_RED, GOOD_RED


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    space = Workspace.open(tmp_path / "space")
    fill(space)
    made = make_app(space.root)
    add_person(made, "otto", Role.OPERATOR)
    return made


@pytest.mark.slow
def test_every_station_has_a_tile_with_its_own_last_verdict(app: FastAPI) -> None:
    rng = np.random.default_rng(1)
    parts = app.state.components
    with Ledger.open(parts.workspace.ledger) as ledger:
        record(ledger, 200, GOOD_RED - 20, rng=rng, station="line-2")
        record(ledger, 201, BAD_RED + 20, rng=rng, station="line-1")
        tiles = read_tiles(ledger, parts.feed.read())
    assert [(tile.name, tile.last.record.state, tile.current) for tile in tiles] == [
        ("line-1", "no_go", True),
        ("line-2", "go", True),
    ]


@pytest.mark.slow
def test_an_old_verdict_is_not_shown_as_current_and_a_silent_station_neither(app: FastAPI) -> None:
    parts = app.state.components
    now = parts.feed.now()
    parts.feed.now = lambda: now + timedelta(minutes=5)
    browser = Browser(app)
    browser.login("otto")
    shown = browser.get("/wall").text
    assert "Waiting" in shown
    assert 'class="panel tile none"' in shown
    parts.feed.now = lambda: now
    beat(parts.workspace, ago_s=60.0, station="line-1")
    assert [tile.current for tile in _tiles(app)] == [False]


@pytest.mark.slow
def test_the_tiles_are_escaped_and_name_the_newest_row(app: FastAPI) -> None:
    with Ledger.open(app.state.components.workspace.ledger) as ledger:
        record(ledger, 300, BAD_RED + 20, rng=np.random.default_rng(2), part=XSS[0])
        seq = ledger.head().seq
    browser = Browser(app)
    browser.login("otto")
    said = browser.get("/wall/tiles").json()
    assert XSS[0] not in said["tiles"]
    assert said["states"]["line-1"] == [seq, "no_go"]


@pytest.mark.slow
def test_the_station_page_shows_the_last_rejects_newest_first(app: FastAPI) -> None:
    snapshot = app.state.components.feed.read()
    seqs = [row.seq for row in snapshot.rejects]
    assert seqs == sorted(seqs, reverse=True)
    assert seqs
    assert all(row.record.state == "no_go" for row in snapshot.rejects)
    browser = Browser(app)
    browser.login("otto")
    page = browser.get("/station")
    assert "Last rejects" in text_of(page)
    assert f"/parts/{seqs[0]}/picture.jpg" in page.text


def _tiles(app: FastAPI) -> tuple[Tile, ...]:
    parts = app.state.components
    with Ledger.open(parts.workspace.ledger) as ledger:
        return read_tiles(ledger, parts.feed.read())
