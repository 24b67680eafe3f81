"""The files and commands of zones, their pictures, and what the ledger and JSON say of them."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import command_kit as kit
from gonogo import images
from gonogo.cli.zones import EXAMPLE
from gonogo.config import IgnoreZone, InspectZone, Recipe, read_zones
from gonogo.dataset import Dataset
from gonogo.errors import InputError
from gonogo.heatmap import HeatScale, overlay
from gonogo.images.zones import Place
from gonogo.ledger import VerdictRecord, View
from gonogo.operating_point import certified_point
from gonogo.schema import Box, OperatingPoint, State, Verdict, ZoneVerdict
from gonogo.server import responses
from gonogo.zoning import (
    LEFT_OUT,
    prepared,
    require_useful,
    worst_zone,
    zone_names,
    zone_numbers,
    zone_verdicts,
    zones_digest,
)

CODE = IgnoreZone(kind="ignore", name="code", polygon=((0.1, 0.55), (0.6, 0.55), (0.6, 0.95), (0.1, 0.95)))
LEADS = InspectZone(kind="inspect", name="leads", polygon=((0.0, 0.0), (1.0, 0.0), (1.0, 0.25), (0.0, 0.25)))
MOMENT = datetime.datetime(2027, 1, 2, tzinfo=datetime.UTC)
TOML = """
[[zones]]
kind = "ignore"
name = "code"
polygon = [[0.1, 0.55], [0.6, 0.55], [0.6, 0.95], [0.1, 0.95]]
"""


def run_zones(*words: object) -> kit.Ended:
    return kit.run_here(["zones", *map(str, words)])


@pytest.fixture
def zones_file(tmp_path: Path) -> Path:
    path = tmp_path / "zones.toml"
    path.write_text(TOML)
    return path


def test_the_example_is_a_zones_file(tmp_path: Path) -> None:
    (tmp_path / "zones.toml").write_text(EXAMPLE)
    zones = read_zones(tmp_path / "zones.toml")
    assert [zone.kind for zone in zones] == ["ignore", "inspect"]
    assert zone_names(zones) == ("leads", "rest")
    require_useful(zones, 0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('kind = "ignore"', 'kind = "hide"'), "kind"),
        (('name = "code"', 'name = "code"\ncolour = 3'), "zones.0.ignore.colour: unknown key, expected one of name"),
        (("[0.1, 0.55], [0.6, 0.55], ", ""), "at least 3"),
        (("0.55", "nan"), "finite"),
        (("0.95", "7.5"), "less than or equal to 2"),
        (('name = "code"', 'name = ""'), "name"),
        (("[[zones]]", "[zones]"), "zones"),
        ((TOML, TOML + TOML), "'code' twice"),
        ((TOML, TOML.replace("ignore", "inspect").replace('"code"', '"rest"')), "another name than 'rest'"),
        ((TOML, TOML.replace("ignore", "inspect") + "sensitivity = 0.7"), "sensitivity"),
        ((TOML, "zones"), "expected TOML"),
    ],
)
def test_a_wrong_zones_file_is_refused_by_name(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "zones.toml").write_text(TOML.replace(*change))
    with pytest.raises(InputError, match=r"zones\.toml") as refused:
        read_zones(tmp_path / "zones.toml")
    assert message in str(refused.value)


def test_a_missing_zones_file_names_the_command_that_prints_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gonogo zones example"):
        read_zones(tmp_path / "none.toml")


def test_zones_survive_the_manifest_and_change_their_digest() -> None:
    recipe = Recipe(zones=(CODE, LEADS))
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    moved = CODE.model_copy(update={"polygon": CODE.polygon[:3]})
    assert len({zones_digest(each) for each in ((), (CODE,), (moved,), (CODE, LEADS))}) == 4
    assert zones_digest(()) == ""


def test_an_ignore_zone_takes_the_colour_around_it_and_nothing_else_changes() -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    frame[:] = (40, 90, 200)
    frame[35:55, 10:45] = np.random.default_rng(0).integers(0, 256, (20, 35, 3))
    before = frame.copy()
    place = Place(region=Box.whole(frame))
    ready = prepared(frame, place, (CODE, LEADS))
    assert (frame == before).all()
    assert (ready.frame[33:57, 8:48] == (40, 90, 200)).all()
    assert (ready.frame[:33] == before[:33]).all()
    assert prepared(frame, place, ()).frame is frame


def test_overlapping_ignore_zones_and_one_that_fills_the_frame_are_blanked_too() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    frame[:8], frame[52:], frame[:, :8], frame[:, 72:] = 7, 7, 7, 7
    one = CODE.model_copy(update={"polygon": ((0.1, 0.14), (0.6, 0.14), (0.6, 0.86), (0.1, 0.86))})
    two = CODE.model_copy(update={"name": "b", "polygon": ((0.4, 0.14), (0.9, 0.14), (0.9, 0.86), (0.4, 0.86))})
    ready = prepared(frame, Place(region=Box.whole(frame)), (one, two)).frame
    assert (ready[9:51, 9:71] == 7).all()
    everything = CODE.model_copy(update={"polygon": ((-1, -1), (2, -1), (2, 2), (-1, 2))})
    blank = prepared(frame, Place(region=Box.whole(frame)), (everything,)).frame
    assert len(np.unique(blank.reshape(-1, 3), axis=0)) == 1
    with pytest.raises(InputError, match="cover the whole"):
        require_useful((everything,), 0.0)


def test_a_zone_thinner_than_a_cell_has_cells_if_it_is_inspected_and_leaves_out_none_if_ignored() -> None:
    thin = ((0.0, 0.51), (1.0, 0.51), (1.0, 0.53), (0.0, 0.53))
    inspect = LEADS.model_copy(update={"polygon": thin})
    numbers = zone_numbers((inspect,), 0.0, (160, 160), (10, 10))
    assert numbers is not None
    assert (numbers == 1).sum() == 10
    left_out = zone_numbers((CODE.model_copy(update={"polygon": thin}),), 0.0, (160, 160), (10, 10))
    assert left_out is not None
    assert (left_out != LEFT_OUT).all()


def test_where_zones_overlap_ignoring_wins_and_every_cell_has_one_zone() -> None:
    over = CODE.model_copy(update={"polygon": (*LEADS.polygon[:2], (1.0, 0.12), (0.0, 0.12))})
    numbers = zone_numbers((LEADS, over), 0.0, (160, 160), (20, 20))
    assert numbers is not None
    assert (numbers[:2] == LEFT_OUT).all()
    assert (numbers[3:5] == 1).all()
    assert (numbers[5:] == 2).all()


def point() -> OperatingPoint:
    rng = np.random.default_rng(2)
    good, bad = rng.normal(-3, 1, 100), rng.normal(3, 1, 100)
    return certified_point(good, bad, max_escape=0.1, max_overkill=0.1, confidence=0.95)


def test_every_zone_is_judged_by_the_thresholds_of_the_part() -> None:
    limits = point()
    found = zone_verdicts((LEADS,), {"zones": np.array([[limits.no_go_above + 1, limits.go_below - 1]])}, limits)
    assert [(zone.name, zone.state) for zone in found] == [("leads", State.NO_GO), ("rest", State.GO)]
    assert worst_zone(found) == "leads"
    assert zone_verdicts((CODE,), {}, limits) == ()
    for wrong in (np.nan, np.inf, -1e30):
        with pytest.raises(ValueError, match="leads"):
            zone_verdicts((LEADS,), {"zones": np.array([[wrong, 0.0]])}, limits)


def test_the_ledger_keeps_the_judgement_of_every_zone() -> None:
    zones = (
        ZoneVerdict(name="leads", score=2.5, state=State.NO_GO),
        ZoneVerdict(name="rest", score=-1.0, state=State.GO),
    )
    view = View.of(Verdict(state=State.NO_GO, score=2.5, reason="x", zones=zones), frame_sha256=None)
    again = View.model_validate_json(view.model_dump_json())
    assert [(zone.name, zone.score, zone.state) for zone in again.zones] == [
        ("leads", 2.5, "no_go"),
        ("rest", -1.0, "go"),
    ]
    old = json.loads(view.model_dump_json())
    del old["zones"]
    assert View.model_validate_json(json.dumps(old)).zones == ()


def test_the_overlay_hatches_what_is_ignored_and_names_every_zone() -> None:
    frame = np.full((240, 320, 3), 200, np.uint8)
    verdict = Verdict(state=State.GO, score=0.0, reason="x", region=Box.whole(frame), zone="leads")
    plain = overlay(frame, verdict, HeatScale(cold=0.0, hot=1.0))
    drawn = overlay(frame, verdict, HeatScale(cold=0.0, hot=1.0), (CODE, LEADS))
    changed = (drawn != plain).any(axis=2)
    assert 0.3 < changed[140:220, 40:180].mean() < 0.8, "stripes"
    assert changed[:, 300].sum() < 20
    assert (frame == 200).all()


def test_zones_show_draws_them_on_a_photograph(discs: Dataset, zones_file: Path, tmp_path: Path) -> None:
    photo = discs.path(discs.samples[0])
    done = run_zones("show", photo, "--zones", zones_file, "--out", tmp_path / "z.png")
    assert done.code == 0, done.err
    assert "code (ignore)" in done.out
    run_zones("show", photo, "--zones", zones_file, "--out", tmp_path / "b.png", "--blanked")
    frame, blank = images.load_picture(photo), images.load_picture(tmp_path / "b.png")
    assert len(np.unique(blank[41:67, 11:56].reshape(-1, 3), axis=0)) == 1
    assert (blank[:39] == frame[:39]).all()
    assert run_zones("show", photo, "--zones", zones_file, "--out", tmp_path / "z.gif").code == 2
    assert run_zones("show", photo, "--zones", tmp_path / "none", "--out", tmp_path / "z.png").code == 2


def test_zones_hidden_lists_and_relabels(discs: Dataset, zones_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(discs.root, copy)
    listed = json.loads(run_zones("hidden", copy, "--zones", zones_file, "--json").out)
    assert listed["relabelled"] == 0
    assert listed["hidden"][0]["defect"] == "spot"
    assert Dataset.read(copy).samples == discs.samples
    done = run_zones("hidden", copy, "--zones", zones_file, "--relabel")
    assert f"Labelled {len(listed['hidden'])} pictures good" in done.out
    assert "No bad part" in run_zones("hidden", copy, "--zones", zones_file).out


def test_the_review_page_lists_every_zone_the_worst_first_and_in_german() -> None:
    view = View.of(
        Verdict(
            state=State.NO_GO,
            score=2.5,
            reason="x",
            zones=(
                ZoneVerdict(name="leads <b>", score=-1.0, state=State.GO),
                ZoneVerdict(name="rest", score=2.5, state=State.NO_GO),
            ),
        ),
        frame_sha256=None,
    )
    record = VerdictRecord(
        station="one", trigger_id="1", state=State.NO_GO, score=2.5, reason="x", views=(view,), triggered_at=MOMENT
    )
    english, german = (
        responses.fill_template(language, "review/facts.html", record=record, ruler=None) for language in ("en", "de")
    )
    assert english.index("Rest of the part") < english.index("leads &lt;b&gt;")
    assert "Rest des Teils" in german
    assert "<caption" not in responses.fill_template(
        "en", "review/facts.html", record=record.model_copy(update={"views": ()}), ruler=None
    )
