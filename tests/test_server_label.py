"""Data sets in the server: uploads and what they refuse, labels, masks, revisions, keys, who may not be lost."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from gonogo.dataset import Sample, Split, write_metadata
from gonogo.dataset.records import METADATA
from gonogo.images import encode_png
from gonogo.schema import Label
from gonogo.server.dataset_store import Datasets
from gonogo.server.label.doubt import distance
from gonogo.server.label.views import KEYS
from gonogo.server.language import RefusedError
from label_kit import actions, photo, rows, save, stored, upload, with_pictures
from server_kit import XSS, Browser, add_person, file_safe, fill, make_app
from tiny_bundle import make_frame


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return make_app(tmp_path / "workspace")


@pytest.fixture
def anna(app: FastAPI) -> Browser:
    browser = Browser(app)
    browser.login("engineer")
    browser.post("/datasets", name="part")
    return browser


@pytest.fixture
def berta(app: FastAPI) -> Browser:
    browser = Browser(app)
    browser.login("admin")
    return browser


# Labels


def test_a_decision_is_written_to_the_data_set_and_to_the_ledger(
    app: FastAPI, anna: Browser, rng: np.random.Generator
) -> None:
    row = with_pictures(anna, rng)[1]
    answer = save(anna, row, label="bad", defect="crack", box_xyxy=[10, 20, 200, 100])
    assert answer.status_code == 200
    sample = stored(app).samples[1]
    assert (sample.label, sample.defect, sample.box_xyxy) == (Label.BAD, "crack", (10, 20, 160, 100))
    (action,) = actions(app, "label")
    assert (action.who, action.label, action.defect) == ("engineer", Label.BAD, "crack")
    assert action.details["file"] == row["file"]
    assert answer.json()["row"]["labelled_by"] == "engineer"


def test_a_decision_sent_twice_counts_once(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    row = with_pictures(anna, rng)[0]
    first, again = (save(anna, row, label="good") for _ in range(2))
    assert first.json() == again.json()
    assert len(actions(app, "label")) == 1


def test_who_comes_second_on_one_picture_is_told_who_was_first_and_what(
    app: FastAPI, anna: Browser, berta: Browser, rng: np.random.Generator
) -> None:
    row = with_pictures(anna, rng)[0]
    assert save(anna, row, label="good").status_code == 200
    late = save(berta, row, label="bad", defect="crack")
    assert late.status_code == 409
    told = late.json()
    assert "engineer changed this picture" in told["message"]
    assert (told["row"]["label"], told["row"]["labelled_by"]) == ("good", "engineer")
    assert stored(app).samples[0].label is Label.GOOD
    assert save(berta, told["row"], label="bad", defect="crack").status_code == 200
    assert stored(app).samples[0].label is Label.BAD


@pytest.mark.slow
def test_a_conflict_with_oneself_is_told_as_such(anna: Browser, rng: np.random.Generator) -> None:
    row = with_pictures(anna, rng)[0]
    assert save(anna, row, label="good").status_code == 200
    assert save(anna, row, label="bad").json()["message"] == "You changed this picture in another tab."


def look(browser: Browser, place: str, file: str, following: str = "") -> dict[str, Any]:
    body = {"place": place, "file": file, "since": 0, "next": following}
    found: dict[str, Any] = browser.call("/datasets/part/look", body).json()
    return found


def test_the_next_picture_is_set_aside_for_one_person_only(
    anna: Browser, berta: Browser, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [row["file"] for row in with_pictures(anna, rng, 4)]
    assert look(anna, "a", files[0], files[1])["held"] == []
    second = look(berta, "b", "", files[1])
    assert second["held"] == sorted(files[:2])
    assert second["others"] == {files[0]: "engineer"}  # the next one is not open yet
    assert look(berta, "b", files[2], files[3])["held"] == sorted(files[:2])
    assert look(anna, "a", files[0], files[3])["held"] == sorted(files[2:])  # refused: it is another's
    assert look(berta, "b", files[2], "")["held"] == [files[0]]
    assert look(anna, "a", files[0], files[3])["held"] == [files[2]]
    monkeypatch.setattr("gonogo.server.label.presence.PRESENT_S", -1.0)
    assert look(berta, "b", files[2], files[3])["held"] == []  # the other has gone silent


@pytest.mark.slow
def test_two_people_on_different_pictures_never_conflict(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    found = with_pictures(anna, rng, 12)
    add_person(app, "carla", next(iter(app.state.components.accounts.people.all())).role)
    others = [Browser(app), Browser(app)]
    for browser in others:
        browser.login("admin")
    codes: list[int] = []

    def work(browser: Browser, mine: list[dict[str, Any]]) -> None:
        codes.extend(save(browser, row, label="good").status_code for row in mine)

    threads = [threading.Thread(target=work, args=(browser, found[place::2])) for place, browser in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * 12
    assert all(sample.label is Label.GOOD for sample in stored(app).samples)


def test_changes_by_another_program_are_seen_and_kept(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    row = with_pictures(anna, rng)[0]
    dataset = stored(app)
    split = tuple(sample.model_copy(update={"split": Split.TRAIN, "lot": "L-7"}) for sample in dataset.samples)
    write_metadata(dataset.root, split)
    assert save(anna, row, label="good").status_code == 200, "splits are no label: nobody is in conflict with them"
    assert {sample.split for sample in stored(app).samples} == {Split.TRAIN}
    assert stored(app).samples[0].lot == "L-7"


def test_what_others_did_and_what_they_look_at_is_told(anna: Browser, berta: Browser, rng: np.random.Generator) -> None:
    found = with_pictures(anna, rng)
    version = anna.client.get("/datasets/part/samples").json()["version"]
    save(berta, found[2], label="good")
    berta.call("/datasets/part/look", {"place": "b", "file": found[1]["file"], "since": version})
    told = anna.call("/datasets/part/look", {"place": "a", "file": found[0]["file"], "since": version}).json()
    assert [row["file"] for row in told["rows"]] == [found[2]["file"]]
    assert told["others"] == {found[1]["file"]: "admin"}
    again = {"place": "a", "file": found[0]["file"], "since": told["version"]}
    assert anna.call("/datasets/part/look", again).json()["rows"] == []


def test_a_turned_box_keeps_its_corners(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    row = with_pictures(anna, rng)[0]
    quad = [[80, 20], [120, 60], [80, 100], [40, 60]]
    assert save(anna, row, quad=quad).status_code == 200
    sample = stored(app).samples[0]
    assert sample.quad == ((80, 20), (120, 60), (80, 100), (40, 60))
    assert sample.box_xyxy == (40, 20, 120, 100)


def test_outlines_become_a_mask_and_can_be_taken_back(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    row = with_pictures(anna, rng)[0]
    square = [[20, 10], [60, 10], [60, 50], [20, 50]]
    first = save(anna, row, label="bad", polygons=[square]).json()["row"]
    dataset = stored(app)
    mask = dataset.load_mask(dataset.samples[0], (120, 160))
    assert mask is not None
    assert mask[10:50, 20:60].all()
    assert not np.delete(np.delete(mask, np.s_[9:51], 0), np.s_[19:61], 1).any(), "at most a pixel beyond the outline"
    second = save(anna, first, label="good").json()["row"]
    assert "mask_file_name" not in second
    third = save(anna, second, label="bad", polygons=[square]).json()["row"]
    assert third["mask_file_name"] == first["mask_file_name"]


def test_an_imported_mask_survives_being_drawn_over(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    with_pictures(anna, rng, 1)
    dataset = stored(app)
    (dataset.root / "masks").mkdir()
    (dataset.root / "masks/old.png").write_bytes(encode_png(np.full((120, 160), 255, np.uint8)))
    write_metadata(
        dataset.root,
        [dataset.samples[0].model_copy(update={"mask_file_name": "masks/old.png", "label": Label.BAD})],
    )
    row = rows(anna)[0]
    drawn = save(anna, row, label="bad", polygons=[[[1, 1], [9, 1], [9, 9]]]).json()["row"]
    assert drawn["mask_file_name"].startswith("masks/drawn/")
    back = save(anna, drawn, label="bad", polygons=None).json()["row"]
    assert back["mask_file_name"] == "masks/old.png"
    good = save(anna, back, label="good").json()["row"]
    assert "mask_file_name" not in good
    assert save(anna, good, label="bad").json()["row"]["mask_file_name"] == "masks/old.png"


@pytest.mark.parametrize(
    "values",
    [
        {"label": "perhaps"},
        {"box_xyxy": [200, 200, 300, 300]},
        {"box_xyxy": [10, 10, 10, 40]},
        {"box_xyxy": [0, 0, "NaN", 1]},
        {"quad": [[0, 0], [1, 1]]},
        {"label": "good", "polygons": [[[1, 1], [9, 1], [9, 9]]]},
        {"label": "bad", "polygons": [[[1, 1], [9, 1]]]},
        {"label": "bad", "defect": "x" * 61},
        {"part": "P-1"},
        {"mask_file_name": "../../etc/passwd"},
        {"file": "../../server.db"},
        {"file": "images/none.png"},
    ],
)
def test_a_malformed_decision_changes_nothing(
    app: FastAPI, anna: Browser, rng: np.random.Generator, values: dict[str, object]
) -> None:
    row = with_pictures(anna, rng, 1)[0]
    answer = anna.call("/datasets/part/save", {"file": row["file"], "revision": row["revision"], **values})
    assert answer.status_code == 422
    assert answer.json()["message"]
    assert rows(anna) == [row]
    assert actions(app, "label") == []


def test_no_whole_part_is_a_decision_of_its_own(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    row = with_pictures(anna, rng, 1)[0]
    after = save(anna, row, present=False, box_xyxy=[1, 1, 9, 9]).json()["row"]
    assert after["present"] is False
    assert "box_xyxy" not in after
    assert "0 Unlabelled" not in anna.get("/datasets/part").text
    assert "present" not in save(anna, after, label="good").json()["row"]


def test_what_cannot_be_recorded_is_not_saved(
    app: FastAPI, anna: Browser, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gonogo.errors import LedgerError

    def full(*_: object, **__: object) -> None:
        raise LedgerError("the disk is full")

    row = with_pictures(anna, rng, 1)[0]
    monkeypatch.setattr(app.state.components.ledger_pool, "act", full)
    assert save(anna, row, label="good").status_code == 503
    assert stored(app).samples[0].label is None


def test_kinds_keep_their_order_and_those_in_use_stay(anna: Browser, rng: np.random.Generator) -> None:
    row = with_pictures(anna, rng, 1)[0]
    save(anna, row, label="bad", defect="dent")
    told = anna.call("/datasets/part/kinds", {"kinds": ["scratch", " crack ", "", "scratch"]}).json()
    assert told["kinds"] == ["scratch", "crack", "dent"]
    assert anna.call("/datasets/part/kinds", {"kinds": ["x" * 61]}).status_code == 422
    assert anna.call("/datasets/part/kinds", {"kinds": ["a\u0000b"]}).status_code == 422


def test_keys_are_kept_for_each_person(anna: Browser, berta: Browser) -> None:
    wanted = {**KEYS, "good": "k", "bad": "v"}
    assert anna.call("/label/keys", {"keys": wanted}).json()["keys"] == wanted
    assert '"good": "k"' in anna.get("/datasets/part/label").text
    assert '"good": "g"' in berta.get("/datasets/part/label").text
    assert anna.call("/label/keys", {"keys": {}}).json()["keys"] == KEYS


@pytest.mark.parametrize(
    "keys", [{"good": "b", "bad": "b"}, {"good": "7"}, {"good": "ab"}, {"fly": "y"}, {"good": " "}]
)
def test_keys_that_cannot_be_told_apart_are_refused(anna: Browser, keys: dict[str, str]) -> None:
    assert anna.call("/label/keys", {"keys": keys}).status_code == 422


# Pictures


def test_a_picture_is_sent_as_it_is_trained_on_without_its_own_bytes(anna: Browser, rng: np.random.Generator) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010E] = XSS[0]
    data = io.BytesIO()
    Image.fromarray(photo(rng)).save(data, "JPEG", exif=exif)
    upload(anna, {"turned.jpg": data.getvalue()})
    answer = anna.client.get("/datasets/part/picture.jpg", params={"file": "images/turned.jpg"})
    assert answer.headers["x-picture-size"] == "120 160"
    assert Image.open(io.BytesIO(answer.content)).size == (120, 160)
    assert b"script" not in answer.content


def test_a_picture_that_is_gone_is_said_so(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    row = with_pictures(anna, rng, 1)[0]
    (stored(app).root / row["file"]).unlink()
    answer = anna.client.get("/datasets/part/picture.jpg", params={"file": row["file"]})
    assert answer.status_code == 404
    assert save(anna, row, label="good").status_code == 422


@pytest.mark.slow
@pytest.mark.parametrize("file", ["../../server.db", "metadata.jsonl", "/etc/passwd", ""])
def test_no_file_but_the_data_sets_own_pictures_is_sent(anna: Browser, file: str) -> None:
    assert anna.client.get("/datasets/part/picture.jpg", params={"file": file}).status_code == 422


def test_a_part_on_an_even_ground_is_proposed(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    frame = np.clip(rng.normal(40, 3, (240, 320, 3)), 0, 255).astype(np.uint8)
    frame[60:180, 80:240] = np.clip(rng.normal(190, 8, (120, 160, 3)), 0, 255)
    upload(anna, {"a.png": encode_png(frame)})
    told = anna.client.get("/datasets/part/proposal", params={"file": "images/a.png"}).json()
    assert told["found"]
    assert told["source"] == "a first guess"
    np.testing.assert_allclose(told["box_xyxy"], [80, 60, 240, 180], atol=8)


@pytest.mark.slow
def test_open_pictures_are_ranked_by_doubt(tmp_path: Path, rng: np.random.Generator) -> None:
    from gonogo.server import Workspace

    fill(Workspace.open(tmp_path / "workspace"))
    app = make_app(tmp_path / "workspace")
    browser = Browser(app)
    browser.login("engineer")
    browser.post("/datasets", name="part")
    assert browser.client.get("/datasets/part/doubt").json()["waiting"] == 0
    reds = (30.0, 1.0, 80.0)
    upload(browser, {f"{red:.0f}.png": encode_png(make_frame(red, rng)) for red in reds})
    browser.client.get("/datasets/part/doubt")
    app.state.components.labelling.doubts._runs["part"].thread.join(30)
    told = browser.client.get("/datasets/part/doubt").json()
    assert told["bundle"] == "tiny.inspector"
    assert sorted(told["doubt"], key=told["doubt"].get) == ["images/1.png", "images/30.png", "images/80.png"]


def test_doubt_is_the_distance_from_the_nearest_threshold_there_is() -> None:
    from gonogo import operating_point

    point = operating_point.certified_point(
        np.linspace(-9, -1, 200), np.linspace(1, 9, 200), max_escape=0.05, max_overkill=0.05, confidence=0.95
    )
    assert distance(point.go_below, point) == 0.0
    assert distance(-3.0, None) == 3.0


def test_a_data_set_that_is_malformed_is_named_and_does_not_hide_the_others(app: FastAPI, anna: Browser) -> None:
    broken = app.state.components.workspace.datasets / "broken"
    broken.mkdir()
    (broken / METADATA).write_text("{not json\n")
    page = anna.get("/datasets")
    assert page.status_code == 200
    assert "expected a JSON object" in page.text
    assert "/datasets/part" in page.text


def test_names_that_are_programs_come_out_as_text(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    root = app.state.components.workspace.datasets / "part"
    (root / "images").mkdir(exist_ok=True)
    samples = []
    for number, payload in enumerate(XSS):
        name = f"images/{number}{file_safe(payload)[:80]}.png"
        (root / name).write_bytes(encode_png(photo(rng)))
        samples.append(Sample(file_name=name, label=Label.BAD, defect=payload))
    write_metadata(root, samples)
    for path in ("/datasets", "/datasets/part", "/datasets/part/label"):
        page = anna.get(path).text
        for payload in XSS:
            if "<" in payload and "&" not in payload:
                assert payload not in page
    found = json.loads(anna.client.get("/datasets/part/samples").text)
    assert [row["defect"] for row in found["rows"]] == list(XSS)


def test_two_processes_change_one_data_set_without_loss(tmp_path: Path) -> None:
    write_metadata(tmp_path / "part", [Sample(file_name=f"images/{number}.png") for number in range(2)])
    one, other = Datasets(tmp_path), Datasets(tmp_path)
    one.read("part")
    with other.changing("part") as draft:
        draft.put([draft.samples["images/0.png"].model_copy(update={"label": Label.BAD})])
    with one.changing("part") as draft:
        draft.put([draft.samples["images/1.png"].model_copy(update={"label": Label.GOOD})])
    assert [sample.label for sample in other.read("part").samples.values()] == [Label.BAD, Label.GOOD]


def test_a_change_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    write_metadata(tmp_path / "part", [Sample(file_name="images/0.png")])
    datasets = Datasets(tmp_path)

    def fail() -> None:
        with datasets.changing("part") as draft:
            draft.put([Sample(file_name="images/1.png")])
            raise RefusedError("no")

    with pytest.raises(RefusedError):
        fail()
    assert list(datasets.read("part").samples) == ["images/0.png"]
