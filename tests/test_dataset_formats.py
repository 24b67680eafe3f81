"""The label formats of other tools: out and in again, hostile files, and what each tool's files look like."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import images
from gonogo.cli import dataset as cli
from gonogo.dataset import Dataset, ImportOptions, Sample, import_folder, write_metadata
from gonogo.dataset.annotations import read_annotations
from gonogo.dataset.exporting import Format, export_dataset
from gonogo.dataset.outlines import Polygons, traced
from gonogo.dataset.run_lengths import brush_code, brush_mask, coco_lengths, coco_text, from_run_lengths, run_lengths
from gonogo.errors import DatasetError, InputError
from gonogo.schema import Label
from label_files import put, random_dataset, random_mask, round_trip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twelve pictures with everything a data set can say."""
    return random_dataset(tmp_path_factory.mktemp("drawn"), np.random.default_rng(5), 12)


@pytest.fixture
def photo(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder with one photograph, a.png, 40 wide and 30 high."""
    frame = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    put(tmp_path / "photos" / "a.png", images.encode_png(frame))
    return tmp_path / "photos"


def brought_in(photo: Path, annotations: Path, **options: Any) -> tuple[Sample, Any, tuple[str, ...]]:
    """Import one photograph with a label file; return its record, its mask and the notes."""
    out = photo.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    imported = import_folder(photo, out, ImportOptions(annotations=annotations, unlabelled=True, **options))
    sample = imported.dataset.samples[0]
    return sample, imported.dataset.load_mask(sample, (30, 40)), imported.notes


def pixels_of(dataset: Dataset, sample: Sample) -> bytes:
    return dataset.load(sample).tobytes()


def boxes_of(sample: Sample) -> list[tuple[float, ...]]:
    objects = (sample.model_extra or {}).get("objects") or {"bbox": []}
    return sorted([*(tuple(box) for box in objects["bbox"]), *([sample.box_xyxy] if sample.box_xyxy else [])])


@pytest.mark.parametrize("to", list(Format))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_boxes_masks_kinds_labels_splits_parts_and_lots_survive_export_and_import(
    tmp_path: Path, to: Format, seed: int
) -> None:
    before = random_dataset(tmp_path / "before", np.random.default_rng(seed))
    after = round_trip(before, tmp_path, to)
    found = {pixels_of(after, sample): sample for sample in after.samples}
    assert len(found) == len(before.samples)
    for sample in before.samples:
        again = found[pixels_of(before, sample)]
        assert (again.label, again.defect, again.split, again.part, again.lot, again.present) == (
            (sample.label, sample.defect, sample.split, sample.part, sample.lot, sample.present)
        )
        shape = before.load(sample).shape[:2]
        one, other = before.load_mask(sample, shape), after.load_mask(again, shape)
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other)
        assert_boxes_survive(sample, again, to)


def assert_boxes_survive(sample: Sample, again: Sample, to: Format) -> None:
    if to is Format.YOLO and sample.box_xyxy and "objects" in (sample.model_extra or {}):
        assert again.box_xyxy is None  # the export says so
        return
    assert np.array(again.box_xyxy or ()) == pytest.approx(np.array(sample.box_xyxy or ()), abs=1e-6)
    assert np.array(boxes_of(again)) == pytest.approx(np.array(boxes_of(sample)), abs=1e-6)
    if to is not Format.YOLO:
        assert np.array(again.quad or ()) == pytest.approx(np.array(sample.quad or ()), abs=1e-6)


def test_codes_of_masks_and_traced_polygons_give_back_every_pixel() -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        height, width = (int(side) for side in rng.integers(7, 16, 2))
        mask = random_mask(rng, (height, width))
        flat = mask.ravel()
        assert np.array_equal(from_run_lengths(run_lengths(flat), flat.size), flat)
        assert coco_lengths(coco_text(run_lengths(flat))) == run_lengths(flat)
        assert np.array_equal(brush_mask(brush_code(flat), flat.size), flat)
        assert np.array_equal(Polygons(rings=tuple(traced(mask))).mask((width, height), ""), mask)


def test_codes_are_those_of_the_tools() -> None:
    flat = np.zeros(24, np.bool_)
    flat[[9, 10, 13, 14, 17, 18]] = True
    assert coco_text(run_lengths(flat)) == "9220003"  # Datumaro 1.13 on the same mask
    assert brush_code(np.array([False, True]))[:6] == [0, 0, 0, 8, 57, 27]  # label-studio-sdk 2.1


def test_a_polygon_of_a_tool_marks_the_pixels_whose_centres_are_inside() -> None:
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = tuple((100 + 60 * float(np.cos(angle)), 80 + 60 * float(np.sin(angle))) for angle in angles)
    x, y = np.meshgrid(np.arange(200) + 0.5, np.arange(160) + 0.5)
    truth = (x - 100) ** 2 + (y - 80) ** 2 <= 60**2
    mask = Polygons(rings=(circle,)).mask((200, 160), "")
    assert (mask & truth).sum() / (mask | truth).sum() > 0.99


# What tools write


def test_coco_masks_are_read_as_polygons_crowd_runs_and_compressed_runs(photo: Path, tmp_path: Path) -> None:
    mask = np.zeros((30, 40), np.bool_)
    mask[5:9, 10:20] = True
    runs = run_lengths(mask.T.ravel())
    codes: list[Any] = [
        [[10, 5, 20, 5, 20, 9, 10, 9]],
        {"size": [30, 40], "counts": runs},
        {"size": [30, 40], "counts": coco_text(runs)},
    ]
    for crowd, code in enumerate(codes):
        shape = {
            "id": 1,
            "image_id": 7,
            "category_id": 3,
            "bbox": [10, 5, 10, 4],
            "segmentation": code,
            "iscrowd": crowd % 2,
        }
        content = {
            "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 30}],
            "annotations": [shape],
            "categories": [{"id": 3, "name": "scratch"}],
        }
        (tmp_path / "coco.json").write_text(json.dumps(content))
        sample, found, _ = brought_in(photo, tmp_path / "coco.json")
        assert (sample.label, sample.defect, sample.box_xyxy) == (Label.BAD, "scratch", None)
        assert found is not None
        assert np.array_equal(found, mask)
        part, found, _ = brought_in(photo, tmp_path / "coco.json", object_name="scratch")
        assert (part.label, part.box_xyxy, found) == (None, (10, 5, 20, 9), None)


def test_of_several_kinds_in_one_picture_the_largest_is_named_and_all_are_marked(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "cvat.xml").write_text(
        '<annotations><image name="a.png"><polygon label="pit" points="1,1;3,1;3,3;1,3"/>'
        '<polygon label="crack" points="10,10;20,10;20,20;10,20"/>'
        '<points label="x" points="1,2"/></image></annotations>'
    )
    sample, mask, notes = brought_in(photo, tmp_path / "cvat.xml")
    assert sample.defect == "crack"
    assert mask is not None
    assert mask.sum() == 104
    assert any("skipped: 1 points" in note for note in notes)


def test_label_studio_tasks_are_read_with_uploads_turned_rectangles_and_choices(photo: Path, tmp_path: Path) -> None:
    size = {"original_width": 40, "original_height": 30, "image_rotation": 0}
    rectangle = {"x": 50, "y": 0, "width": 25, "height": 50, "rotation": 90, "rectanglelabels": ["chip"]}
    polygon = {"points": [[0, 50], [25, 50], [25, 100], [0, 100]], "polygonlabels": ["dent"]}
    result = [
        {"type": "rectanglelabels", "from_name": "r", "to_name": "image", "value": rectangle, **size},
        {"type": "polygonlabels", "from_name": "p", "to_name": "image", "value": polygon, **size},
        {"type": "choices", "from_name": "c", "to_name": "image", "value": {"choices": ["NOK"]}},
        {"type": "ellipselabels", "from_name": "e", "to_name": "image", "value": {}},
    ]
    old = {"result": [], "was_cancelled": False}
    task = {"id": 1, "data": {"image": "/data/upload/3/0a1b2c3d-a.png"}, "annotations": [old, {"result": result}]}
    (tmp_path / "tasks.json").write_text(json.dumps([task | {"predictions": [{"result": []}]}]))
    sample, mask, notes = brought_in(photo, tmp_path / "tasks.json")
    assert (sample.label, sample.defect) == (Label.BAD, "dent")
    assert sample.box_xyxy == pytest.approx((5, 0, 20, 10))
    assert sample.quad is not None
    assert sample.quad[1] == pytest.approx((20, 10))
    assert mask is not None
    assert np.array_equal(np.argwhere(mask)[[0, -1]], [[15, 0], [29, 9]])
    assert any("several annotations" in note for note in notes)
    assert any("1 ellipselabels" in note and "1 predictions" in note for note in notes)


def test_masks_of_parts_become_the_boxes_around_them(photo: Path, tmp_path: Path) -> None:
    mask = np.zeros((30, 40), np.bool_)
    mask[3:9, 4:20] = True
    code = {"size": [30, 40], "counts": coco_text(run_lengths(mask.T.ravel()))}
    names = {"label": {"labels": [{"name": "chip", "parent": ""}]}}
    item = {"id": "a", "annotations": [{"type": "mask", "label_id": 0, "rle": code}]}
    (tmp_path / "l.json").write_text(json.dumps({"categories": names, "items": [item]}))
    sample, found, _ = brought_in(photo, tmp_path / "l.json", object_name="chip")
    assert (sample.label, sample.box_xyxy, found) == (None, (4, 3, 20, 9), None)


def test_datumaro_polygons_boxes_and_labels_are_read(photo: Path, tmp_path: Path) -> None:
    shapes = [
        {"type": "label", "label_id": 0},
        {"type": "bbox", "label_id": 1, "bbox": [1, 2, 10, 5]},
        {"type": "polygon", "label_id": 2, "points": [10, 10, 20, 10, 20, 20, 10, 20]},
        {"type": "caption", "caption": "x"},
    ]
    names = [{"name": name, "parent": ""} for name in ("bad", "chip", "pit")]
    content = {"categories": {"label": {"labels": names}}, "items": [{"id": "a", "annotations": shapes}]}
    put(tmp_path / "dm" / "annotations" / "validation.json", json.dumps(content).encode())
    sample, mask, notes = brought_in(photo, tmp_path / "dm")
    assert (sample.label, sample.defect, sample.box_xyxy, sample.split) == (Label.BAD, "pit", (1, 2, 11, 7), "val")
    assert mask is not None
    assert mask.sum() == 100
    assert any("1 caption" in note for note in notes)


def test_yolo_polygons_and_the_three_ways_to_write_names_are_read(photo: Path, tmp_path: Path) -> None:
    for names in ("[chip, 'dent']", '\n  0: chip\n  1: "dent"  \n', "\n- chip\n- dent"):
        put(tmp_path / "yolo" / "data.yaml", f"train: images/train\nnames: {names}\nnc: 2\n".encode())
        put(tmp_path / "yolo" / "labels" / "test" / "a.txt", b"0 0.5 0.5 0.5 0.5\n1 0 0 .5 0 .5 .5 .25 .5 0 .5\n")
        sample, mask, _ = brought_in(photo, tmp_path / "yolo")
        assert (sample.defect, sample.box_xyxy, sample.split) == ("dent", (10, 7.5, 30, 22.5), "test")
        assert mask is not None
        assert mask.sum() == 300


def test_difficult_objects_of_voc_are_read_and_counted(photo: Path, tmp_path: Path) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
    put(
        tmp_path / "voc" / "Annotations" / "a.xml",
        f"<annotation><object><name>chip</name><difficult>1</difficult>{box}</object></annotation>".encode(),
    )
    put(tmp_path / "voc" / "ImageSets" / "Main" / "val.txt", b"a\n")
    sample, _, notes = brought_in(photo, tmp_path / "voc")
    assert (sample.box_xyxy, sample.split) == ((1, 2, 9, 8), "val")
    assert any("1 objects flagged as difficult" in note for note in notes)


# Refused, with the reason

BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]><annotations>&y;</annotations>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>'
CVAT = '<annotations><image name="a.png" width="40" height="30">{}</image></annotations>'
MASK = '<mask label="x" rle="{}" left="{}" top="0" width="{}" height="30"/>'


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("l.xml", BOMB, "without a document type"),
        ("l.xml", OUTSIDE, "without a document type"),
        ("l.xml", BOMB.encode("utf-16"), "without a document type"),
        ("l.xml", '<annotations><track id="0"/></annotations>', "Export the task as CVAT for images"),
        ("l.xml", CVAT.format(MASK.format("1, 2", 0, 40)), "add up to 1200 pixels"),
        ("l.xml", CVAT.format(MASK.format("1200", 1, 40)), "a mask of 40 x 30"),
        ("l.xml", CVAT.format(MASK.format("1", 0, 10**9)), "a mask of 40 x 30"),
        ("l.xml", CVAT.format('<polygon label="x" points="1,1;nan,2;3,3"/>'), "finite"),
        ("l.xml", CVAT.format('<polygon label="x" points="1,1;2,2"/>'), "at least three corners"),
        ("l.xml", CVAT.format('<polygon label="x" points=""/>'), "points in every polygon"),
        ("l.xml", CVAT.format('<tag label="good"/><polygon label="x" points="1,1;9,1;9,9"/>'), "labelled good"),
        ("l.xml", CVAT.format('<tag label="good"/><tag label="bad"/>'), "Keep one of them"),
        ("l.xml", "<annotations>" + 2 * '<image name="a.png"/>' + "</annotations>", "annotated more than once"),
        ("l.json", '[{"image": "a.png", "label": []}]', "as in JSON-MIN"),
        (
            "l.json",
            '[{"data": {"image": "a.png"}, "annotations": [{"result": [{"type": "brushlabels"}]}]}]',
            "Label Studio",
        ),
        (
            "l.json",
            '{"categories": {}, "items": [{"id": "a", "annotations": [{}]}]}',
            "Datumaro",
        ),
        ("l.json", '{"info": 1}', "COCO, Datumaro or Label Studio"),
        ("labels/a.txt", "0 0.1 0.1 0.5 0.2 0.4 0.6 0.05 0.5", "oriented boxes"),
        ("labels/a.txt", "0 0.1 0.1 0.5 0.2 0.4", "corners of a polygon"),
        ("data.yaml", "names: {a: b}", "a list of names"),
    ],
)
def test_hostile_and_foreign_files_are_refused_and_nothing_is_written(
    photo: Path, tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    put(tmp_path / "labelled" / name, content if isinstance(content, bytes) else content.encode())
    if name == "data.yaml":
        put(tmp_path / "labelled" / "labels" / "a.txt", b"")
    path = tmp_path / "labelled" / name if name.startswith("l.") else tmp_path / "labelled"
    with pytest.raises(DatasetError, match=reason):
        brought_in(photo, path)
    assert not (tmp_path / "out").exists()


def test_coco_and_datumaro_runs_of_another_size_are_refused_before_memory_is_taken(photo: Path, tmp_path: Path) -> None:
    code = {"size": [10**6, 10**6], "counts": "0"}
    shape = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "segmentation": code}
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [shape],
        "categories": [{"id": 1, "name": "x"}],
    }
    (tmp_path / "l.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="found one for 1000000 x 1000000"):
        brought_in(photo, tmp_path / "l.json")


def test_names_that_fit_several_pictures_are_refused_and_folders_decide(photo: Path, tmp_path: Path) -> None:
    for folder in ("left", "right"):
        put(photo / folder / "same.png", (photo / "a.png").read_bytes() + folder.encode())
    box = '<box label="x" xtl="{}" ytl="1" xbr="30" ybr="20"/>'
    (tmp_path / "one.xml").write_text(f'<annotations><image name="same.png">{box.format(1)}</image></annotations>')
    with pytest.raises(DatasetError, match="expected one annotated picture of this name"):
        brought_in(photo, tmp_path / "one.xml")
    both = "".join(
        f'<image name="s/{side}/same.png">{box.format(x)}</image>' for x, side in ((1, "left"), (2, "right"))
    )
    (tmp_path / "two.xml").write_text(f"<annotations>{both}</annotations>")
    said = read_annotations(tmp_path / "two.xml")
    found, others = said.of([photo / "right" / "same.png", photo / "a.png"], photo)
    assert [described.shapes[0].box_xyxy[0] for described in found.values()] == [2]
    assert others == 1


def test_a_label_file_that_names_paths_outside_reads_nothing_there(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "l.xml").write_text(
        '<annotations><image name="/etc/../../a.png"><box label="x" xtl="1" ytl="1" xbr="9" ybr="9"/></image>'
        "</annotations>"
    )
    assert brought_in(photo, tmp_path / "l.xml")[0].box_xyxy == (1, 1, 9, 9)  # names are compared, never opened


def test_a_contradiction_between_folder_and_label_file_is_refused(photo: Path, tmp_path: Path) -> None:
    put(photo / "good" / "a.png", (photo / "a.png").read_bytes())
    (photo / "a.png").unlink()
    (tmp_path / "l.xml").write_text(CVAT.format('<tag label="NOK"/>'))
    with pytest.raises(DatasetError, match="is labelled good by its folder or record, and bad by the annotations"):
        brought_in(photo, tmp_path / "l.xml")


# The export itself


def test_an_existing_folder_is_kept_unless_it_is_an_export(drawn: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out / "precious.txt", b"x")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"already exists|is not an export"):
            export_dataset(drawn, out, Format.COCO, overwrite=overwrite)
    assert [path.name for path in out.iterdir()] == ["precious.txt"]
    export_dataset(drawn, tmp_path / "coco", Format.COCO)
    with pytest.raises(InputError, match="pass --overwrite"):
        export_dataset(drawn, tmp_path / "coco", Format.VOC)
    export_dataset(drawn, tmp_path / "coco", Format.VOC, overwrite=True)
    assert not (tmp_path / "coco" / "annotations").exists()


@pytest.mark.parametrize("out", [".", "inside", ".."])
def test_an_export_into_or_around_its_data_set_is_refused(drawn: Dataset, out: str) -> None:
    with pytest.raises(InputError, match="outside the data set"):
        export_dataset(drawn, drawn.root / out, Format.YOLO, overwrite=True)


def test_an_archive_holds_what_the_folder_holds(drawn: Dataset, tmp_path: Path) -> None:
    export_dataset(drawn, tmp_path / "cvat", Format.CVAT)
    done = export_dataset(drawn, tmp_path / "cvat.zip", Format.CVAT)
    inside = {
        path.relative_to(tmp_path / "cvat").as_posix() for path in (tmp_path / "cvat").rglob("*") if path.is_file()
    }
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        assert {*archive.namelist()} == inside
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cvat", "cvat.zip"]
    export_dataset(drawn, tmp_path / "cvat.zip", Format.CVAT, overwrite=True)
    assert done.pictures == 12


@pytest.mark.slow
def test_an_unreadable_picture_or_an_interrupt_leaves_nothing_behind(drawn: Dataset, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(drawn.root, broken)
    (broken / drawn.samples[-1].file_name).write_bytes(b"no picture")
    for out in ("out", "out.zip"):
        with pytest.raises(InputError, match="expected a JPEG"):
            export_dataset(Dataset.read(broken), tmp_path / out, Format.VOC)
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom gonogo import images\n"
        "from gonogo.dataset import Dataset\n"
        "from gonogo.dataset.exporting import Format, export_dataset\nread = images.read_bytes\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a test run in the background ignores it
        "images.read_bytes = lambda path: os.kill(os.getpid(), signal.SIGINT) or read(path)\n"
        "export_dataset(Dataset.read(sys.argv[1]), Path(sys.argv[2]), Format.COCO)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, drawn.root, tmp_path / "out"], capture_output=True, check=False, env=os.environ
    )
    assert ended.returncode in (1, -signal.SIGINT)
    assert b"KeyboardInterrupt" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_labels_only_and_pictures_in_two_folders_under_one_name(drawn: Dataset, tmp_path: Path, photo: Path) -> None:
    export_dataset(drawn, tmp_path / "labels", Format.COCO, labels_only=True)
    assert not (tmp_path / "labels" / "images").exists()
    for folder in ("one", "two"):
        put(tmp_path / "twice" / folder / "a.png", (photo / "a.png").read_bytes())
    write_metadata(tmp_path / "twice", [Sample(file_name=f"{folder}/a.png") for folder in ("one", "two")])
    export_dataset(Dataset.read(tmp_path / "twice"), tmp_path / "flat", Format.YOLO)
    assert sorted(path.name for path in (tmp_path / "flat").rglob("*.png")) == ["a.png", "two-a.png"]


def test_what_a_format_cannot_carry_is_said(drawn: Dataset, tmp_path: Path) -> None:
    notes = {to: " ".join(export_dataset(drawn, tmp_path / to, to).notes) for to in Format}
    assert "has no place for label, defect kind of a picture, part and lot" in notes[Format.VOC]
    assert "turned regions" in notes[Format.YOLO]
    assert notes[Format.COCO] == notes[Format.CVAT] == notes[Format.DATUMARO] == notes[Format.LABEL_STUDIO] == ""


def test_names_that_no_label_file_can_hold_are_refused(tmp_path: Path, photo: Path) -> None:
    put(tmp_path / "set" / "a.png", (photo / "a.png").read_bytes())
    write_metadata(tmp_path / "set", [Sample(file_name="a.png", label=Label.BAD, defect="line\nbreak")])
    with pytest.raises(InputError, match="no label file can hold"):
        export_dataset(Dataset.read(tmp_path / "set"), tmp_path / "out", Format.VOC)
    write_metadata(tmp_path / "set", [])
    with pytest.raises(InputError, match="expected pictures, found none"):
        export_dataset(Dataset.read(tmp_path / "set"), tmp_path / "out", Format.VOC)


def test_the_command_knows_all_formats_and_tells_the_way_back(drawn: Dataset, tmp_path: Path) -> None:
    assert [*map(str, cli.Format)] == [*map(str, Format)]
    ran = CliRunner().invoke(cli.app, ["export", str(drawn.root), "--format", "voc", "--out", f"{tmp_path}/my voc"])
    assert ran.exit_code == 0, ran.output
    assert f"gonogo dataset import '{tmp_path}/my voc/JPEGImages' --annotations '{tmp_path}/my voc'" in ran.output
    again = ["export", str(drawn.root), "--format", "coco", "--out", f"{tmp_path}/my voc", "--overwrite", "--json"]
    told = json.loads(CliRunner().invoke(cli.app, again).output)
    assert (told["pictures"], told["format"], told["notes"]) == (12, "coco", [])


def test_a_picture_without_a_part_keeps_the_splits_of_the_others(tmp_path: Path) -> None:
    before = random_dataset(tmp_path / "before", np.random.default_rng(1))
    samples = [each.model_copy(update={"split": None, "label": None, "mask_file_name": None, "present": False})
               if number == 0 else each for number, each in enumerate(before.samples)]  # fmt: skip
    write_metadata(before.root, samples)
    after = round_trip(Dataset.read(before.root), tmp_path, Format.CVAT)
    assert sorted(str(each.split) for each in after.samples) == sorted(str(each.split) for each in samples)


def test_datumaro_numbers_voc_instances_on_its_own(photo: Path, tmp_path: Path) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
    content = f"<annotation><object><name>part</name>{box}</object></annotation>"
    put(tmp_path / "voc" / "Annotations" / "a.xml", content.encode())
    put(tmp_path / "voc" / "labelmap.txt", b"# label:color_rgb:parts:actions\nbackground:::\npart:::\ncrack:::\n")
    put(tmp_path / "voc" / "ImageSets" / "Main" / "bad_train.txt", b"a 1\n")
    for folder, color in (("Object", (128, 0, 0)), ("Class", (0, 128, 0))):
        frame = np.zeros((30, 40, 3), np.uint8)
        frame[4:7, 5:9] = color
        put(tmp_path / "voc" / f"Segmentation{folder}" / "a.png", images.encode_png(frame))
    sample, mask, _ = brought_in(photo, tmp_path / "voc")
    assert (sample.box_xyxy, sample.defect, sample.label) == ((1, 2, 30, 20), "crack", Label.BAD)
    assert mask.sum() == 12
