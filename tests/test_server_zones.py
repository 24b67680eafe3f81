"""The zones page of a data set: saving, wrong input, two people at once, and training with the zones."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zxingcpp
from fastapi import FastAPI

from gonogo.config import CodeZone, read_zones
from gonogo.dataset import Dataset, Sample, write_metadata
from gonogo.images import encode_png
from gonogo.images.zones import Place, on_frame
from gonogo.ledger import Action
from gonogo.schema import Box, Label
from gonogo.server import Workspace
from gonogo.server.training.jobs import Jobs
from gonogo.server.training.run import _snapshot
from server_kit import Browser, make_app, text_of
from tiny_bundle import make_frame

SQUARE = [[0.1, 0.2], [0.5, 0.2], [0.5, 0.6], [0.1, 0.6]]
BY_HAND = """\
# by hand
drawn_on = "part"

[[zones]]
kind = "presence"
name = "screws"
polygon = [[0, 0], [1, 0], [1, 0.25]]
count = 4
template = "it is \\"kept\\""
cut_wh = [20, 30]

[[zones]]
kind = "ignore"
name = "date"
polygon = [[0.5, 0.5], [1.25, 0.5], [1, 1]]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of good and bad pictures, all of which have a box but the first."""
    space = Workspace.open(tmp_path / "plant")
    found, rng, samples = space.datasets / "part", np.random.default_rng(4), []
    (found / "images").mkdir(parents=True)
    for number in range(24):
        (found / f"images/{number:02d}.png").write_bytes(encode_png(make_frame(60, rng)))
        samples.append(
            Sample(
                file_name=f"images/{number:02d}.png",
                label=Label.BAD if number % 2 else Label.GOOD,
                box_xyxy=(4, 8, 20, 28) if number else None,
                part=f"p{number}",
            )
        )
    Dataset(root=found, samples=tuple(samples)).write()
    return found


@pytest.fixture
def app(root: Path, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setattr(Jobs, "start_queued", lambda self: None)  # runs are queued and never begun
    return make_app(root.parent.parent)


@pytest.fixture
def engineer(app: FastAPI) -> Browser:
    browser = Browser(app)
    browser.login("engineer")
    return browser


def zone(name: str = "leads", **values: object) -> dict[str, object]:
    return {"kind": "ignore", "name": name, "polygon": SQUARE, "sensitivity": None, **values}


def save(browser: Browser, *zones: dict[str, object], digest: str = "", drawn_on: str = "part") -> Any:
    return browser.call("/datasets/part/zones", {"digest": digest, "drawn_on": drawn_on, "zones": zones})


def digest_of(browser: Browser) -> str:
    """The digest of the file that the zones page shows."""
    found: str = browser.get("/datasets/part/zones").text.split('data-digest="')[1].split('"')[0]
    return found


def test_zones_are_saved_as_the_file_that_the_command_line_reads(app: FastAPI, engineer: Browser, root: Path) -> None:
    assert engineer.get("/datasets/part/zones").status_code == 200
    assert "Use the zones" not in text_of(engineer.get("/datasets/part"))
    answer = save(engineer, zone(), zone("Füße", kind="inspect", sensitivity=0.1), zone("body", kind="inspect"))
    assert answer.status_code == 200, answer.text
    saved = read_zones(root / "zones.toml")
    assert [(each.name, each.kind) for each in saved] == [("leads", "ignore"), ("Füße", "inspect"), ("body", "inspect")]
    assert saved[0].polygon == tuple(map(tuple, SQUARE))
    assert [getattr(each, "sensitivity", None) for each in saved] == [None, 0.1, 0.05]
    with app.state.components.ledger_pool.reading() as ledger:
        last = list(ledger.actions())[-1].record
    assert isinstance(last, Action)
    assert (last.action, last.who, last.details["dataset"]) == ("zones", "engineer", "part")
    assert last.details["zones"] == ["leads (ignore)", "Füße (inspect)", "body (inspect)"]
    assert "Füße" in engineer.get("/datasets/part").text


def test_other_kinds_are_kept_and_the_file_before_too(engineer: Browser, root: Path) -> None:
    (root / "zones.toml").write_text(BY_HAND)
    assert save(engineer, zone("label"), digest=digest_of(engineer)).status_code == 200
    written = tomllib.loads((root / "zones.toml").read_text())
    assert written["drawn_on"] == "part"
    assert written["zones"][0] == tomllib.loads(BY_HAND)["zones"][0]
    assert [each["name"] for each in written["zones"]] == ["screws", "label"]
    assert (root / "zones.before.toml").read_text() == BY_HAND


def test_a_code_zone_is_saved_with_what_its_text_means(engineer: Browser, root: Path) -> None:
    given = {"formats": ["DataMatrix"], "pattern": r"(?P<lot>L\d+)-(?P<part>.+)", "unreadable": "review"}
    answer = save(engineer, zone("label", kind="code", **given), zone("usual", kind="code"))
    assert answer.status_code == 200, answer.text
    label, usual = read_zones(root / "zones.toml")
    assert isinstance(label, CodeZone)
    assert (label.formats, label.pattern, label.unreadable) == (("DataMatrix",), given["pattern"], "review")
    assert usual == CodeZone(kind="code", name="usual", polygon=tuple(map(tuple, SQUARE)))  # type: ignore[arg-type]
    page = engineer.get("/datasets/part/zones").text
    assert "(?P\\u003clot\\u003eL" in page  # nothing that HTML would read as a tag


def test_zones_are_tried_on_pictures_before_they_are_saved(engineer: Browser, root: Path) -> None:
    data = Dataset.read(root)
    for number, sample in enumerate(data.samples[1:5]):
        frame = np.full((120, 160, 3), 230, np.uint8)
        code = zxingcpp.create_barcode(f"L7-{number % 3}", zxingcpp.BarcodeFormat.DataMatrix)
        drawn = np.asarray(zxingcpp.write_barcode_to_image(code, scale=4, add_quiet_zones=True))
        frame[10 : 10 + len(drawn), 10 : 10 + len(drawn)] = drawn[..., None]
        (root / sample.file_name).write_bytes(encode_png(frame))
    samples = [sample.model_copy(update={"box_xyxy": (0, 0, 160, 120)}) for sample in data.samples[1:6]]
    mask = np.zeros(make_frame(60, np.random.default_rng(0)).shape[:2], np.uint8)
    mask[2:4, 2:4] = 255
    (root / "images/hidden-mask.png").write_bytes(encode_png(mask))
    samples[4] = samples[4].model_copy(
        update={"box_xyxy": (0, 0, *mask.shape[::-1]), "label": Label.BAD, "mask_file_name": "images/hidden-mask.png"}
    )
    write_metadata(root, samples)
    code = zone("label", kind="code", polygon=[[0, 0], [1, 0], [1, 1], [0, 1]], pattern=r"(?P<lot>L\d)-(?P<part>.+)")
    body = {"drawn_on": "part", "zones": [code, zone("date")]}
    read = engineer.call("/datasets/part/zones/try", {**body, "file": samples[0].file_name}).json()
    assert read["codes"] == [{"zone": "label", "text": "L7-0", "named": {"part": "0", "lot": "L7"}, "why": ""}]
    while (found := engineer.call("/datasets/part/zones/try", body).json())["busy"]:
        time.sleep(0.02)
    assert "4 of 5" in found["piece"]  # interval beside it
    assert "on several parts: 0." in found["piece"]
    assert samples[4].file_name in found["piece"]
    assert "hides the whole defect of 1 bad picture" in " ".join(found["piece"].split())
    assert not (root / "zones.toml").exists()
    wrong = engineer.call("/datasets/part/zones/try", {**body, "zones": [{**code, "pattern": "("}]})
    assert (wrong.status_code, wrong.json()["problems"][0]["field"]) == (422, "pattern")


def test_the_second_of_two_people_is_told_what_to_do_and_overwrites_nothing(engineer: Browser, root: Path) -> None:
    first = save(engineer, zone("first"))
    second = save(engineer, zone("second"))
    assert second.status_code == 409
    assert "open the saved zones in another tab" in second.json()["message"]
    assert [each.name for each in read_zones(root / "zones.toml")] == ["first"]
    assert save(engineer, zone("first"), digest=first.json()["digest"]).json() == first.json()  # nothing to save
    assert save(engineer, digest=first.json()["digest"]).status_code == 200
    assert read_zones(root / "zones.toml") == ()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "<b>"}, "name"),
        ({"name": "rest", "kind": "inspect"}, "name"),
        ({"name": "good one"}, "name"),
        ({"polygon": SQUARE[:2]}, "polygon"),
        ({"polygon": [[0, 0], [7, 0], [1, 1]]}, "polygon"),
        ({"kind": "inspect", "sensitivity": 0.5}, "sensitivity"),
        ({"kind": "inspect", "sensitivity": 0}, "sensitivity"),
        ({"kind": "code", "pattern": "("}, "pattern"),
        ({"kind": "code", "pattern": "(?P<shift>.)"}, "pattern"),
        ({"kind": "code", "formats": []}, "formats"),
        ({"kind": "code", "formats": ["Runes"]}, "formats"),
    ],
)
def test_a_wrong_value_is_shown_at_its_zone(
    engineer: Browser, root: Path, wrong: dict[str, object], field: str
) -> None:
    answer = save(engineer, zone("good one"), {**zone("other"), **wrong})
    assert answer.status_code == 422
    assert [(each["row"], each["field"]) for each in answer.json()["problems"]] == [(1, field)]
    assert not (root / "zones.toml").exists()


def test_other_requests_are_refused(app: FastAPI, engineer: Browser, root: Path) -> None:
    assert save(engineer, *(zone(f"z{number}") for number in range(51))).status_code == 422
    assert save(engineer, {**zone(), "kind": "presence"}).status_code == 422
    assert save(engineer, zone(), drawn_on="moon").status_code == 422
    assert engineer.call("/datasets/none/zones", {"digest": "", "drawn_on": "part", "zones": []}).status_code == 422
    for role in ("operator", "reviewer", "auditor"):
        browser = Browser(app)
        browser.login(role)
        assert save(browser, zone()).status_code == 403
        assert browser.client.get("/datasets/part/zones/picture?drawn_on=part").status_code == 403
    assert not (root / "zones.toml").exists()


def test_a_malformed_file_is_reported_and_not_overwritten(engineer: Browser, root: Path) -> None:
    (root / "zones.toml").write_text("[[zones]\n")
    assert "expected TOML" in text_of(engineer.get("/datasets/part/zones"))
    assert "expected TOML" in text_of(engineer.get("/datasets/part"))
    assert save(engineer, zone()).status_code == 422
    assert (root / "zones.toml").read_text() == "[[zones]\n"


def test_the_matrices_of_a_picture_are_those_of_the_geometry(engineer: Browser) -> None:
    def picture(query: str) -> Any:
        return engineer.client.get(f"/datasets/part/zones/picture?{query}").json()

    found = picture("drawn_on=part&number=10")
    assert (found["file"], found["number"], found["count"]) == ("images/22.png", 10, 23)  # with a box, good ones first
    assert picture("drawn_on=part&number=-1")["file"] == "images/23.png"
    expected = on_frame(SQUARE, Place(region=Box(x1=4, y1=8, x2=20, y2=28)))
    points = np.column_stack([SQUARE, np.ones(4)])
    mapped = points @ np.array(found["to_frame"]).T
    np.testing.assert_allclose(mapped[:, :2] / mapped[:, 2:], expected, atol=1e-4)
    np.testing.assert_allclose(np.array(found["to_part"]) @ found["to_frame"], np.eye(3), atol=1e-9)
    whole = picture("drawn_on=picture")
    assert (whole["file"], whole["count"], whole["quad"]) == ("images/00.png", 24, None)
    assert picture("drawn_on=part&file=images/05.png")["file"] == "images/05.png"
    np.testing.assert_allclose(np.array(whole["to_frame"]) @ [1, 1, 1], [*whole["size_wh"], 1])


def test_training_gets_the_zones_as_they_are_when_it_starts(app: FastAPI, engineer: Browser, root: Path) -> None:
    assert save(engineer, zone(), drawn_on="picture").status_code == 200
    assert "checked> <span>Use the zones" in engineer.get("/datasets/part").text
    sent = {"inspector": "one", "effort": "quick", "weights": "none"}
    assert engineer.post("/datasets/part/train", **sent, zones="true").status_code == 303
    jobs, datasets = app.state.components.jobs, app.state.components.datasets
    job = jobs.find(1)
    folder = _snapshot(datasets, job)
    given = job.request.train_arguments(jobs.weights, folder)
    assert given[-2:] == ["--zones", str(folder / "zones.toml")]
    assert [each.name for each in read_zones(folder / "zones.toml")] == ["leads"]
    assert engineer.post("/datasets/part/train", **{**sent, "inspector": "two"}).status_code == 303
    assert "--zones" not in jobs.find(2).request.train_arguments(jobs.weights, folder)


def test_zones_of_the_part_are_not_used_for_the_whole_picture(app: FastAPI, engineer: Browser) -> None:
    assert save(engineer, zone()).status_code == 200
    engineer.post("/datasets/part/train", inspector="one", effort="quick", weights="none", zones="true")
    assert "drawn on the boxed part" in text_of(engineer.get("/"))
    assert app.state.components.jobs.all() == []
    engineer.post("/datasets/part/train", inspector="one", effort="quick", weights="none", zones="true", roi="learned")
    assert len(app.state.components.jobs.all()) == 1
