from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import gonogo
from gonogo import bundle, images, runtime
from gonogo.dataset import Dataset, Split
from gonogo.errors import BundleError, InputError
from gonogo.evaluate import evaluate
from gonogo.evidence import pool
from gonogo.images import Photograph, crop_resize
from gonogo.inspector import Inspector
from gonogo.manifest import Manifest
from gonogo.operating_point import describe_claims
from gonogo.schema import Box, Frame, Label, Located, State


@pytest.fixture(scope="module")
def inspector(trained: Path) -> Inspector:
    return Inspector.load(trained)


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy.inspector"))


def reseal(root: Path, **changes: object) -> None:
    manifest = Manifest.model_validate_json((root / bundle.MANIFEST).read_bytes())
    bundle.write_manifest(root, manifest.model_copy(update=changes))


@pytest.mark.slow
def test_it_tells_good_from_bad_and_certifies_it(inspector: Inspector, discs: Dataset) -> None:
    judged = evaluate(inspector, discs, (Split.TEST,))
    assert judged.auroc is not None
    assert judged.auroc > 0.9
    point = inspector.operating_point
    assert point is not None
    assert point.escape.parts == 60
    assert point.escape.holds
    assert "95 %" in describe_claims(point.escape)


def pooled_evidence(inspector: Inspector, frame: Frame) -> tuple[np.ndarray, float]:
    """The maps of all kinds of evidence of a frame, and what their poolings add up to."""
    made, recipe = inspector.bundle.manifest.classifier, inspector.recipe
    picture = crop_resize(frame, Box.whole(frame), recipe.size_wh)
    maps = runtime.compile_graph(inspector.bundle.classifier)(picture)["evidence"][0]
    weights = {each.kind: each.weight for each in made.evidence}
    return maps, sum(
        pool(each.kind, one, weights.get("cells", 0.0)) for each, one in zip(made.evidence, maps, strict=True)
    )


@pytest.mark.slow
def test_the_heat_map_explains_the_score(inspector: Inspector, discs: Dataset) -> None:
    for sample in discs.split(Split.TEST)[:6]:
        verdict = inspector.inspect(discs.load(sample))
        assert verdict.heatmap is not None
        assert verdict.score is not None
        maps, pooled = pooled_evidence(inspector, discs.load(sample))
        np.testing.assert_allclose(maps.sum(0), verdict.heatmap, atol=1e-5)
        assert pooled + inspector.bias == pytest.approx(verdict.score, abs=1e-5)


def test_the_hottest_point_lies_on_the_defect(inspector: Inspector, discs: Dataset) -> None:
    found = evaluate(inspector, discs, (Split.TEST,)).localisation
    assert found.pointing.value is not None
    assert found.centre.value is not None
    assert found.pointing.value > max(0.6, found.centre.value)


def test_a_verdict_does_not_change_with_what_was_judged_before(inspector: Inspector, discs: Dataset) -> None:
    first, second = (discs.load(sample) for sample in discs.split(Split.TEST)[:2])
    before = inspector.inspect(first)
    inspector.inspect(second)
    again = inspector.inspect(first)
    assert again.score == before.score
    assert np.array_equal(again.heatmap, before.heatmap)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "broken",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
        "photo.jpg",
        None,
    ],
)
def test_what_is_no_frame_is_a_fault_and_never_go(inspector: Inspector, broken: object) -> None:
    verdict = inspector.inspect(broken)  # type: ignore[arg-type]
    assert verdict.state is State.FAULT
    assert verdict.score is None
    assert verdict.reason


def test_a_network_that_gives_no_number_is_a_fault(trained: Path, frame: Frame) -> None:
    loaded = Inspector.load(trained)

    def broken_graph(_: object) -> dict[str, np.ndarray]:
        return {"score": np.array([np.nan]), "heatmap": np.zeros((1, 2, 2)), "feature_vector": np.zeros((1, 3))}

    loaded._graph = broken_graph  # type: ignore[assignment]
    assert loaded.inspect(frame).state is State.FAULT


def test_an_unreadable_file_is_a_fault_with_its_reason(inspector: Inspector, tmp_path: Path) -> None:
    path = tmp_path / "part.jpg"
    path.write_text("hello")
    frame, verdict = inspector.inspect_file(path)
    assert frame is None
    assert verdict.state is State.FAULT
    assert "part.jpg" in verdict.reason


@pytest.mark.slow
def test_without_an_operating_point_everything_goes_to_review(copy: Path, discs: Dataset) -> None:
    reseal(copy, operating_point=None)
    unsure = Inspector.load(copy)
    verdicts = [unsure.inspect(discs.load(sample)) for sample in discs.split(Split.TEST)[:8]]
    assert {verdict.state for verdict in verdicts} == {State.REVIEW}
    assert all(verdict.score is not None for verdict in verdicts)


@pytest.mark.parametrize("name", [bundle.MANIFEST, "classifier.bin", "classifier.xml", bundle.SEAL, bundle.MODEL_CARD])
def test_a_flipped_byte_anywhere_is_refused(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match="changed after it was sealed"):
        Inspector.load(copy)


