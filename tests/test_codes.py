"""Codes on parts: what is read, what is refused, and what a station makes of it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from gonogo import bundle as bundles
from gonogo import codes
from gonogo.capture import HealthLimits
from gonogo.codes import identified, read_codes, read_identity
from gonogo.config import CodeZone, Recipe
from gonogo.images import Photograph
from gonogo.images.zones import Place
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger, VerdictRecord, Where
from gonogo.schema import Box, Frame, State, Verdict
from gonogo.station import Answer, CameraParts, Cause, ModelSlot, Station, Trigger, parse_settings
from gonogo.station.changeover import SELECTED
from gonogo.station.models import LoadedBundle, load_model
from gonogo.synthetic.codes import CodeLook, draw_code
from gonogo.testing import FakeCamera, write_fake_bundle
from gonogo.zoning import zones_digest

pytest.importorskip("zxingcpp", reason="zxing-cpp is not installed (extra codes)")

PATTERN = r"(?P<product>[a-z]+)-(?P<lot>L\d+)-(?P<serial>S\d+)"
AREA = ((0.5, 0.0), (1.0, 0.0), (1.0, 0.5), (0.5, 0.5))
ZONE = CodeZone(kind="code", name="label", polygon=AREA, pattern=PATTERN)
WHOLE = replace(Box.whole_of(400, 400))


def part_picture(*texts: str, seed: int = 0, at_xy: tuple[int, int] = (230, 20), grey: int = 90) -> Frame:
    """A part of 400 x 400 pixels that the fake bundle judges go, with codes below each other in its upper right."""
    frame = np.full((400, 400, 3), (50, grey, grey + seed % 40), np.uint8)
    x, y = at_xy
    for text in texts:
        code = draw_code(text, "DataMatrix", CodeLook(module_px=3), seed=seed)
        frame[y : y + code.shape[0], x : x + code.shape[1]] = code
        y += code.shape[0] + 12
    return frame


def read(frame: Frame, *zones: CodeZone) -> tuple[Any, State]:
    return read_identity(frame, Place(region=Box.whole(frame)), zones or (ZONE,))


@pytest.mark.parametrize(
    "form", ["DataMatrix", "QRCode", "MicroQRCode", "Aztec", "PDF417", "Code128", "Code39", "Code93", "ITF"]
)
def test_every_format_is_read_back(form: Any) -> None:
    [code] = read_codes(draw_code("12345678", form), [form])
    assert code.text == "12345678"


@pytest.mark.parametrize("angle", [0, 33, 90, 180, 271])
def test_a_turned_code_is_read(angle: int) -> None:
    assert [
        each.text for each in read_codes(draw_code("A-1", "DataMatrix", CodeLook(angle_deg=angle)), ["DataMatrix"])
    ] == ["A-1"]


def test_a_code_says_product_lot_and_serial_by_its_pattern() -> None:
    identity, at_best = read(part_picture("chip-L12-S7"))
    assert (identity.product, identity.lot, identity.serial, identity.name) == ("chip", "L12", "S7", "S7")
    assert (identity.codes, identity.trouble, at_best) == (("chip-L12-S7",), "", State.GO)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (part_picture(), "code zone label: no code could be read"),
        (part_picture("chip-12-7"), "expected a text like"),
        (part_picture("chip-L12-S7x"), "expected a text like"),
        (part_picture("chip-L1-S1", "chip-L1-S2"), "expected one code, found 2 different ones"),
        (part_picture("chip-L12-S7", at_xy=(20, 250)), "no code could be read"),
    ],
)
def test_a_code_that_is_missing_odd_ambiguous_or_elsewhere_is_unreadable(picture: Frame, expected: str) -> None:
    identity, at_best = read(picture)
    assert expected in identity.trouble
    assert (identity.name, at_best) == (None, State.FAULT)
    assert read(picture, ZONE.model_copy(update={"unreadable": "review"}))[1] is State.REVIEW


def test_another_text_beside_the_code_does_not_matter_if_only_one_matches() -> None:
    assert read(part_picture("chip-L1-S1", "www.example.com"))[0].serial == "S1"


def test_codes_that_contradict_each_other_are_a_fault_even_where_unreadable_means_review() -> None:
    lower = ((0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0))
    zones = (
        ZONE.model_copy(update={"unreadable": "review"}),
        CodeZone(kind="code", name="lid", polygon=lower, pattern=PATTERN, unreadable="review"),
    )
    frame = part_picture("chip-L1-S1")
    frame[200:] = part_picture("chip-L1-S2")[:200]
    identity, at_best = read(frame, *zones)
    assert at_best is State.FAULT
    assert "code zone lid: serial 'S2', another code says 'S1'" in identity.trouble


@pytest.mark.parametrize("pattern", ["(", "(?P<colour>.)", "", "x" * 301])
def test_a_pattern_that_is_no_expression_or_names_something_else_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        CodeZone(kind="code", name="label", polygon=AREA, pattern=pattern)


def test_a_text_that_is_no_name_for_the_ledger_does_not_match() -> None:
    zone = CodeZone(kind="code", name="label", polygon=AREA, pattern="(?P<serial>(?s:.+))", formats=("DataMatrix",))
    assert "expected a text like" in read(part_picture("A\nB"), zone)[0].trouble


def test_a_code_makes_a_verdict_worse_and_never_better() -> None:
    zones = (ZONE.model_copy(update={"unreadable": "review"}),)
    for state in State:
        verdict = Verdict(state=state, score=1.0, reason="judged", region=WHOLE)
        unread = identified(verdict, Photograph(part_picture()), zones)
        assert unread.state is (State.REVIEW if state is State.GO else state)
        assert "no code could be read" in unread.reason
        assert identified(verdict, Photograph(part_picture("chip-L1-S1")), zones).state is state


def test_a_reader_that_fails_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the reader fell over")

    monkeypatch.setattr(codes, "read_codes", fail)
    verdict = Verdict(state=State.GO, score=-1.0, reason="judged", region=WHOLE)
    found = identified(verdict, Photograph(part_picture("chip-L1-S1")), (ZONE,))
    assert (found.state, found.score) == (State.FAULT, -1.0)
    assert "the reader fell over" in found.reason


def test_noise_and_stripes_are_no_code(rng: np.random.Generator) -> None:
    stripes = np.repeat(rng.integers(0, 2, (1, 300, 1), np.uint8) * 255, 200, axis=0)
    formats = ["DataMatrix", "QRCode", "Code128"]
    assert read_codes(np.ascontiguousarray(np.repeat(stripes, 3, axis=2)), formats) == []
    assert read_codes(rng.integers(0, 256, (200, 300, 3), np.uint8), formats) == []
    for shape in ((1, 1, 3), (1, 500, 3), (500, 1, 3)):
        assert read_codes(np.zeros(shape, np.uint8), formats) == []


def test_a_large_cut_out_is_reduced_before_it_is_read() -> None:
    frame = np.full((4000, 4000, 3), 120, np.uint8)
    code = draw_code("chip-L1-S1", "DataMatrix", CodeLook(module_px=12))
    frame[300 : 300 + code.shape[0], 2200 : 2200 + code.shape[1]] = code
    [found] = read_codes(frame, ["DataMatrix"])
    assert found.text == "chip-L1-S1"
    x, y = found.centre_xy
    assert abs(x - 2200 - code.shape[1] / 2) < 20
    assert abs(y - 300 - code.shape[0] / 2) < 20


# --- a bundle with a code zone


def coded_bundle(root: Path, *zones: CodeZone, name: str = "chip") -> Path:
    opened = write_fake_bundle(root, name=name)
    recipe = Recipe(size_wh=opened.manifest.recipe.size_wh, zones=zones or (ZONE,))
    point = opened.manifest.operating_point
    assert point is not None
    point = replace(point, zones_sha256=zones_digest(recipe.zones))
    changed = opened.manifest.model_copy(update={"recipe": recipe, "operating_point": point})
    bundles.write_manifest(root, changed)
    return root


def test_an_inspector_reads_the_codes_of_its_recipe_and_loads_though_its_golden_frames_have_none(
    tmp_path: Path,
) -> None:
    inspector = Inspector.load(coded_bundle(tmp_path / "chip"))
    verdict = inspector.inspect(part_picture("chip-L1-S1"))
    assert verdict.state is State.GO
    assert verdict.identity is not None
    assert (verdict.identity.serial, "codes" in verdict.timings_ms) == ("S1", True)
    unread = inspector.inspect(part_picture())
    assert (unread.state, unread.score is None) == (State.FAULT, False)
    assert inspector.identify(Photograph(part_picture("chip-L1-S1"))) == verdict.identity


def test_without_the_reader_a_bundle_with_a_code_zone_is_refused_and_the_message_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = coded_bundle(tmp_path / "chip")
    monkeypatch.setattr(codes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Exception, match=r"gonogo\[codes\]"):
        Inspector.load(root)


# --- a station


class Line:
    """A station whose parts carry codes: for one product, or for chip and pill."""

    def __init__(self, folder: Path, *, several: bool = False, unreadable: str = "fault") -> None:
        folder.mkdir(exist_ok=True)
        zone = ZONE.model_copy(update={"unreadable": unreadable})
        # The pill has its code elsewhere.
        left = CodeZone(
            kind="code", name="label", polygon=((0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (0.0, 1.0)), pattern=PATTERN
        )
        places = {"chip": coded_bundle(folder / "chip", zone)}
        if several:
            places["pill"] = coded_bundle(folder / "pill", left, name="pill")
        listed = "[products]\n" + "\n".join(f'{name} = "{name}"' for name in places)
        settings = parse_settings(
            f"""
