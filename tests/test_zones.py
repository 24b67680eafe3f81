"""Zones from recipe to verdict: what is blanked reaches no network, on no path, and each zone has its own judgement."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gonogo import bundle
from gonogo.certification import recertify
from gonogo.certification.hidden import hidden_defects, relabel_hidden_defects
from gonogo.config import IgnoreZone, InspectZone, Zone
from gonogo.dataset import Dataset
from gonogo.errors import BundleError, DatasetError, InputError
from gonogo.evidence import pool
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise
from gonogo.roi import WholeRoi
from gonogo.schema import Box, Frame, State, Verdict
from gonogo.workflow import TrainingOptions, train_inspector
from gonogo.workflow.learning import options_of

CODE = IgnoreZone(kind="ignore", name="date code", polygon=((0.1, 0.55), (0.6, 0.55), (0.6, 0.95), (0.1, 0.95)))
LEFT = InspectZone(
    kind="inspect", name="left", polygon=((0.0, 0.0), (0.4, 0.0), (0.4, 1.0), (0.0, 1.0)), sensitivity=0.2
)
SIZE_WH = (96, 64)
KEEP = Promise(keep_hidden=True)


@pytest.mark.slow
def test_an_inspector_that_learns_again_keeps_its_zones(make: Callable[..., Path]) -> None:
    assert options_of(Inspector.load(make("both", CODE, LEFT))).zones == (CODE, LEFT)


@pytest.fixture(scope="module")
def make(discs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[str, Path] = {}

    def train(name: str, *zones: Zone, **options: object) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("zoned") / f"{name}.inspector"
            wanted = TrainingOptions(size_wh=SIZE_WH, zones=zones, promise=KEEP)
            train_inspector(discs, made[name], replace(wanted, **options))  # type: ignore[arg-type]
        return made[name]

    return train


def frame_of(discs: Dataset, index: int) -> Frame:
    return discs.load(discs.samples[index])


def scribbled(frame: Frame, seed: int = 0) -> Frame:
    """The frame with noise in the pixels of `CODE`."""
    changed = frame.copy()
    height, width = frame.shape[:2]
    x1, x2, y1, y2 = round(0.1 * width), round(0.6 * width), round(0.55 * height), round(0.95 * height)
    changed[y1:y2, x1:x2] = np.random.default_rng(seed).integers(0, 256, (y2 - y1, x2 - x1, 3), np.uint8)
    return changed


def assert_adds_up(inspector: Inspector, verdict: Verdict) -> None:
    """The deciding zone's cells of the heat map, pooled, plus its bias, are the score (for a bundle with evidence)."""
    stated = inspector.bundle.manifest.classifier
    assert verdict.heatmap is not None
    assert verdict.zone_numbers is not None
    names = [zone.name for zone in verdict.zones]
    number = names.index(verdict.zone) + 1 if names else 1
    own = verdict.zone_numbers == number
    bias = stated.zones[number - 1].bias if names else stated.bias
    kinds = [each.kind for each in stated.evidence]
    if kinds == ["memory"]:
        assert pool("memory", verdict.heatmap[own], 0.0) + bias == pytest.approx(verdict.score, abs=1e-3)


@pytest.mark.slow
def test_nothing_inside_an_ignore_zone_changes_the_judgement(make: Callable[..., Path], discs: Dataset) -> None:
    inspector = Inspector.load(make("ignore", CODE))
    for index in (0, 1):
        frame = frame_of(discs, index)
        verdicts = [inspector.inspect(each) for each in (frame, scribbled(frame), scribbled(frame, 1))]
        assert len({verdict.score for verdict in verdicts}) == 1
        assert all((each.feature_vector == verdicts[0].feature_vector).all() for each in verdicts)
        assert all((each.heatmap == verdicts[0].heatmap).all() for each in verdicts)


@pytest.mark.slow
def test_without_the_zone_the_same_scribble_changes_it(trained: Path, discs: Dataset) -> None:
    inspector, frame = Inspector.load(trained), frame_of(discs, 0)
    assert inspector.inspect(frame).score != inspector.inspect(scribbled(frame)).score


