"""Several cameras for one part: import, train, certify and station agree that the part is one trial."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from gonogo import images
from gonogo.bundle import read_bundle
from gonogo.certification import certify_judged, certify_together, recertify, restore
from gonogo.certification.scores import Judged, StoredScores
from gonogo.certification.together import Scale, own_point
from gonogo.cli import app
from gonogo.dataset import Dataset, ImportOptions, Sample, Split, check_dataset, import_folder
from gonogo.dataset.cameras import cameras_of, for_cameras, require_views
from gonogo.errors import DatasetError, InputError
from gonogo.evaluate import Evaluation, evaluate
from gonogo.inspector import Inspector
from gonogo.ledger import worst_state
from gonogo.manifest import PartCertificate
from gonogo.operating_point import Promise
from gonogo.schema import Label, State
from gonogo.station import CameraParts, ModelSlot, Station, Trigger
from gonogo.station.models import LoadedBundle, load_model
from gonogo.station.together import not_together, without_promise
from gonogo.testing import FakeCamera, fake_model
from test_station import Line
from tiny_bundle import BAD_RED, GOOD_RED, make_bundle, make_frame

PROMISE = Promise(max_escape=0.1, max_overkill=0.1, guard=None)
COUNTS = ((Split.TRAIN, 8), (Split.VAL, 24), (Split.CALIBRATE, 64), (Split.TEST, 20))


def two_views(root: Path, *, seed: int = 0, cameras: tuple[str, ...] = ("side", "top")) -> Dataset:
    """Parts that each camera sees once; every second one is bad, and only one camera sees its defect."""
    rng = np.random.default_rng(seed)
    samples = []
    (root / "images").mkdir(parents=True)
    for split, count in COUNTS:
        for number in range(count):
            bad, seen_by = number % 2 == 1, cameras[number // 2 % len(cameras)]
            for camera in cameras:
                shows = bad and camera == seen_by
                name = f"images/{split}-{number:03d}-{camera}.png"
                frame = make_frame(rng.normal(BAD_RED if shows else GOOD_RED, 12.0), rng)
                (root / name).write_bytes(images.encode_png(frame))
                label = Label.BAD if shows else Label.GOOD
                samples.append(
                    Sample(file_name=name, label=label, part=f"{split}-{number}", camera=camera, split=split, lot=split)
                )
    dataset = Dataset(root=root, samples=tuple(samples))
    dataset.write()
    return dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return two_views(tmp_path / "parts")


def one_for_all(tmp_path: Path, dataset: Dataset) -> Inspector:
    return Inspector.load(make_bundle(tmp_path / "all.inspector", dataset, cameras=cameras_of(dataset.samples)).root)


def one_each(tmp_path: Path, dataset: Dataset) -> list[Inspector]:
    return [
        Inspector.load(
            make_bundle(tmp_path / f"{camera}.inspector", for_cameras(dataset, (camera,)), cameras=(camera,)).root
        )
        for camera in cameras_of(dataset.samples)
    ]


# --- import


@pytest.mark.slow
def test_an_import_reads_part_and_camera_from_the_path_and_keeps_parts_in_one_split(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for number in range(40):
        for camera in ("top", "side"):
            path = tmp_path / "photos" / ("bad" if number % 2 else "good") / f"p{number:02d}" / f"{camera}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(images.encode_png(rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)))
    options = ImportOptions(part_regex=r"(p\d+)/", camera_regex=r"(\w+)\.png$")
    imported = import_folder(tmp_path / "photos", tmp_path / "parts", options)
    samples = Dataset.read(tmp_path / "parts").samples
    assert cameras_of(samples) == ("side", "top")
    assert {sample.defect for sample in samples} == {None}
    assert "Cameras: side, top." in imported.notes
    splits: dict[str | None, set[Split | None]] = {}
    for sample in samples:
        splits.setdefault(sample.part, set()).add(sample.split)
    assert len(splits) == 40
    assert all(len(found) == 1 for found in splits.values())
    again = import_folder(tmp_path / "parts", tmp_path / "copy")
    assert cameras_of(again.dataset.samples) == ("side", "top")
    (tmp_path / "photos" / "good" / "p00" / "top.png").unlink()
    lacking = import_folder(tmp_path / "photos", tmp_path / "fewer", options)
    assert any("1 parts were not seen by all of them, such as p00" in note for note in lacking.notes)
    assert any("not seen by every camera" in warning for warning in check_dataset(lacking.dataset).warnings)


def test_a_camera_needs_a_part_and_a_plain_name() -> None:
    with pytest.raises(ValidationError, match="expected a part beside the camera"):
        Sample(file_name="a.png", camera="top")
    with pytest.raises(ValidationError):
        Sample(file_name="a.png", part="1", camera="top view")


def test_a_record_without_a_camera_is_written_as_before() -> None:
    before = (
        '{"file_name":"a.png","label":null,"defect":null,"part":"1","lot":null,"mask_file_name":null,"box_xyxy":null,'
        '"quad":null,"present":null,"split":null,"group":null}'
    )
    assert Sample(file_name="a.png", part="1").model_dump_json() == before
    assert '"camera":"top"' in Sample(file_name="a.png", part="1", camera="top").model_dump_json()


def test_a_part_that_looks_good_from_one_side_is_no_conflict_of_labels(dataset: Dataset) -> None:
    assert not any("good and bad pictures" in warning for warning in check_dataset(dataset).warnings)


# --- certify


@pytest.mark.slow
def test_two_pictures_of_one_part_are_one_trial(tmp_path: Path, dataset: Dataset) -> None:
    inspector = one_for_all(tmp_path, dataset)
    made = recertify(inspector, dataset, PROMISE)
    assert len(made.calibrate.pictures) == 128
    assert (made.point.escape.parts, made.point.overkill.parts) == (32, 32)
    judged = evaluate(Inspector.load(inspector.path), dataset, (Split.TEST,))
    assert (judged.count(Label.BAD), judged.count(Label.GOOD)) == (10, 10)
    one_view = for_cameras(dataset, ("top",))
    fewer = replace(one_view, samples=tuple(s for s in one_view.samples if s.split is Split.CALIBRATE))
    assert len(fewer.samples) == 64


def judged_views(views: int) -> Evaluation:
    """60 bad and 60 good parts with the same scores, seen by any number of cameras."""
    rows = [
        Judged(
            file=f"{part}-{view}.png",
            part=str(part),
            label=Label.BAD if part % 2 else Label.GOOD,
            defect=None,
            state=State.REVIEW,
            score=float(part % 2) if view == part % views else -1.0,
        )
        for part in range(120)
        for view in range(views)
    ]
    stored = StoredScores(request={}, bad_share=None, data_fingerprint="", calibrate=tuple(rows))
    return stored.evaluation(Split.CALIBRATE)


@pytest.mark.parametrize("views", [2, 4])
def test_the_bound_counts_parts_so_more_views_of_the_same_parts_certify_nothing_more(views: int) -> None:
    one, several = (certify_judged(judged_views(number), replace(PROMISE, max_escape=0.01)) for number in (1, views))
    assert not one.escape.holds
    assert (several.escape, several.overkill) == (one.escape, one.overkill)
    possible = certify_judged(judged_views(views), PROMISE)
    assert possible.escape.parts == 60
    assert possible.escape.holds


@pytest.mark.slow
def test_a_bundle_names_its_cameras_and_a_recertified_one_too(tmp_path: Path, dataset: Dataset) -> None:
    inspector = one_for_all(tmp_path, dataset)
    made = recertify(inspector, dataset, PROMISE)
    assert made.bundle.manifest.part == PartCertificate(cameras=("side", "top"))
    again = recertify(Inspector.load(made.bundle.root), dataset, replace(PROMISE, max_overkill=0.12), force=True)
    restored = restore(again.bundle, 1, force=True)
    assert restored.manifest.part is None  # unknown for what: certify again


@pytest.mark.parametrize("change", ["missing", "twice"])
def test_a_part_with_a_missing_or_second_view_cannot_certify(tmp_path: Path, dataset: Dataset, change: str) -> None:
    victim = next(s for s in dataset.samples if s.split is Split.CALIBRATE)
    if change == "missing":
        samples = tuple(s for s in dataset.samples if s is not victim)
    else:
        copy = victim.model_copy(update={"file_name": "images/again.png"})
        (dataset.root / copy.file_name).write_bytes(dataset.path(victim).read_bytes())
        samples = (*dataset.samples, copy)
    spoiled = replace(dataset, samples=samples)
    inspector = one_for_all(tmp_path, dataset)
    with pytest.raises(DatasetError, match="expected one picture of part calibrate-0 by camera side"):
        recertify(inspector, spoiled, PROMISE)
    nameless = victim.model_copy(update={"camera": None})
    with pytest.raises(DatasetError, match="expected a camera and a part"):
        require_views(replace(dataset, samples=(*samples, nameless)), (Split.CALIBRATE,))


@pytest.mark.slow
def test_parts_with_several_pictures_and_no_camera_are_certified_with_a_caveat(tmp_path: Path) -> None:
    named = two_views(tmp_path / "parts")
    samples = tuple(sample.model_copy(update={"camera": None}) for sample in named.samples)
    dataset = replace(named, samples=samples)
    made = recertify(Inspector.load(make_bundle(tmp_path / "b.inspector", dataset).root), dataset, PROMISE)
    assert any("The promise holds where the line takes as many" in warning for warning in made.warnings)


# --- one bundle per camera


@pytest.mark.slow
def test_bundles_certified_together_judge_parts_as_their_certificate_counted_them(
    tmp_path: Path, dataset: Dataset
) -> None:
    made = certify_together(one_each(tmp_path, dataset), dataset, PROMISE)
    assert made.point.escape.holds
    assert made.point.overkill.holds
    assert (made.point.escape.parts, made.point.overkill.parts) == (32, 32)
    inspectors = {camera: Inspector.load(bundle.root) for camera, bundle in made.bundles.items()}
    parts = {each.bundle.manifest.part for each in inspectors.values()}
    assert len(parts) == 1
    states: dict[str, list[State]] = {}
    bad: set[str] = set()
    for sample in dataset.split(Split.CALIBRATE):
        assert sample.part is not None
        assert sample.camera is not None
        states.setdefault(sample.part, []).append(inspectors[sample.camera].inspect_file(dataset.path(sample))[1].state)
        bad |= {sample.part} if sample.label is Label.BAD else set()
    escapes = sum(set(found) == {State.GO} for part, found in states.items() if part in bad)
    overkills = sum(State.NO_GO in found for part, found in states.items() if part not in bad)
    assert made.point.escape.allowed is not None
    assert made.point.overkill.allowed is not None
    assert escapes <= made.point.escape.allowed
    assert overkills <= made.point.overkill.allowed


@pytest.mark.slow
def test_rounding_of_a_threshold_moves_no_calibration_picture_to_the_other_side(
    tmp_path: Path, dataset: Dataset
) -> None:
    inspector = one_for_all(tmp_path, dataset)
    point = recertify(inspector, dataset, PROMISE).point
    judged = evaluate(inspector, dataset, (Split.CALIBRATE,))
    for middle, width in ((0.1, 1 / 3), (63.7, 7.3), (-1e6, 1e-3)):
        scale = Scale(middle=middle, width=width)
        for picture in judged.pictures[:12]:
            assert picture.score is not None
            common = replace(point, go_below=scale.of(picture.score), no_go_above=scale.of(picture.score))
            own = own_point(common, scale, judged)
            for each in judged.pictures:
                assert each.score is not None
                assert not each.score < own.go_below or scale.of(each.score) < common.go_below
                assert not each.score > own.no_go_above or scale.of(each.score) > common.no_go_above
    closed = own_point(replace(point, go_below=-math.inf, no_go_above=math.inf), Scale(middle=1, width=2), judged)
    assert (closed.go_below, closed.no_go_above) == (-math.inf, math.inf)


def test_only_one_bundle_for_each_camera_can_be_certified_together(tmp_path: Path, dataset: Dataset) -> None:
    side, top = one_each(tmp_path, dataset)
    with pytest.raises(InputError, match="no other bundle is for"):
        certify_together([side, side], dataset, PROMISE)
    with pytest.raises(DatasetError, match="expected a bundle for each camera"):
        certify_together([top], dataset, PROMISE)
    with pytest.raises(InputError, match="expected a bundle for one camera"):
        certify_together([one_for_all(tmp_path, dataset)], dataset, PROMISE)


@pytest.mark.slow
def test_the_command_certifies_together(tmp_path: Path, dataset: Dataset) -> None:
    paths = [str(each.path) for each in one_each(tmp_path, dataset)]
    asked = ["bundle", "together", *paths, "--dataset", str(dataset.root), "--max-escape", "0.1"]
    done = CliRunner().invoke(app, [*asked, "--max-overkill", "0.1", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.output.splitlines()[-1])
    assert said["cameras"]["top"]["sha256"] == read_bundle(tmp_path / "top.inspector").sha256
    assert said["part"]["escape"]["parts"] == 32


# --- station


def loaded(name: str, *cameras: str, part: PartCertificate | None = None, sha: str = "1") -> LoadedBundle:
    model = fake_model(Path(name))
    return replace(model, name=name, cameras=cameras, part=part, sha256=sha * 64)


BOTH = PartCertificate(cameras=("side", "top"))
SET = PartCertificate(cameras=("side", "top"), id="a" * 64)
OTHER = PartCertificate(cameras=("side", "top"), id="b" * 64)


@pytest.fixture(autouse=True)
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("all", "top", "side", "old"):
        Path(name).mkdir()
        (Path(name) / "SHA256SUMS").write_text(name)


def test_a_station_judges_a_part_only_with_bundles_that_were_certified_together() -> None:
    both = loaded("all", "side", "top", part=BOTH)
    top, side = loaded("top", "top", part=SET), loaded("side", "side", part=SET, sha="2")
    assert not_together({"top": both, "side": both}) == ""
    assert not_together({"top": top, "side": side}) == ""
    assert not_together({"main": loaded("old")}) == ""
    for wrong, why in (
        ({"top": both}, "this station has top"),
        ({"main": both}, "this station has main"),
        ({"top": both, "side": both, "back": both}, "this station has back, side, top"),
        ({"top": side, "side": top}, "certified for camera side, and judges camera top"),
        ({"top": top, "side": replace(side, part=OTHER)}, "not certified together"),
        ({"top": top, "side": both}, "not certified together"),
        ({"top": both, "side": replace(both, sha256="3" * 64)}, "not certified together"),
        ({"top": top, "side": replace(side, part=None)}, "is not certified together"),
        ({"top": top, "side": loaded("old")}, "is not certified together"),
    ):
        assert why in not_together(wrong), wrong


def test_old_bundles_judge_several_cameras_without_a_promise_and_the_status_says_so() -> None:
    old = loaded("old")
    assert not_together({"top": old, "side": old}) == ""
    assert "without a promise" in without_promise({"top": old, "side": old})
    assert without_promise({"main": old}) == ""
    assert without_promise({"top": loaded("all", "side", "top", part=BOTH)}) == ""


def test_every_part_is_a_fault_while_the_bundles_do_not_belong_together(tmp_path: Path) -> None:
    line = Line(tmp_path / "line", views=("top", "side"))
    assert line.judge("A").state is State.GO
    assert any("without a promise" in warning for warning in line.station.changeover.find_warnings())
    assert line.slot.model is not None
    line.slot.model = replace(line.slot.model, cameras=("back", "top"), part=PartCertificate(cameras=("back", "top")))
    answer = line.judge("B")
    assert (answer.state, answer.cause) == (State.FAULT, "model")
    assert "this station has side, top" in answer.reason
    assert any("this station has" in trouble for trouble in line.station.find_troubles())
    line.slot.model = replace(line.slot.model, cameras=("side", "top"), part=BOTH)
    assert line.judge("C").state is State.GO


@pytest.mark.slow
def test_the_station_judges_two_cameras_with_the_thresholds_that_were_certified(
    tmp_path: Path, dataset: Dataset
) -> None:
    made = certify_together(one_each(tmp_path, dataset), dataset, PROMISE)
    line = Line(tmp_path / "line", views=("side", "top"))
    test = [sample for sample in dataset.split(Split.TEST) if sample.part is not None]
    frames = {f"{sample.part}/{sample.camera}": dataset.load(sample) for sample in test}
    views = []
    for camera, bundle in made.bundles.items():
        slot = ModelSlot(bundle.root, tmp_path / "copies" / camera, loader=load_model)
        opener = FakeCamera(lambda trigger, camera=camera: frames[f"{trigger}/{camera}"])
        views.append(CameraParts(name=camera, open_camera=lambda opener=opener: opener, health=line.health, slot=slot))
    folder = tmp_path / "two"
    folder.mkdir()
    chosen = line.settings.model_copy(update={"ledger": folder / "s.ledger", "state_dir": folder, "window_s": 30.0})
    station = Station(chosen.model_copy(update={"camera_timeout_s": 20.0}), tuple(views))
    station.start()
    assert station.find_troubles() == []
    bad = {sample.part for sample in test if sample.label is Label.BAD}
    answers = {}
    for part in dict.fromkeys(str(sample.part) for sample in test):
        trigger = Trigger(id=part, at=datetime.now(UTC), due_s=time.monotonic() + 30.0)
        answers[part] = station.judge(trigger).state
    station.close()
    expected: dict[str, list[State]] = {}
    inspectors = {camera: Inspector.load(bundle.root) for camera, bundle in made.bundles.items()}
    for sample in test:
        state = inspectors[str(sample.camera)].inspect_file(dataset.path(sample))[1].state
        expected.setdefault(str(sample.part), []).append(state)
    assert answers == {part: worst_state(states) for part, states in expected.items()}
    assert sum(answers[part] is State.GO for part in bad) <= 4
