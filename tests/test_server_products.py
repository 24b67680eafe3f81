"""The page Products: the list, its changes in station.toml, two people at once, a running station, changeover."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from gonogo.ledger import Action, Where
from gonogo.server import Workspace
from gonogo.server.products.station_file import with_products
from gonogo.station.settings import read_settings
from gonogo.testing import write_fake_bundle
from server_kit import Browser, beat, make_app, text_of

TOML = """\
# the line in hall 3
station = "s1"
bundle = "active"   # follows the pages
ledger = "ledger/line.ledger"
state_dir = "state"

# the only camera
[[cameras]]
name = "top"
camera = { kind = "folder", folder = "incoming" }

[trigger]
kind = "folder"
folder = "incoming"

[answer]
kind = "stdout"
"""


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    root = tmp_path / "plant"
    root.mkdir()
    (root / "station.toml").write_text(TOML)
    found = Workspace.open(root)
    for name in ("chip", "pill"):
        write_fake_bundle(found.bundles / f"{name}.inspector")
    found.activate("chip.inspector")
    return found


@pytest.fixture
def app(space: Workspace) -> FastAPI:
    return make_app(space.root)


def login(app: FastAPI, role: str = "engineer") -> Browser:
    browser = Browser(app)
    browser.login(role)
    return browser


def change(browser: Browser, action: str, *, digest: str | None = None, **fields: str) -> str:
    """Send a form of the page; return what the page says afterwards."""
    page = browser.get("/products").text
    shown = page.split('name="digest" value="')[1].split('"')[0] if digest is None else digest
    browser.client.headers["referer"] = "http://testserver/products"
    answer = browser.post("/products", station="", digest=shown, action=action, **fields)
    assert answer.status_code == 303, answer.text
    return text_of(browser.get("/products"))


def products(space: Workspace) -> dict[str, Any]:
    settings = read_settings(space.root / "station.toml")
    return {str(name): Path(str(path)).relative_to(space.root).as_posix() for name, path in settings.products.items()}


@pytest.mark.slow
def test_products_are_added_edited_moved_and_deleted_in_the_file_that_the_station_reads(
    app: FastAPI, space: Workspace
) -> None:
    engineer = login(app)
    assert "chip.inspector in use" in text_of(engineer.get("/products"))
    change(engineer, "name", name="chip")
    assert products(space) == {"chip": "active"}
    change(engineer, "add", name="pill", bundle="pill.inspector")
    change(engineer, "set", product="chip", name="soic chip", bundle="chip.inspector")
    change(engineer, "up", product="pill")
    assert list(products(space).items()) == [
        ("pill", "bundles/pill.inspector"),
        ("soic chip", "bundles/chip.inspector"),
    ]
    page = text_of(engineer.get("/products"))
    assert "pill PLC number 1" in page
    assert "soic chip PLC number 2" in page
    change(engineer, "delete", product="pill")
    assert "at least one product" in change(engineer, "delete", product="soic chip")
    assert list(products(space)) == ["soic chip"]
    text = (space.root / "station.toml").read_text()
    assert text.startswith("# the line in hall 3\nstation")
    assert "# the only camera\n[[cameras]]" in text
    assert "bundle =" not in text.split("[")[0]
    with app.state.components.ledger_pool.reading() as ledger:
        rows = [row.record for row in ledger.actions(Where(action="products"))]
    assert isinstance(rows[-1], Action)
    assert len(rows) == 5
    assert (rows[-1].who, rows[-1].details["order"]) == ("engineer", ["soic chip"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "fields", "said"),
    [
        ("add", {"name": "chip", "bundle": "pill.inspector"}, "already has a product chip"),
        ("add", {"name": "<b>", "bundle": "pill.inspector"}, "1 to 60 letters"),
        ("add", {"name": "x", "bundle": "../../etc"}, "Choose an inspector"),
        ("add", {"name": "x"}, "Choose an inspector"),
        ("set", {"product": "other", "name": "x", "bundle": "pill.inspector"}, "no product other"),
        ("name", {"name": "again"}, "changed in the meantime"),
    ],
)
def test_wrong_products_are_refused(
    app: FastAPI, space: Workspace, action: str, fields: dict[str, str], said: str
) -> None:
    engineer = login(app)
    change(engineer, "name", name="chip")
    before = (space.root / "station.toml").read_bytes()
    assert said in change(engineer, action, **fields)
    assert (space.root / "station.toml").read_bytes() == before


@pytest.mark.slow
def test_the_second_of_two_people_is_told_and_overwrites_nothing(app: FastAPI, space: Workspace) -> None:
    engineer = login(app)
    change(engineer, "name", name="chip")
    seen = engineer.get("/products").text.split('name="digest" value="')[1].split('"')[0]
    change(engineer, "add", name="pill", bundle="pill.inspector")
    assert "changed in the meantime" in change(engineer, "delete", digest=seen, product="chip")
    assert list(products(space)) == ["chip", "pill"]


@pytest.mark.slow
def test_a_running_station_is_not_changed_and_changes_over_from_the_page(
    app: FastAPI, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gonogo.station.status._BEATS_MISSED", 3600.0)  # on a slow machine it still runs
    engineer, operator = login(app), login(app, "operator")
    change(engineer, "name", name="chip")
    change(engineer, "add", name="pill", bundle="pill.inspector")
    seen = engineer.get("/products").text.split('name="digest" value="')[1].split('"')[0]
    beat(space, station="s1")
    path = space.station_state / "status.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"products": ["chip", "pill"], "product": "chip"}), encoding="utf-8"
    )
    assert "Stop it first" in change(engineer, "delete", digest=seen, product="chip")
    assert list(products(space)) == ["chip", "pill"]
    page = operator.get("/products").text
    assert "made now" in page
    assert page.count('action="/station/product"') == 1
    assert "data-confirm" in page.split('action="/station/product"')[1].split(">")[0]
    assert 'action="/products"' not in page
    assert operator.post("/station/product", product="pill", name="").status_code == 303
    with app.state.components.ledger_pool.reading() as ledger:
        [row] = list(ledger.actions(Where(action="product_requested", station="s1")))
    assert (row.record.who, row.record.details["product"]) == ("operator", "pill")
    auditor = login(app, "auditor")
    assert 'action="/station/product"' not in auditor.get("/products").text
    for browser in (operator, auditor):
        answer = browser.post("/products", station="", digest=seen, action="delete", product="chip")
        assert answer.status_code == 403


@pytest.mark.slow
def test_pages_without_a_station_or_with_a_broken_one_say_so(app: FastAPI, space: Workspace) -> None:
    engineer = login(app)
    (space.root / "station.toml").write_text("station = ")
    assert "expected TOML" in text_of(engineer.get("/products"))
    answer = engineer.post("/products", station="", digest="", action="name", name="x")
    assert answer.status_code == 303
    (space.root / "station.toml").unlink()
    assert "No station yet" in text_of(engineer.get("/products"))
    folder = space.root / "stations" / "packing"
    folder.mkdir(parents=True)
    (folder / "station.toml").write_text(TOML.replace('"active"', '"../../active"').replace("s1", "packing"))
    page = engineer.get("/products?station=packing").text
    digest = page.split('name="digest" value="')[1].split('"')[0]
    engineer.post("/products", station="packing", digest=digest, action="name", name="chip")
    assert 'chip = "../../active"' in (folder / "station.toml").read_text()


def test_only_the_products_of_a_file_are_replaced() -> None:
    text = (
        'station = "s"\n[products]\n# old\na = "a"\n[products.b]\ntop = "b"\n\n# the camera\n[[cameras]]\nbundle = 1\n'
    )
    assert with_products(text, {"c": "c"}) == (
        'station = "s"\n[products]\nc = "c"\n\n# the camera\n[[cameras]]\nbundle = 1\n'
    )
