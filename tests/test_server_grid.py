"""The grid of a data set's pictures: search, changes to many at once, undo, two people, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI

from gonogo.dataset import Dataset, Sample, Split, revisions, write_metadata
from gonogo.dataset.judged import judged_before, judged_unlabelled, record_judged
from gonogo.images import encode_png
from gonogo.schema import Label
from gonogo.server import Workspace
from gonogo.server.grid.searching import PER_PAGE
from gonogo.server.grid.thumbnails import Thumbnails
from label_kit import actions
from server_kit import XSS, Browser, file_safe, fill, make_app, text_of
from tiny_bundle import make_frame

HERE = "/datasets/part/pictures"


def sample(number: int, **values: Any) -> Sample:
    return Sample(**{"file_name": f"images/{number:03d}.png", **values})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve pictures: good, bad and unlabelled in turn; three near-duplicates; a few lots and splits."""
    found, rng = Workspace.open(tmp_path / "plant").datasets / "part", np.random.default_rng(4)
    (found / "images").mkdir(parents=True)
    samples = []
    for number in range(12):
        label = (Label.GOOD, Label.BAD, None)[number % 3]
        samples.append(
            sample(
                number,
                label=label,
                defect="scratch" if label is Label.BAD else None,
                lot=f"L{number // 6}",
                part=None if number in (0, 2, 5) else f"P{number}",
                group=7 if number in (0, 2, 5) else None,
                split=Split.TRAIN if number in (3, 4) else None,
                labelled_at=f"2026-03-{number + 1:02d}T10:00:00+00:00" if label else None,
            )
        )
        (found / samples[-1].file_name).write_bytes(encode_png(make_frame(60 + number, rng)))
    write_metadata(found, samples)
    return found


@pytest.fixture
def app(root: Path) -> FastAPI:
    return make_app(root.parents[1])


@pytest.fixture
def anna(app: FastAPI) -> Browser:
    browser = Browser(app)
    browser.login("engineer")
    return browser


def marks(browser: Browser, query: str = "") -> dict[str, str]:
    """The files on the page, each with its mark."""
    page = browser.get(HERE + query).text
    return dict(re.findall(r'value="(images/[^"]+)" data-mark="([0-9a-f]{16})"', page))


def shown(browser: Browser, query: str) -> list[int]:
    return [int(Path(file).stem) for file in marks(browser, query)]


def change(browser: Browser, numbers: list[int], seen: dict[str, str] | None = None, **body: Any) -> Any:
    seen = marks(browser) if seen is None else seen
    files = {f"images/{number:03d}.png": seen[f"images/{number:03d}.png"] for number in numbers}
    return browser.call(f"{HERE}/change", {"action": "label", "files": files, **body})


def undo(browser: Browser) -> Any:
    number = re.search(r'id="undo" data-number="(\d+)"', browser.get(HERE).text)
    assert number is not None
    return browser.call(f"{HERE}/undo", {"number": int(number[1])})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?label=bad", [1, 4, 7, 10]),
        ("?label=open&lot=L1", [8, 11]),
        ("?kind=scratch&split=train", [4]),
        ("?split=none&label=good", [0, 6, 9]),
        ("?part=P3", [3]),
        ("?q=p1", [1, 10, 11]),
        ("?q=SCRATCH&lot=L0", [1, 4]),
        ("?since=2026-03-10&until=2026-03-10", [9]),
        ("?sort=date&label=bad", [10, 7, 4, 1]),
        ("?low=&high=&since=&page=99&label=bad", [1, 4, 7, 10]),
        ("?verdict=unjudged&label=bad", [1, 4, 7, 10]),
        ("?verdict=disagrees", []),
        ("?q=%25%00", []),
        ("?kind=none", []),
    ],
)
def test_the_address_filters_and_sorts(anna: Browser, query: str, expected: list[int]) -> None:
    assert shown(anna, query) == expected


@pytest.mark.parametrize("query", ["?label=perhaps", "?low=much", "?sort=price", "?page=0", "?since=yesterday", "?x=1"])
def test_a_wrong_address_is_refused(anna: Browser, query: str) -> None:
    assert anna.get(HERE + query).status_code == 422


