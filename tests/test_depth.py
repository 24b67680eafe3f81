"""16-bit grey pictures: their levels, from the camera and the data set to the verdict, the record and the pages."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from typer.testing import CliRunner

from gonogo import images
from gonogo.bundle import read_bundle
from gonogo.capture import CaptureError, HealthCheck, HealthLimits, measure
from gonogo.capture.camera import Acquired
from gonogo.capture.genicam import to_counts
from gonogo.cli import app
from gonogo.config import Depth, PictureLimits, Recipe
from gonogo.dataset import Dataset, Sample, Split, add_folder, export_dataset, import_folder
from gonogo.dataset import Format as ExportFormat
from gonogo.dataset.levels import levels_of, measure_levels, with_levels
from gonogo.dataset.reading import Reading, read_all
from gonogo.errors import DatasetError, ImageError, InputError
from gonogo.evaluate import evaluate
from gonogo.images import Photograph
from gonogo.inspector import Inspector
from gonogo.ledger import FrameStore, Ledger
from gonogo.operating_point import Promise
from gonogo.schema import Label, State
from gonogo.server.label.photos import Photos
from gonogo.station import CameraParts, ModelSlot, Station, Trigger
from gonogo.station.models import load_model
from gonogo.testing import FakeCamera
from gonogo.workflow.options import TrainingOptions
from gonogo.workflow.training import train_inspector
from test_station import settings as station_settings
from tiny_bundle import SIDE, make_bundle, make_parts

LEVELS = Depth(black=29_500, white=31_000)
EIGHT_BITS = np.full((72, 96, 3), 120, np.uint8)


def counts(seed: int, *, spot: int = 0, base: int = 30_000) -> np.ndarray:
    """A flat part in 16 bits: its noise is 12 counts, its shading 200, and a spot of 20 pixels differs by ``spot``."""
    rng = np.random.default_rng(seed)
    raw = base + np.linspace(0, 200, 96)[None, :] + rng.normal(0, 12, (72, 96))
    x, y = rng.integers(16, 80), rng.integers(16, 56)
    ys, xs = np.mgrid[:72, :96]
    raw[(xs - x) ** 2 + (ys - y) ** 2 < 100] += spot
    return raw.astype(np.uint16)


def png16(raw: np.ndarray) -> bytes:
    return images.encode_png(raw)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_without_levels_a_16_bit_picture_keeps_its_upper_byte_as_before(suffix: str) -> None:
    raw = np.random.default_rng(0).integers(0, 65_536, (40, 50)).astype(np.uint16)
    data = cv2.imencode(suffix, raw)[1].tobytes()
    frame = images.decode(data)
    assert np.array_equal(frame[..., 0], (raw >> 8).astype(np.uint8))
    assert np.array_equal(frame, Photograph(raw).frame)
    found = images.decode_raw(data)
    assert found is not None
    assert np.array_equal(found, raw)
    assert np.array_equal(images.decode_raw(data), raw)


def test_levels_are_applied_once_in_floating_point() -> None:
    depth = Depth(black=1_000, white=5_000)
    raw = np.array([[0, 1_000, 1_008, 1_024, 3_000, 5_000, 65_535]], np.uint16)
    expected = [0, 0, round(255 * 8 / 4_000), round(255 * 24 / 4_000), 128, 255, 255]
    assert images.levelled(raw, depth)[0, :, 0].tolist() == expected
    assert np.array_equal(images.decode(png16(np.repeat(raw, 8, 0)), depth=depth)[0], images.levelled(raw, depth)[0])


def test_a_contrast_of_100_counts_vanishes_in_8_bits_and_is_seen_with_levels() -> None:
    good, bad = counts(1), counts(1, spot=100)
    plain = np.abs(images.decode(png16(bad)).astype(int) - images.decode(png16(good)).astype(int))
    levels = np.abs(images.levelled(bad, LEVELS).astype(int) - images.levelled(good, LEVELS).astype(int))
    assert plain.max() <= 1
    assert levels.max() >= 16


@pytest.mark.parametrize(
    "data", [images.encode_png(np.zeros((8, 8), np.uint8)), images.encode_jpeg(np.zeros((8, 8, 3), np.uint8))]
)
def test_a_picture_without_16_bits_is_refused_where_the_recipe_has_levels(data: bytes) -> None:
    with pytest.raises(ImageError, match="expected a 16-bit grey picture"):
        Photograph(data).judged(Recipe(depth=LEVELS))
    with pytest.raises(ImageError, match="expected 16-bit grey counts"):
        Photograph(np.zeros((8, 8, 3), np.uint8)).judged(Recipe(depth=LEVELS))


def test_colour_of_16_bits_and_counts_of_32_bits_are_no_grey_counts() -> None:
    colour = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint16))[1].tobytes()
    assert images.decode_raw(colour) is None
    with pytest.raises(ImageError, match="16-bit grey"):
        images.decode(colour, depth=LEVELS)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.int32), mode="I").save(buffer, "TIFF")
    with pytest.raises(ImageError):
        images.decode(buffer.getvalue(), depth=LEVELS)
    with pytest.raises(ImageError, match="pixels"):
        images.decode_raw(png16(counts(0)), limits=PictureLimits(max_pixels=10))


def test_one_photograph_gives_each_recipe_its_own_levels_and_shows_the_last() -> None:
    raw = counts(3)
    other = Depth(black=0, white=40_000)
    for photograph in (Photograph(raw), Photograph(png16(raw))):
        for depth in (LEVELS, other, LEVELS):
            assert np.array_equal(photograph.judged(Recipe(depth=depth)), images.levelled(raw, depth))
            assert np.array_equal(photograph.frame, images.levelled(raw, depth))
        assert photograph.size_wh == (96, 72)
        reduced = photograph.judged(Recipe(depth=LEVELS, reduction=2, reduced_by="mean"))
        assert reduced.shape == (36, 48, 3)


@pytest.mark.parametrize(("black", "white"), [(5, 5), (6, 5), (-1, 5), (0, 65_536)])
def test_levels_that_make_no_sense_are_refused(black: int, white: int) -> None:
    with pytest.raises(ValidationError):
        Depth(black=black, white=white)


def test_pixels_beyond_the_levels_count_as_saturated_or_dark_in_picture_health() -> None:
    check = HealthCheck(HealthLimits(saturated=0.25, darkest=40))
    clipped = images.levelled(counts(1), Depth(black=29_000, white=30_100))
    assert 0.4 < measure(clipped).saturated < 0.65
    with pytest.raises(CaptureError, match="white"):
        check.require(clipped)
    with pytest.raises(CaptureError, match="dark"):
        check.require(images.levelled(counts(2), Depth(black=31_000, white=32_000)))
    check.require(images.levelled(counts(3), LEVELS))


# --- cameras and records


def test_a_camera_s_counts_are_stored_at_full_depth_and_judged_alike_again(tmp_path: Path) -> None:
    raw = counts(4)
    frames = FrameStore(tmp_path)
    recipe = Recipe(depth=LEVELS)
    acquired = Acquired(photograph=Photograph(raw), at=datetime.now(UTC))
    unpacked = acquired.unpacked(recipe)
    delivered = acquired.photograph.raw
    assert delivered is not None
    digest = frames.put_frame(delivered)
    again = frames.photograph(digest)
    assert np.array_equal(images.decode_raw(frames.read(digest)), raw)
    assert np.array_equal(again.judged(recipe), unpacked)
    assert np.array_equal(again.judged(recipe), acquired.photograph.judged(recipe))


def test_counts_of_a_genicam_camera_are_little_endian_and_complete() -> None:
    data = np.array([1, 0, 255, 15, 0, 1, 7, 7], np.uint8)
    assert to_counts(data, (2, 2)).tolist() == [[1, 0x0FFF], [256, 0x0707]]
    with pytest.raises(CaptureError, match="expected 8 bytes"):
        to_counts(data[:6], (2, 2))


# --- data sets


def folder(root: Path, *, number: int = 12, spot: int = 100, base: int = 30_000) -> Path:
    for index in range(number):
        path = root / ("bad" if index % 2 else "good") / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png16(counts(index, spot=spot * (index % 2), base=base)))
    return root


@pytest.mark.slow
def test_an_import_measures_levels_on_the_train_split_and_everything_uses_them(tmp_path: Path) -> None:
    imported = import_folder(folder(tmp_path / "photos"), tmp_path / "parts")
    data = Dataset.read(tmp_path / "parts")
    depth = data.depth
    assert depth is not None
    assert imported.dataset.depth == depth == measure_levels(data)
    assert 29_800 < depth.black < 30_000
    assert 30_200 < depth.white < 30_500
    assert any("16 bits" in note for note in imported.notes)
    sample = data.samples[0]
    raw = images.decode_raw(data.path(sample).read_bytes())
    assert raw is not None
    assert np.array_equal(data.load(sample), images.levelled(raw, depth))
    assert levels_of(data.path(sample)) == depth
    shown = images.decode(Photos().jpeg(data.path(sample), 320))
    assert shown.std() > 20  # with upper bytes it would be one grey
    added = add_folder(folder(tmp_path / "more", number=2, base=30_050), tmp_path / "parts")
    assert added.dataset.depth == depth == Dataset.read(tmp_path / "parts").depth
    again = import_folder(tmp_path / "parts", tmp_path / "copy")
    assert again.dataset.depth == depth


def test_an_export_keeps_the_files_bit_for_bit(tmp_path: Path) -> None:
    data = import_folder(folder(tmp_path / "photos"), tmp_path / "parts").dataset
    export_dataset(data, tmp_path / "out", ExportFormat.COCO)
    before = sorted(data.path(sample).read_bytes() for sample in data.samples)
    after = sorted(path.read_bytes() for path in (tmp_path / "out").rglob("*.png"))
    assert after == before


def test_pictures_that_differ_only_in_their_lower_bytes_are_no_duplicates(tmp_path: Path) -> None:
    for index in range(2):
        (tmp_path / f"{index}.png").write_bytes(png16(counts(index) & 0xFF | 0x7500))
    first, second = read_all([(tmp_path / f"{index}.png", None) for index in range(2)], "Reading")
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    assert first.pixels_sha256 != second.pixels_sha256


def test_pictures_of_8_bits_have_no_levels_and_a_mixture_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = tmp_path / "photos"
    for index in range(8):
        path = source / ("bad" if index % 2 else "good") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encode_png(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)))
    assert import_folder(source, tmp_path / "parts").dataset.depth is None
    for index in range(2, 8):
        path = source / ("bad" if index % 2 else "good") / f"{index}.png"
        path.write_bytes(png16(rng.integers(0, 65_535, (64, 64)).astype(np.uint16)))
    with pytest.raises(DatasetError, match="found both"):
        measure_levels(_unsplit(source, tmp_path / "mixed"))


def _unsplit(source: Path, root: Path) -> Dataset:
    root.mkdir()
    samples = []
    for index, path in enumerate(sorted(source.rglob("*.png"), key=lambda path: path.name, reverse=True)):
        (root / path.name).write_bytes(path.read_bytes())
        samples.append(Sample(file_name=path.name, label=Label.GOOD, part=str(index)))
    return Dataset(root=root, samples=tuple(samples))


@pytest.mark.slow
def test_the_command_shows_sets_and_measures_levels(tmp_path: Path) -> None:
    import_folder(folder(tmp_path / "photos"), tmp_path / "parts")
    root = str(tmp_path / "parts")
    measured = json.loads(CliRunner().invoke(app, ["dataset", "levels", root, "--json"]).output)
    done = CliRunner().invoke(app, ["dataset", "levels", root, "--black", "29000", "--white", "32000"])
    assert done.output == "black 29,000, white 32,000\n"
    assert Dataset.read(root).depth == Depth(black=29_000, white=32_000)
    again = CliRunner().invoke(app, ["dataset", "levels", root, "--measure", "--json"])
    assert json.loads(again.output) == measured
    for wrong in (["--black", "5"], ["--black", "9", "--white", "5"], ["--measure", "--black", "1", "--white", "2"]):
        assert isinstance(CliRunner().invoke(app, ["dataset", "levels", root, *wrong]).exception, InputError)
    (tmp_path / "parts" / "levels.json").write_text("{")
    with pytest.raises(DatasetError, match="dataset levels"):
        Dataset.read(root)


# --- a whole inspector


@pytest.fixture(scope="module")
def deep_parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """108 pictures; the bad ones differ by a spot of 100 counts in 65,536."""
    root = tmp_path_factory.mktemp("deep") / "parts"
    (root / "images").mkdir(parents=True)
    samples = []
    for index in range(108):
        bad = index % 2 == 1
        name = f"images/{index:03d}.png"
        (root / name).write_bytes(png16(counts(index, spot=100 * bad)))
        split = (Split.TRAIN, Split.TRAIN, Split.VAL, Split.CALIBRATE, Split.CALIBRATE, Split.TEST)[index // 2 % 6]
        samples.append(Sample(file_name=name, label=Label.BAD if bad else Label.GOOD, part=f"p{index}", split=split))
    dataset = Dataset(root=root, samples=tuple(samples))
    dataset.write()
    return with_levels(dataset)


@pytest.mark.slow
def test_a_defect_of_100_counts_is_learned_certified_and_found_and_8_bits_are_a_fault(
    deep_parts: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "deep.inspector"
    options = TrainingOptions(size_wh=(96, 64), promise=Promise(max_escape=0.2, max_overkill=0.2))
    train_inspector(deep_parts, out, options)
    inspector = Inspector.load(out)
    assert inspector.recipe.depth == deep_parts.depth
    judged = evaluate(inspector, deep_parts, (Split.TEST,))
    bad, good = judged.scores(Label.BAD), judged.scores(Label.GOOD)
    assert min(bad) > max(good)
    golden = read_bundle(out).golden()
    assert golden
    for _, photograph, _ in golden:
        assert photograph.data is not None
        assert images.decode_raw(photograph.data) is not None
    raw = counts(500, spot=100)
    for picture in (Photograph(raw), Photograph(png16(raw)), Photograph(cv2.imencode(".tiff", raw)[1].tobytes())):
        assert inspector.inspect(picture).score == pytest.approx(inspector.inspect(Photograph(raw)).score)
    verdict = inspector.inspect(np.zeros((72, 96, 3), np.uint8))
    assert verdict.state is State.FAULT
    assert "16-bit" in verdict.reason


def test_8_bit_pictures_are_judged_as_before(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path / "parts", np.random.default_rng(0))
    bundle = make_bundle(tmp_path / "red.inspector", dataset)
    inspector = Inspector.load(bundle.root)
    assert inspector.recipe.depth is None
    path = dataset.path(dataset.samples[0])
    verdict = inspector.inspect(images.load_picture(path))
    assert verdict.score == inspector.inspect_file(path)[1].score
    assert replace(dataset, depth=None) == dataset


def test_a_station_judges_and_stores_16_bits_and_the_ledger_s_frame_gives_the_same_score(tmp_path: Path) -> None:
    import_folder(folder(tmp_path / "photos"), tmp_path / "parts")
    dataset = Dataset.read(tmp_path / "parts")
    recipe = Recipe(size_wh=(SIDE, SIDE), depth=dataset.depth)
    bundle = make_bundle(tmp_path / "red.inspector", dataset, recipe=recipe)
    slot = ModelSlot(bundle.root, tmp_path / "copies", loader=load_model)
    camera = FakeCamera(lambda trigger: Photograph(counts(int(trigger)) if trigger != "8" else EIGHT_BITS))
    view = CameraParts(name="main", open_camera=lambda: camera, health=HealthLimits(sharpness=0.0), slot=slot)
    chosen = station_settings(tmp_path / "line").model_copy(update={"window_s": 30.0, "camera_timeout_s": 20.0})
    station = Station(chosen, (view,))
    station.start()
    answers = {
        name: station.judge(Trigger(id=name, at=datetime.now(UTC), due_s=time.monotonic() + 30.0))
        for name in ("5", "8")
    }
    station.close()
    assert answers["5"].state is State.REVIEW  # no thresholds yet
    assert answers["8"].state is State.FAULT
    assert "16-bit" in answers["8"].reason
    with Ledger.open(chosen.ledger, create=False) as ledger:
        row = ledger.find("s1", "5")
        assert row is not None
        digest = row.record.views[0].frame_sha256
        assert digest is not None
        assert np.array_equal(images.decode_raw(ledger.frames.read(digest)), counts(5))
        again = Inspector.load(bundle.root).inspect(ledger.frames.photograph(digest))
    assert again.score == answers["5"].score
