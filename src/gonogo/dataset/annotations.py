"""Label files of other tools: finds the format of a file or folder, and what it says about pictures.

All coordinates are read as edges in continuous pixels, as labelling tools write them today. The original Pascal VOC
kit counted pixels from one, which shifts a box by at most one pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from gonogo.dataset.formats import coco, cvat, datumaro, label_studio, voc, yolo
from gonogo.dataset.marks import Annotations, Described, Gathered, read_xml
from gonogo.errors import DatasetError
from gonogo.files import parse_json, read_text

ACCEPTED = (
    "COCO, Datumaro or Label Studio .json, CVAT .xml, or a folder of one of these, of Pascal VOC .xml or of YOLO .txt "
    "files"
)


def read_annotations(path: Path) -> Annotations:
    """Read the label files of CVAT, Pascal VOC, COCO, YOLO, Label Studio or Datumaro.

    Args:
        path: A COCO, Datumaro or Label Studio ``.json``, a CVAT ``.xml``, or a folder of label files; the folder of an
            export is one.

    Raises:
        DatasetError: The path is missing, malformed, or in none of these formats.
    """
    gathered = Gathered(path)
    if path.is_dir():
        _read_folder(path, gathered)
    elif path.suffix.lower() == ".json":
        _read_json([path], gathered)
    elif path.suffix.lower() == ".xml":
        root = read_xml(path)
        if root.tag == "annotation":
            gathered.add(path.stem, Described(shapes=voc.read_objects(root, path)[0]))
        else:
            cvat.read(root, path, gathered)
    else:
        raise DatasetError(f"{path}: expected {ACCEPTED}. Check --annotations.")
    return gathered.annotations()


def beside(pictures: Sequence[Path]) -> Annotations:
    """Find Pascal VOC files beside their pictures, named ``NAME.xml``; keys are full picture paths."""
    found = {}
    for picture in pictures:
        file = picture.with_suffix(".xml")
        if file.is_file():
            root = read_xml(file)
            found[str(picture)] = Described(shapes=voc.read_objects(root, file)[0])
    return Annotations(pictures=found)


def _read_folder(path: Path, gathered: Gathered) -> None:
    if (path / "annotations.xml").is_file():
        cvat.read(read_xml(path / "annotations.xml"), path / "annotations.xml", gathered)
    elif json_files := _json_files(path):
        _read_json(json_files, gathered)
    elif (path / "data.yaml").is_file() or (path / "data.yml").is_file():
        yolo.read(path, gathered)
    elif xml_files := sorted(path.rglob("*.xml")):
        if read_xml(xml_files[0]).tag == "annotations":
            for file in xml_files:
                cvat.read(read_xml(file), file, gathered)
        else:
            voc.read(path, xml_files, gathered)
    elif any(file.name != "classes.txt" for file in path.rglob("*.txt")):
        yolo.read(path, gathered)
    else:
        raise DatasetError(f"{path}: expected {ACCEPTED}; found no such file. Check --annotations.")


def _json_files(path: Path) -> list[Path]:
    """Label files of a folder or its ``annotations``; of COCO's several tasks, the instances."""
    files = sorted((path / "annotations").glob("*.json")) or sorted(path.glob("*.json"))
    return [file for file in files if file.name.startswith("instances_")] or files


def _read_json(files: Iterable[Path], gathered: Gathered) -> None:
    for file in files:
        try:
            content = parse_json(read_text(file))
        except (OSError, ValueError) as error:
            raise DatasetError(f"{file}: expected JSON ({error}). Export it again.") from error
        if isinstance(content, list) and all(isinstance(task, dict) for task in content):
            label_studio.read(content, file, gathered)
        elif isinstance(content, dict) and {"items", "categories"} <= content.keys():
            datumaro.read(content, file, gathered)
        elif isinstance(content, dict) and "images" in content:
            coco.read(content, file, gathered)
        else:
            raise DatasetError(f"{file}: expected JSON of COCO, Datumaro or Label Studio. Export it again.")