def test_many_are_labelled_in_one_revision_and_undone(app: FastAPI, anna: Browser, root: Path) -> None:
    before = (root / "metadata.jsonl").read_bytes()
    answer = change(anna, [1, 2, 4], label="bad", defect="dent")
    assert answer.json() == {"changed": 3, "stale": 0}
    after = {each.file_name: each for each in Dataset.read(root).samples}
    assert [after[f"images/{n:03d}.png"].defect for n in (1, 2, 4)] == ["dent"] * 3
    assert (after["images/002.png"].model_extra or {})["labelled_by"] == "engineer"
    assert [each.what for each in revisions(root)][-1] == "label"
    assert [each.details["pictures"] for each in actions(app, "pictures_label")] == [3]
    assert undo(anna).json() == {"changed": 3, "stale": 0}
    assert (root / "metadata.jsonl").read_bytes() == before
    assert anna.call(f"{HERE}/undo", {"number": 1}).status_code == 422


def test_removed_pictures_come_back_in_their_old_places(anna: Browser, root: Path) -> None:
    before = Dataset.read(root).samples
    assert change(anna, [0, 5, 11], action="remove").json()["changed"] == 3
    assert len(Dataset.read(root).samples) == 9
    assert (root / "images/005.png").exists()
    assert len(marks(anna)) == 9
    assert undo(anna).json()["changed"] == 3
    assert Dataset.read(root).samples == before


def test_what_somebody_else_has_changed_is_left_alone(app: FastAPI, anna: Browser, root: Path) -> None:
    bert, seen = Browser(app), marks(anna)
    bert.login("admin")
    assert change(bert, [1, 4], label="good").json()["changed"] == 2
    assert change(anna, [1, 4], seen, label="bad", defect="dent").status_code == 409
    assert change(anna, [1, 7], seen, label="bad", defect="dent").json() == {"changed": 1, "stale": 1}
    assert change(anna, [4], label="bad", defect="dent").json()["changed"] == 1
    # Each undoes their own; what the other one has changed since stays.
    assert undo(bert).json() == {"changed": 1, "stale": 1}
    assert Dataset.read(root).samples[4].defect == "dent"


def test_all_that_match_must_still_be_those_that_were_seen(app: FastAPI, anna: Browser, root: Path) -> None:
    bert = Browser(app)
    bert.login("admin")
    digest = re.search(r'data-digest="([0-9a-f]+)"', anna.get(f"{HERE}?label=open&lot=L1").text)
    assert digest is not None
    body = {"action": "label", "label": "good", "matching": {"query": "?label=open&lot=L1", "digest": digest[1]}}
    change(bert, [8], label="bad")
    stale = anna.call(f"{HERE}/change", body)
    assert (stale.status_code, "meantime" in stale.json()["message"]) == (422, True)
    assert undo(bert).json()["changed"] == 1
    assert anna.call(f"{HERE}/change", body).json() == {"changed": 2, "stale": 0}


def test_moves_that_would_spoil_a_certificate_are_refused(anna: Browser, root: Path) -> None:
    assert "training" in change(anna, [3, 6], action="move", split="calibrate").json()["message"]
    assert change(anna, [6, 7], action="move", split="calibrate").json()["changed"] == 2
    record_judged(Dataset.read(root), (Split.CALIBRATE,))
    assert "second attempt" in change(anna, [6], action="move", split="test").json()["message"]
    assert "second attempt" in change(anna, [6, 9], action="move", split="train").json()["message"]
    assert "evidence" in change(anna, [6], action="remove").json()["message"]
    asked = change(anna, [6, 8], label="bad")
    assert (asked.status_code, asked.json()["confirm"]) == (409, True)
    assert change(anna, [6, 8], label="bad", sure=True).json()["changed"] == 2
    assert [each.split for each in Dataset.read(root).samples[3:8]] == [
        Split.TRAIN, Split.TRAIN, None, Split.CALIBRATE, Split.CALIBRATE,
    ]  # fmt: skip


def test_the_pictures_of_a_part_stay_together(anna: Browser, root: Path) -> None:
    assert change(anna, [0, 2, 5], action="move", split="train").json()["changed"] == 3
    assert "same parts" in change(anna, [2], action="move", split="val").json()["message"]


@pytest.mark.slow
def test_a_label_is_given_to_near_duplicates_only_where_it_is_clear(anna: Browser, root: Path) -> None:
    assert "near-duplicates" in change(anna, [2, 3], action="propagate").json()["message"]
    assert change(anna, [0], action="propagate").json()["changed"] == 2
    assert [Dataset.read(root).samples[n].label for n in (2, 5)] == [Label.GOOD] * 2
    assert undo(anna).json()["changed"] == 2


