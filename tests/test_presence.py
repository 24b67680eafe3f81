"""Presence and count: items are learned from one good picture, and found or missed in others."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo.cli import app
from gonogo.cli.checks_file import read_checks
from gonogo.config import Checks, PresenceZone
from gonogo.errors import InputError
from gonogo.images import encode_png
from gonogo.images.zones import Place
from gonogo.inspector import Inspector
from gonogo.presence import Template, count_items, learn_presence
from gonogo.rules import set_checks
from gonogo.schema import Box, Frame, Quad, State
from gonogo.testing import write_fake_bundle

SIZE_WH = (200, 140)
AT = ((40, 40), (160, 40), (40, 100), (160, 100))
WHOLE = Place(region=Box(x1=0, y1=0, x2=200, y2=140))
AROUND = ((0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98))
ITEM = Box(x1=28, y1=28, x2=52, y2=52)


def board(
    missing: tuple[int, ...] = (), *, seed: int = 0, colour: tuple[int, int, int] = (185, 185, 190), extra: bool = False
) -> Frame:
    """A board of little red with four slotted screws; a missing one leaves a dark hole."""
    rng = np.random.default_rng(seed)
    frame = np.full((*SIZE_WH[::-1], 3), (40, 90, 60), np.uint8)
    places = [*AT, (100, 70)] if extra else AT
    for number, (x, y) in enumerate(places):
        x, y = x + int(rng.integers(-2, 3)), y + int(rng.integers(-2, 3))
        if number in missing:
            cv2.circle(frame, (x, y), 8, (15, 15, 15), -1, cv2.LINE_AA)
            continue
        cv2.circle(frame, (x, y), 10, colour, -1, cv2.LINE_AA)
        angle = float(rng.uniform(0, np.pi))
        ends = [(round(x + s * 8 * np.cos(angle)), round(y + s * 8 * np.sin(angle))) for s in (-1, 1)]
        cv2.line(frame, ends[0], ends[1], (60, 60, 65), 3, cv2.LINE_AA)
    return np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)


def learned(**options: object) -> PresenceZone:
    settings = {"round_item": True, "turn_deg": 180.0, "scale": 0.0, **options}
    return learn_presence(
        board(),
        WHOLE,
        name="screws",
        polygon=AROUND,
        item=ITEM,
        count=4,
        **settings,  # type: ignore[arg-type]
    ).zone


@pytest.fixture(scope="module")
def zone() -> PresenceZone:
    return learned()


@pytest.mark.parametrize("missing", [(), (0,), (1, 2), (0, 1, 2, 3)])
def test_missing_screws_are_counted_and_the_others_are_found_where_they_are(
    zone: PresenceZone, missing: tuple[int, ...]
) -> None:
    for seed in (1, 2, 3):
        count = count_items(board(missing, seed=seed), WHOLE, zone)
        assert len(count.items) == 4 - len(missing)
        assert count.complete is not bool(missing)
        there = [AT[number] for number in range(4) if number not in missing]
        for item, (x, y) in zip(count.items, sorted(there, key=lambda at: (at[1], at[0])), strict=True):
            assert np.hypot(item.centre_xy[0] - x, item.centre_xy[1] - y) < 4 or len(there) > 1


def test_one_screw_too_many_is_no_complete_part(zone: PresenceZone) -> None:
    count = count_items(board(extra=True, seed=4), WHOLE, zone)
    assert len(count.items) == 5
    assert not count.complete


def test_a_screw_of_another_colour_does_not_count_unless_colours_are_ignored(zone: PresenceZone) -> None:
    gold = board(colour=(230, 190, 60), seed=5)
    assert len(count_items(gold, WHOLE, zone).items) == 0
    assert len(count_items(gold, WHOLE, zone.model_copy(update={"colour": 400.0})).items) == 4


def test_a_turned_and_smaller_part_is_counted_in_its_own_orientation(zone: PresenceZone) -> None:
    matrix = np.array([[0.78, -0.35, 70.0], [0.35, 0.78, 10.0]])
    turned = cv2.warpAffine(board(seed=6), matrix, (260, 220), borderValue=(40, 90, 60))
    corners = np.array([(0, 0), (200, 0), (200, 140), (0, 140)]) @ matrix[:, :2].T + matrix[:, 2]
    first, second, third, fourth = ((float(x), float(y)) for x, y in corners)
    region: Quad = (first, second, third, fourth)
    count = count_items(turned, Place(region=region), zone)
    assert len(count.items) == 4
    wanted = np.array(AT) @ matrix[:, :2].T + matrix[:, 2]
    for item in count.items:
        assert np.linalg.norm(wanted - item.centre_xy, axis=1).min() < 6


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(InputError, match="expected 6 items"):
        learn_presence(board(), WHOLE, name="s", polygon=AROUND, item=ITEM, count=6, round_item=True, turn_deg=180)
    with pytest.raises(InputError, match="inside the zone"):
        learn_presence(board(), WHOLE, name="s", polygon=AROUND, item=Box(x1=-9, y1=0, x2=30, y2=30), count=4)
    with pytest.raises(InputError, match="at least 8 pixels"):
        learn_presence(board(), WHOLE, name="s", polygon=AROUND, item=Box(x1=30, y1=30, x2=33, y2=33), count=4)
    flat = np.full((140, 200, 3), 90, np.uint8)
    with pytest.raises(InputError, match="no contrast"):
        learn_presence(flat, WHOLE, name="s", polygon=AROUND, item=ITEM, count=4)


@pytest.mark.parametrize("text", ["", "no base64!", "aGVsbG8=", "iVBORw0KGgo="])
def test_a_broken_template_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="gonogo presence learn"):
        Template.decoded(text)


def test_a_template_survives_its_file() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)
    opaque = np.ones((12, 20), np.bool_)
    opaque[0, 0] = False
    again = Template.decoded(Template(picture=picture, opaque=opaque).encoded())
    assert np.array_equal(again.opaque, opaque)
    assert np.array_equal(again.picture[opaque], picture[opaque])


def test_a_missing_item_sends_a_go_to_review_and_the_verdict_says_how_many_were_found(
    zone: PresenceZone, tmp_path: Path
) -> None:
    opened = write_fake_bundle(tmp_path / "board.inspector")
    made = set_checks(opened, Checks(zones=(zone,)), now="2026-01-01T00:00:00+00:00")
    assert made.point_kept
    inspector = Inspector.load(made.bundle.root)
    whole, lacking = inspector.inspect(board(seed=7)), inspector.inspect(board((2,), seed=8))
    assert whole.state is State.GO
    assert whole.notes == ("screws: 4 of 4 found",)
    assert lacking.state is State.REVIEW
    assert lacking.reason.startswith("screws: 3 of 4 found: sent to review")
    assert len(lacking.counts[0].items) == 3


# --- the commands


@pytest.mark.slow
def test_the_way_from_the_commands_to_a_verdict(tmp_path: Path) -> None:
    photo, checks, bundle = tmp_path / "good.png", tmp_path / "checks.toml", tmp_path / "board.inspector"
    photo.write_bytes(encode_png(board()))
    (tmp_path / "lacking.png").write_bytes(encode_png(board((0,), seed=3)))
    write_fake_bundle(bundle)

    def call(*words: object, code: int = 0) -> str:
        ran = CliRunner().invoke(app, [str(word) for word in words])
        assert ran.exit_code == code, ran.output
        return ran.output

    learn = ["presence", "learn", photo, "--name", "screws", "--item", "28,28,52,52", "--count", 4, "--out", checks]
    preview = tmp_path / "seen.png"
    said = json.loads(call(*learn, "--round", "--turn", 180, "--scale", 0, "--preview", preview, "--json"))
    assert len(said["items"]) == 4
    assert preview.is_file()
    call("roi", "calibrate", photo, "--edge", "10,10,190,10", "--mm", 36, "--out", checks)
    assert read_checks(checks).scale is not None
    assert [each.name for each in read_checks(checks).zones] == ["screws"]
    call(*learn, "--round", "--turn", 180, "--scale", 0, "--zone", "5,5,195,135")  # again: replaced, not doubled
    assert len(read_checks(checks).zones) == 1
    assert json.loads(call("bundle", "checks", bundle, checks, "--json"))["certified"]
    assert "screws" in call("bundle", "checks", bundle)
    rows = [json.loads(line) for line in call("inspect", bundle, tmp_path / "lacking.png", "--json").splitlines()]
    assert rows[0]["state"] == "review"
    assert rows[0]["counts"][0]["expected"] == 4
    assert rows[0]["notes"] == ["screws: 3 of 4 found"]
    checks.write_text('[scale]\nmm_per_px = "x"\n')
    with pytest.raises(InputError, match="mm_per_px"):
        read_checks(checks)