station = "s1"
ledger = "s1.ledger"
state_dir = "state"
window_s = 20.0
camera_timeout_s = 2.0
min_free_mb = 1
{listed if several else 'bundle = "chip"'}
[[cameras]]
camera = {{ kind = "fake", pictures = "photos" }}
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
[watchdog]
stall_s = 30.0
""",
            folder=folder,
        )
        self.settings, self.frames = settings, dict[str, Frame]()
        self.slots = {
            name: ModelSlot(place, folder / "copies" / name, loader=self._load) for name, place in places.items()
        }
        camera = FakeCamera(lambda trigger: self.frames[trigger])
        view = CameraParts(
            name="main",
            open_camera=lambda: camera,
            health=HealthLimits(sharpness=0.0, frozen=False),
            slot=None if several else self.slots["chip"],
        )
        products = {name: (slot,) for name, slot in self.slots.items()} if several else None
        self.station = Station(settings, (view,), products=products)
        self.station.start()

    def _load(self, path: Path) -> LoadedBundle:
        return load_model(path)

    def judge(self, trigger_id: str, frame: Frame, **names: str) -> Answer:
        self.frames[trigger_id] = frame
        due_s = time.monotonic() + self.settings.window_s
        return self.station.judge(Trigger(id=trigger_id, at=datetime.now(UTC), due_s=due_s, **names))

    def row(self, answer: Answer) -> VerdictRecord:
        with Ledger.open(self.settings.ledger, create=False) as ledger:
            found = ledger.find("s1", answer.trigger_id)
        assert found is not None
        return found.record


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    return Line(tmp_path_factory.mktemp("line"))


def test_the_identity_is_in_the_answer_and_on_record_and_finds_the_part(line: Line) -> None:
    answer = line.judge("A1", part_picture("chip-L1-S1"))
    assert (answer.state, answer.part, answer.lot, answer.serial) == (State.GO, "S1", "L1", "S1")
    record = line.row(answer)
    assert (record.part, record.lot, record.product, record.codes) == ("S1", "L1", "chip", ("chip-L1-S1",))
    with Ledger.open(line.settings.ledger, create=False) as ledger:
        assert [row.seq for row in ledger.verdicts(Where(part="S1"))] == [answer.row]


def test_a_serial_that_comes_twice_within_a_lot_goes_to_review_and_the_reason_names_the_earlier_row(line: Line) -> None:
    first = line.judge("B1", part_picture("chip-L2-S1"))
    assert first.state is State.GO, "the same serial in another lot is another part"
    again = line.judge("B2", part_picture("chip-L2-S1", seed=1))
    assert again.state is State.REVIEW
    assert f"S1 of lot L2 was judged before: go (row {first.row})" in again.reason
    bad = np.full((400, 400, 3), (230, 90, 90), np.uint8)
    bad[:200, 200:] = part_picture("chip-L2-S1")[:200, 200:]
    rejected = line.judge("B3", bad)
    assert rejected.state is State.NO_GO, "worse stays worse"
    repeat = line.judge("B1", part_picture("chip-L2-S1"))
    assert (repeat.state, repeat.repeated) == (State.GO, True)


def test_a_part_whose_first_attempt_was_a_fault_is_no_duplicate(line: Line) -> None:
    fault = line.judge("C1", part_picture("chip-L3-S1"), product="pill")
    assert fault.state is State.FAULT
    assert line.judge("C2", part_picture("chip-L3-S1")).state is State.GO


def test_an_unreadable_code_is_a_fault_with_the_cause_code(line: Line) -> None:
    answer = line.judge("D1", part_picture())
    assert (answer.state, answer.cause) == (State.FAULT, Cause.CODE)
    assert line.row(answer).views[0].score is not None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"part": "S2"}, "part 'S1', expected 'S2'"),
        ({"lot": "L9"}, "lot 'L4', expected 'L9'"),
        ({}, "product 'pill', expected 'chip'"),
    ],
)
def test_a_code_that_contradicts_the_trigger_or_the_bundle_is_a_fault(
    line: Line, names: dict[str, str], expected: str
) -> None:
    text = "chip-L4-S1" if names else "pill-L4-S1"
    answer = line.judge(f"E{len(expected)}{sorted(names)}", part_picture(text), **names)
    assert (answer.state, answer.cause) == (State.FAULT, Cause.CODE)
    assert expected in answer.reason


def test_a_trigger_that_agrees_with_the_code_is_judged(line: Line) -> None:
    assert line.judge("F1", part_picture("chip-L5-S1"), part="S1", lot="L5", product="chip").state is State.GO


def test_an_unreadable_code_may_go_to_review(tmp_path: Path) -> None:
    line = Line(tmp_path, unreadable="review")
    assert line.judge("A", part_picture()).state is State.REVIEW


@pytest.mark.slow
def test_the_code_on_the_part_selects_the_product_and_its_bundle(tmp_path: Path) -> None:
    line = Line(tmp_path, several=True)
    chip, pill = part_picture("chip-L1-S1"), part_picture("pill-L1-S2", at_xy=(20, 250))
    for number, (frame, product) in enumerate([(chip, "chip"), (pill, "pill")]):
        answer = line.judge(f"A{number}", frame)
        assert (answer.state, answer.product, answer.selected_by) == (State.GO, product, "code")
        model = line.slots[product].model
        assert model is not None
        assert line.row(answer).bundle_sha256 == model.sha256
    wrong = line.judge("B", part_picture("chip-L1-S3"), product="pill")
    assert (wrong.state, wrong.cause) == (State.FAULT, Cause.CODE), "the trigger says pill, a chip lies there"
    blank = line.judge("C", part_picture())
    assert (blank.state, blank.product) == (State.FAULT, "pill")
    unknown = line.judge("D", part_picture("screw-L1-S4"))
    assert (unknown.state, unknown.cause) == (State.FAULT, Cause.MODEL)
    assert line.row(unknown).views[0].frame_sha256 is not None, "its picture is kept"
    with Ledger.open(line.settings.ledger, create=False) as ledger:
        found = [row.record.details["by"] for row in ledger.actions(Where(action=SELECTED))]
    assert found == ["code", "code"]


def test_a_zone_of_kind_code_is_read_from_toml_and_stands_for_an_ignored_area() -> None:
    zone = {"kind": "code", "name": "label", "polygon": [list(corner) for corner in AREA], "pattern": PATTERN}
    assert Recipe.model_validate({"zones": [zone]}).code_zones == (ZONE,)