@pytest.mark.slow
def test_the_frame_of_the_caller_is_not_blanked(make: Callable[..., Path], discs: Dataset) -> None:
    inspector, frame = Inspector.load(make("ignore", CODE)), frame_of(discs, 0)
    before = frame.copy()
    inspector.inspect(frame)
    assert (frame == before).all()


@pytest.mark.slow
def test_cells_of_an_ignore_zone_are_left_out_and_cold(make: Callable[..., Path], discs: Dataset) -> None:
    inspector = Inspector.load(make("ignore", CODE))
    verdict = inspector.inspect(frame_of(discs, 1))
    assert verdict.zone_numbers is not None
    assert verdict.heatmap is not None
    left_out = verdict.zone_numbers == 0
    assert left_out.any()
    assert set(np.unique(verdict.zone_numbers)) == {0, 1}
    assert (verdict.heatmap[left_out] <= verdict.heatmap[~left_out].min() + 1e-4).all()
    assert verdict.zones == ()
    assert_adds_up(inspector, verdict)


@pytest.mark.slow
def test_the_part_has_the_score_of_its_worst_zone_and_every_zone_its_own_judgement(
    make: Callable[..., Path], discs: Dataset
) -> None:
    inspector = Inspector.load(make("both", CODE, LEFT))
    assert [zone.name for zone in inspector.bundle.manifest.classifier.zones] == ["left", "rest"]
    seen = set()
    for index in range(12):
        verdict = inspector.inspect(frame_of(discs, index))
        assert [zone.name for zone in verdict.zones] == ["left", "rest"]
        worst = max(verdict.zones, key=lambda zone: zone.score)
        assert (worst.name, worst.score) == (verdict.zone, pytest.approx(verdict.score, abs=1e-5))
        assert worst.state is verdict.state or verdict.state is State.REVIEW
        assert f"in zone {verdict.zone}" in verdict.reason
        assert verdict.zone_numbers is not None
        assert set(np.unique(verdict.zone_numbers)) == {0, 1, 2}
        assert_adds_up(inspector, verdict)
        seen.add(verdict.zone)
    assert seen == {"left", "rest"}


@pytest.mark.slow
def test_a_defect_is_blamed_on_the_zone_that_it_lies_in(make: Callable[..., Path], discs: Dataset) -> None:
    inspector = Inspector.load(make("both", CODE, LEFT))
    good = frame_of(discs, 0)
    for x, zone in ((18, "left"), (78, "rest")):
        spotted = good.copy()
        spotted[12:28, x - 8 : x + 8] = np.clip(spotted[12:28, x - 8 : x + 8].astype(int) - 70, 0, 255)
        assert inspector.inspect(spotted).zone == zone


def test_bundles_without_zones_have_none_in_their_verdicts(trained: Path, discs: Dataset) -> None:
    verdict = Inspector.load(trained).inspect(frame_of(discs, 0))
    assert (verdict.zones, verdict.zone, verdict.zone_numbers, verdict.margin) == ((), "", None, 0.0)