@pytest.mark.parametrize(
    "body",
    [
        {"action": "sell"},
        {"action": "label", "label": "perhaps"},
        {"action": "label", "files": {"images/000.png": "not a number"}},
        {"action": "label", "label": "good", "defect": "dent", "files": {}},
        {"action": "move", "files": {}},
        {"action": "label", "matching": {"query": "?label=perhaps", "digest": "0"}},
        {"action": "label", "label": "bad", "defect": "a\nb", "files": {}},
    ],
)
def test_malformed_changes_are_refused(anna: Browser, root: Path, body: dict[str, Any]) -> None:
    before = (root / "metadata.jsonl").read_bytes()
    anna.get(HERE)
    assert anna.call(f"{HERE}/change", body).status_code in (400, 422)
    assert (root / "metadata.jsonl").read_bytes() == before


def test_a_mask_leaves_a_part_that_is_good(anna: Browser, root: Path) -> None:
    first, *others = Dataset.read(root).samples
    marked = others[0].model_copy(update={"mask_file_name": "masks/1.png"})
    write_metadata(root, [first, marked, *others[1:]])
    change(anna, [1], label="bad", defect="dent")
    assert Dataset.read(root).samples[1].mask_file_name == "masks/1.png"
    change(anna, [1], label="good")
    assert Dataset.read(root).samples[1].mask_file_name is None
    undo(anna)
    assert Dataset.read(root).samples[1].mask_file_name == "masks/1.png"


def test_thumbnails_are_made_once_and_may_be_kept_forever(anna: Browser, root: Path) -> None:
    address = re.search(r'<img src="([^"]+)"', anna.get(HERE).text)
    assert address is not None
    first = anna.client.get(address[1].replace("&amp;", "&"))
    assert "immutable" in first.headers["cache-control"]
    kept = list((root.parents[1] / "cache/thumbnails").glob("??/*.jpg"))
    assert [each.read_bytes() for each in kept] == [first.content]
    old = anna.client.get("/datasets/part/thumb.jpg?file=images/000.png&v=old")
    assert (old.content, old.headers["cache-control"]) == (first.content, "no-cache")
    (root / "images/000.png").write_bytes(encode_png(np.zeros((30, 40, 3), np.uint8)))
    assert anna.client.get("/datasets/part/thumb.jpg?file=images/000.png").content != first.content
    assert anna.client.get("/datasets/part/thumb.jpg?file=../part/metadata.jsonl").status_code == 422
    (root / "images/001.png").write_bytes(b"no picture")
    assert anna.client.get("/datasets/part/thumb.jpg?file=images/001.png").status_code in (400, 422, 500)


def test_old_thumbnails_make_room(tmp_path: Path, root: Path) -> None:
    thumbnails = Thumbnails(tmp_path / "thumbs", most_bytes=3000)
    for number in range(12):
        thumbnails.jpeg(root / f"images/{number:03d}.png", str(number))
    assert 0 < sum(each.stat().st_size for each in (tmp_path / "thumbs").glob("??/*.jpg")) <= 3000


def test_an_empty_data_set_says_what_to_do(app: FastAPI, anna: Browser, root: Path) -> None:
    write_metadata(root, [])
    assert "Add photographs of good and bad parts first" in text_of(anna.get(HERE))


def test_names_are_shown_as_text(anna: Browser, root: Path) -> None:
    samples = [sample(0).model_copy(update={"file_name": f"images/{file_safe(name)}", "lot": name}) for name in XSS]
    write_metadata(root, samples)
    page = anna.get(f"{HERE}?q=%3Cscript%3Ewindow.pwned%3C/script%3E").text + anna.get(HERE).text
    assert "<script>window.pwned" not in page
    assert "<img src=x" not in page


def test_more_than_a_page_is_counted_and_paged(anna: Browser, root: Path) -> None:
    write_metadata(root, [sample(number) for number in range(PER_PAGE + 5)])
    assert len(marks(anna)) == PER_PAGE
    assert shown(anna, "?page=2") == list(range(PER_PAGE, PER_PAGE + 5))
    assert f"All {PER_PAGE + 5} that match" in anna.get(HERE).text


def test_another_program_may_change_the_data_set(anna: Browser, root: Path) -> None:
    seen = marks(anna)
    write_metadata(root, [each for each in Dataset.read(root).samples if each.file_name != "images/001.png"])
    assert change(anna, [1, 2], seen, label="good").json() == {"changed": 1, "stale": 1}