def test_an_added_or_a_missing_file_is_refused(copy: Path) -> None:
    (copy / "extra.txt").write_text("x")
    with pytest.raises(BundleError, match=r"extra\.txt"):
        bundle.read_bundle(copy)
    (copy / "extra.txt").unlink()
    next((copy / "golden").iterdir()).unlink()
    with pytest.raises(BundleError, match="golden"):
        bundle.read_bundle(copy)


@pytest.mark.slow
def test_a_reduced_judgement_says_places_in_the_full_picture(copy: Path, discs: Dataset) -> None:
    whole = Inspector.load(copy)
    reseal(copy, recipe=whole.recipe.model_copy(update={"reduction": 2}), golden=())
    reduced = Inspector.load(copy)
    small = discs.load(discs.split(Split.TEST)[1])
    large = np.ascontiguousarray(cv2.resize(small, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)[:, :-1])
    encoded = images.encode_png(large)
    expected, found = whole.inspect(small), reduced.inspect_encoded(encoded)
    assert found.score == pytest.approx(expected.score, abs=0.05)
    assert found.box == Box.whole(large)
    assert found.region is not None
    left = Box(x1=0, y1=0, x2=96, y2=144)
    assert reduced.inspect(Photograph(encoded), located=Located(present=True, box=left)).region == left


@pytest.mark.slow
def test_a_file_judged_at_a_fraction_comes_back_whole(copy: Path, discs: Dataset, tmp_path: Path) -> None:
    reseal(copy, recipe=Inspector.load(copy).recipe.model_copy(update={"reduction": 2}), golden=())
    sample = discs.split(Split.TEST)[0]
    photograph, verdict = Inspector.load(copy).inspect_file(discs.path(sample))
    assert photograph is not None
    assert np.array_equal(photograph.frame, discs.load(sample))
    assert verdict.state is not State.FAULT
    (tmp_path / "cut.png").write_bytes(discs.path(sample).read_bytes()[:200])
    frame, verdict = Inspector.load(copy).inspect_file(tmp_path / "cut.png")
    assert frame is None
    assert verdict.state is State.FAULT


def test_bytes_that_are_no_picture_are_a_fault_by_name(inspector: Inspector) -> None:
    verdict = inspector.inspect_encoded(b"hello", name="camera 2")
    assert verdict.state is State.FAULT
    assert "camera 2" in verdict.reason


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="gonogo train"):
        Inspector.load(tmp_path)


@pytest.mark.slow
def test_golden_frames_that_score_otherwise_are_refused(copy: Path) -> None:
    manifest = bundle.read_bundle(copy).manifest
    wrong = tuple(each.model_copy(update={"score": each.score + 0.5}) for each in manifest.golden)
    reseal(copy, golden=wrong)
    with pytest.raises(BundleError, match="expected a score of"):
        Inspector.load(copy)
    reseal(copy, golden=tuple(each.model_copy(update={"score": each.score + 1e-6}) for each in manifest.golden))
    with pytest.raises(BundleError, match="same kind of machine"):
        Inspector.load(copy)
    reseal(
        copy,
        proven_on={"processor": "another"},
        golden=tuple(each.model_copy(update={"score": each.score + 1e-6}) for each in manifest.golden),
    )
    assert Inspector.load(copy).bundle_sha256


def test_a_new_operating_point_is_a_revision_of_the_same_graph(copy: Path) -> None:
    opened = bundle.read_bundle(copy)
    point = opened.manifest.operating_point
    assert point is not None
    changed = bundle.replace_operating_point(
        opened, replace(point, go_below=point.go_below - 1), now="2026-01-01T00:00:00+00:00"
    )
    assert changed.sha256 != opened.sha256
    assert len(changed.manifest.revisions) == 1
    assert changed.manifest.revisions[0].bundle_sha256 == opened.sha256
    assert changed.manifest.golden == opened.manifest.golden


def test_the_python_way_in_is_the_package_itself(trained: Path, discs: Dataset) -> None:
    loaded = gonogo.Inspector.load(trained)
    sample = next(sample for sample in discs.split(Split.TEST) if sample.label is Label.GOOD)
    verdict = loaded.inspect(discs.load(sample))
    assert isinstance(verdict, gonogo.Verdict)
    assert verdict.box is not None
    assert verdict.box.xyxy == (0, 0, 96, 72)
    assert set(verdict.timings_ms) >= {"roi", "resize", "network", "total"}


def test_a_bundle_is_not_replaced_by_accident(trained: Path, discs: Dataset) -> None:
    from gonogo.workflow import train_inspector

    with pytest.raises(InputError, match="already exists"):
        train_inspector(discs, trained)


def test_the_manifest_is_plain_json_with_the_evidence(trained: Path) -> None:
    manifest = json.loads((trained / bundle.MANIFEST).read_text())
    assert manifest["operating_point"]["escape"]["parts"] == 60
    assert len(manifest["golden"]) == 4
    assert manifest["precision"] == "f32"