@pytest.mark.parametrize(
    ("zones", "message"),
    [
        ([CODE.model_copy(update={"polygon": ((-1, -1), (2, -1), (2, 2), (-1, 2))})], "cover the whole"),
        (
            [CODE.model_copy(update={"polygon": ((1.2, 0), (1.4, 0), (1.4, 0.2))})],
            "corners inside the inspected region",
        ),
        ([LEFT, LEFT.model_copy(update={"name": "again"})], "other zones cover all"),
        ([CODE, LEFT.model_copy(update={"polygon": CODE.polygon})], "other zones cover all"),
    ],
)
def test_zones_without_a_use_are_refused_before_training(
    zones: list[Zone], message: str, discs: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train_inspector(discs, tmp_path / "x.inspector", TrainingOptions(size_wh=SIZE_WH, zones=tuple(zones)))
    assert not (tmp_path / "x.inspector").exists()


def changed(path: Path, tmp_path: Path, change: Callable[[dict[str, object]], None]) -> Path:
    """A copy of a bundle with a changed manifest and a valid seal."""
    copy = tmp_path / "changed.inspector"
    shutil.copytree(path, copy)
    manifest = json.loads((copy / bundle.MANIFEST).read_text())
    change(manifest)
    (copy / bundle.MANIFEST).write_text(json.dumps(manifest))
    digest = hashlib.sha256((copy / bundle.MANIFEST).read_bytes()).hexdigest()
    lines = (copy / bundle.SEAL).read_text().splitlines()
    lines = [f"{digest}  {bundle.MANIFEST}" if line.endswith(bundle.MANIFEST) else line for line in lines]
    (copy / bundle.SEAL).write_text("".join(f"{line}\n" for line in lines))
    return copy


@pytest.mark.slow
def test_an_operating_point_of_other_zones_is_refused(make: Callable[..., Path], tmp_path: Path) -> None:
    def moved(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["recipe"]["zones"][0]["polygon"][0] = [0.2, 0.55]

    def without(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["recipe"]["zones"] = []

    def unbound(manifest: dict) -> None:  # type: ignore[type-arg]
        del manifest["operating_point"]["zones_sha256"]

    for number, change in enumerate((moved, without, unbound)):
        (folder := tmp_path / str(number)).mkdir()
        with pytest.raises(BundleError, match="zones"):
            Inspector.load(changed(make("ignore", CODE), folder, change))


@pytest.mark.slow
def test_recertifying_keeps_the_zones(make: Callable[..., Path], discs: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "again.inspector"
    shutil.copytree(make("ignore", CODE), copy)
    with pytest.raises(DatasetError, match="--keep-hidden"):
        recertify(Inspector.load(copy), discs)
    made = recertify(Inspector.load(copy), discs, KEEP)
    assert made.point.zones_sha256 == Inspector.load(copy).operating_point.zones_sha256 != ""  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_part_that_is_located_beyond_the_frame_keeps_its_zones_in_place(
    make: Callable[..., Path], discs: Dataset
) -> None:
    from gonogo.schema import Located

    inspector = Inspector.load(make("ignore", CODE))
    frame = frame_of(discs, 0)
    shifted = np.roll(frame, -10, axis=1)
    located = Located(present=True, box=Box(x1=-10, y1=0, x2=86, y2=72))
    scribble = shifted.copy()
    scribble[40:68, 0:47] = 255  # inside the zone: x from -0.4 to 47.6, y from 39.6 to 68.4
    first, second = (inspector.inspect(each, located=located) for each in (shifted, scribble))
    assert first.score == second.score
    assert not isinstance(first.region, Box)


@pytest.mark.slow
def test_bad_parts_that_a_zone_hides_are_listed_and_relabelled_on_request_only(discs: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "discs"
    shutil.copytree(discs.root, copy)
    dataset = Dataset.read(copy)
    found = hidden_defects(dataset, WholeRoi(), (CODE,))
    assert 0 < len(found) < 30
    for sample in found:
        mask = dataset.load_mask(sample, (72, 96))
        assert mask is not None
        assert not mask[:40].any()
    with pytest.raises(DatasetError, match=f"found {len(found)}"):
        train_inspector(dataset, tmp_path / "x.inspector", TrainingOptions(size_wh=SIZE_WH, zones=(CODE,)))
    assert Dataset.read(copy) == dataset
    assert relabel_hidden_defects(dataset, [sample.file_name for sample in found]) == len(found)
    after = Dataset.read(copy)
    assert hidden_defects(after, WholeRoi(), (CODE,)) == ()
    before = {sample.file_name: sample for sample in dataset.samples}
    for sample in after.samples:
        if sample.file_name in {each.file_name for each in found}:
            assert sample.label == "good"
            assert "was bad (spot)" in (sample.model_extra or {})["relabelled"]
        else:
            assert sample == before[sample.file_name]
    assert relabel_hidden_defects(after, [sample.file_name for sample in found]) == 0


def test_a_part_that_shows_its_defect_in_another_picture_is_not_hidden(discs: Dataset) -> None:
    found = hidden_defects(discs, WholeRoi(), (CODE,))
    seen = next(s for s in discs.samples if s.label == "bad" and s not in found)
    twins = [found[0].model_copy(update={"part": "one"}), seen.model_copy(update={"part": "one"})]
    assert hidden_defects(replace(discs, samples=tuple(twins)), WholeRoi(), (CODE,)) == ()