@pytest.fixture
def judging(tmp_path: Path) -> FastAPI:
    """A workspace with an inspector in use, and its data set."""
    fill(Workspace.open(tmp_path / "judging"), parts=1)
    return make_app(tmp_path / "judging")


@pytest.mark.slow
def test_verdicts_scores_and_heat_maps_of_any_data_set(judging: FastAPI) -> None:
    parts, browser, space = judging.state.components, Browser(judging), judging.state.components.workspace
    browser.login("engineer")
    given = Dataset.read(space.datasets / "tiny")
    root = space.datasets / "other"
    (root / "images").mkdir(parents=True)
    turned = {Label.GOOD: Label.BAD, Label.BAD: Label.GOOD}
    samples = []
    for number, each in enumerate(given.samples[:8]):
        assert each.label is not None
        (root / f"images/{number}.png").write_bytes(given.path(each).read_bytes())
        label = turned[each.label] if number == 0 else each.label
        samples.append(Sample(file_name=f"images/{number}.png", label=label, split=Split.TEST))
    write_metadata(root, samples)
    page = browser.get("/datasets/other/pictures").text
    assert "Judge the others" in page
    assert browser.post("/datasets/other/pictures/judge").status_code == 303
    while parts.inspectors.worker.busy():
        pass
    assert "8 of 8 pictures judged" in text_of(browser.get("/datasets/other/pictures"))
    assert "8 of 8 pictures judged" in text_of(browser.get("/datasets/other/pictures?verdict=review&low=1"))
    files = re.findall(
        r'data-mark="[^"]+" aria-label="([^"]+)"', browser.get("/datasets/other/pictures?sort=score").text
    )
    predicted = parts.grid.predictions.of("other")
    assert predicted is not None
    assert [predicted.scores[file] for file in files] == sorted(predicted.scores.values(), key=lambda s: -(s or 0))
    near = browser.get("/datasets/other/pictures?like=images/3.png").text
    assert re.findall(r'data-mark="[^"]+" aria-label="([^"]+)"', near)[0] == "images/3.png"
    heat = re.search(r'<img src="([^"]+heat=[^"]+)"', browser.get("/datasets/other/pictures?heat=1").text)
    assert heat is not None
    assert browser.client.get(heat[1].replace("&amp;", "&")).headers["content-type"] == "image/jpeg"
    # Its score has been shown: it may not leave the evidence.
    answer = browser.call(
        "/datasets/other/pictures/change",
        {"action": "remove", "files": dict(re.findall(r'value="(images/0.png)" data-mark="(\w+)"', near))},
    )
    assert "evidence" in answer.json()["message"]
    # After a restart the scores are still there.
    again = make_app_again(space.root)
    found = again.state.components.grid.predictions.of("other")
    assert found is not None
    assert found.scores == predicted.scores


@pytest.mark.slow
def test_a_label_given_after_the_verdict_proves_nothing(judging: FastAPI) -> None:
    parts, browser, space = judging.state.components, Browser(judging), judging.state.components.workspace
    browser.login("engineer")
    given, root = Dataset.read(space.datasets / "tiny"), space.datasets / "part"
    (root / "images").mkdir(parents=True)
    splits = (None, Split.CALIBRATE, Split.TEST, Split.TRAIN)
    for number, each in enumerate(given.samples[:4]):
        (root / f"images/{number:03d}.png").write_bytes(given.path(each).read_bytes())
    write_metadata(root, [sample(number, split=split) for number, split in enumerate(splits)])
    browser.get(HERE)
    assert browser.post(f"{HERE}/judge").status_code == 303
    while parts.inspectors.worker.busy():
        pass
    page = browser.get(HERE)
    assert "2 of 4 pictures judged" in text_of(page)
    assert "2 unlabelled pictures in calibrate and test are judged once they are labelled" in text_of(page)
    assert "Judge the others" not in page.text
    assert change(browser, [0, 1], label="good").json()["changed"] == 2
    assert "may only be used for training" in change(browser, [0], action="move", split="test").json()["message"]
    assert browser.post(f"{HERE}/judge").status_code == 303
    while parts.inspectors.worker.busy():
        pass
    assert judged_unlabelled(Dataset.read(root)) == {"images/000.png", "images/003.png"}
    assert judged_before(Dataset.read(root)) == {"images/001.png": Split.CALIBRATE}


def make_app_again(root: Path) -> FastAPI:
    from gonogo.server import Options, create_app
    from server_kit import WEAK_HASHER

    return create_app(Workspace.open(root), options=Options(hasher=WEAK_HASHER))
