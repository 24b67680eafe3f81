"""Boxes from other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gonogo import images
from gonogo.dataset import Dataset, ImportOptions, import_folder
from gonogo.errors import DatasetError

VOC = """<annotation><filename>whatever.jpg</filename>{}</annotation>"""
VOC_OBJECT = (
    """<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""
)


@pytest.fixture
def photos(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two unlabelled photographs, a.jpg and b.jpg, 80 wide and 60 high."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        frame = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
        (folder / name).write_bytes(images.encode_jpeg(frame))
    return folder


def boxes_of(
    photos: Path, out: Path, annotations: Path | None = None, object_name: str | None = None
) -> dict[str, object]:
    options = ImportOptions(annotations=annotations, object_name=object_name, unlabelled=True)
    samples = import_folder(photos, out, options).dataset.samples
    return {Path(sample.file_name).name: sample.box_xyxy for sample in samples}


def test_pascal_voc_beside_the_pictures_is_found_and_labels_stay_open(photos: Path, tmp_path: Path) -> None:
    (photos / "a.xml").write_text(VOC.format(VOC_OBJECT.format("chip", 10, 5, 30, 25)))
    dataset = import_folder(photos, tmp_path / "out").dataset
    a, b = dataset.samples
    assert (a.label, a.box_xyxy, a.model_extra) == (None, (10, 5, 30, 25), {"object_name": "chip"})
    assert b.box_xyxy is None


def test_of_several_boxes_none_becomes_the_region_and_all_are_kept(photos: Path, tmp_path: Path) -> None:
    objects = VOC_OBJECT.format("chip", 10, 5, 30, 25) + VOC_OBJECT.format("plug", 40, 5, 60, 25)
    (photos / "a.xml").write_text(VOC.format(objects))
    imported = import_folder(photos, tmp_path / "out")
    sample = imported.dataset.samples[0]
    assert sample.box_xyxy is None
    assert sample.model_extra == {
        "objects": {"bbox": [[10, 5, 20, 20], [40, 5, 20, 20]], "categories": ["chip", "plug"]}
    }
    assert any("1 pictures have several boxes" in note for note in imported.notes)
    assert boxes_of(photos, tmp_path / "plugs", object_name="plug")["a.jpg"] == (40, 5, 60, 25)


def test_yolo_boxes_are_turned_into_pixels(photos: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "classes.txt").write_text("board\nchip\n")
    (labels / "a.txt").write_text("1 0.25 0.5 0.25 0.5\n")
    assert boxes_of(photos, tmp_path / "out", labels)["a.jpg"] == (10, 15, 30, 45)
    assert Dataset.read(tmp_path / "out").samples[0].model_extra == {"object_name": "chip"}


def test_cvat_boxes_are_read_and_turned_ones_keep_their_corners(photos: Path, tmp_path: Path) -> None:
    box = '<image name="{}"><box label="chip" xtl="20" ytl="20" xbr="60" ybr="40"{}/></image>'
    content = box.format("a.jpg", "") + box.format("session/b.jpg", ' rotation="90"')
    (tmp_path / "cvat.xml").write_text(f"<annotations>{content}</annotations>")
    assert boxes_of(photos, tmp_path / "out", tmp_path / "cvat.xml") == {
        "a.jpg": (20, 20, 60, 40),
        "b.jpg": pytest.approx((30, 10, 50, 50)),
    }
    turned = Dataset.read(tmp_path / "out").samples[1]
    assert turned.quad is not None
    assert np.array(turned.quad) == pytest.approx(np.array([(50, 10), (50, 50), (30, 50), (30, 10)]))


def test_a_box_beyond_the_edge_is_cut_off_and_one_outside_is_refused(photos: Path, tmp_path: Path) -> None:
    (photos / "a.xml").write_text(VOC.format(VOC_OBJECT.format("chip", -4, 5, 30, 90)))
    assert boxes_of(photos, tmp_path / "out")["a.jpg"] == (0, 5, 30, 60)
    (photos / "a.xml").write_text(VOC.format(VOC_OBJECT.format("chip", 100, 5, 130, 25)))
    with pytest.raises(DatasetError, match=r"a\.jpg: expected a box inside the 80 x 60 picture"):
        boxes_of(photos, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("boxes.json", "{}"),
        ("boxes.json", "no json"),
        ("boxes.xml", "<annotations><image name='a.jpg'><box label='x'/></image></annotations>"),
        ("boxes.xml", "<html/>"),
        ("boxes.xml", "<annotation><object><name>x</name></object></annotation>"),
        ("boxes.xml", "<annotation"),
        ("boxes.csv", "a.jpg,1,2,3,4"),
        ("labels/a.txt", "0 0.5 0.5"),
        ("labels/readme.md", "no labels here"),
        ("missing.json", None),
    ],
)
def test_malformed_annotations_are_named(photos: Path, tmp_path: Path, name: str, content: str | None) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if content is not None:
        path.write_text(content)
    with pytest.raises(DatasetError, match=path.name if path.parent == tmp_path else "labels"):
        boxes_of(photos, tmp_path / "out", path if path.parent == tmp_path else path.parent)


def test_annotations_of_other_pictures_are_refused_not_ignored(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "cvat.xml").write_text(
        '<annotations><image name="z.jpg"><box label="x" xtl="1" ytl="1" xbr="9" ybr="9"/></image></annotations>'
    )
    with pytest.raises(DatasetError, match="found none\\. "):
        boxes_of(photos, tmp_path / "out", tmp_path / "cvat.xml")
