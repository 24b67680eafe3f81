"""Export of a data set to the label format of another tool: pictures and labels in a new folder or ZIP archive."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, count
from pathlib import Path, PurePosixPath

from gonogo import images
from gonogo.dataset.formats import coco, cvat, datumaro, label_studio, voc, yolo
from gonogo.dataset.marks import FIELDS, NO_KIND, NO_NAME, UNSPLIT, Marked, Picture
from gonogo.dataset.records import METADATA, Dataset, Sample, write_metadata
from gonogo.errors import InputError
from gonogo.files import folder_beside, scratch_beside
from gonogo.names import readable
from gonogo.progress import track


class Format(StrEnum):
    """A label format of another tool."""

    COCO = "coco"
    CVAT = "cvat"
    VOC = "voc"
    YOLO = "yolo"
    LABEL_STUDIO = "label-studio"
    DATUMARO = "datumaro"


Writer = Callable[[Iterable[Picture], Path, Sequence[str]], None]

_WRITERS: Mapping[Format, Writer] = {
    Format.COCO: coco.write,
    Format.CVAT: cvat.write,
    Format.VOC: voc.write,
    Format.YOLO: yolo.write,
    Format.LABEL_STUDIO: label_studio.write,
    Format.DATUMARO: datumaro.write,
}
_WITHOUT_FIELDS = (Format.VOC, Format.YOLO)
"""Formats without a place for label, part and lot; ``metadata.jsonl`` beside the pictures keeps them."""
_MARKER = ".gonogo-export"
"""File that says that a folder or an archive is an export, which may be replaced."""
_UNSAFE = str.maketrans(dict.fromkeys("\\/:%?*", "_"))
"""Characters that label files, addresses or other systems do not keep in a name."""
_CARRIED = {*Sample.model_fields, "object_name", "objects"}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote."""

    path: Path
    pictures: int
    boxes: int
    masks: int
    notes: tuple[str, ...]
    """What the format cannot carry."""


def export_dataset(
    dataset: Dataset, out: Path, to: Format, *, overwrite: bool = False, labels_only: bool = False
) -> Exported:
    """Write a data set in the label format of another tool.

    The folder, or the archive if ``out`` ends in ``.zip``, is created completely or not at all. Pictures are copied
    byte for byte; their names become unique, because most formats name label files after them.

    Args:
        dataset: The data set.
        out: The folder or ZIP archive to create.
        to: The format.
        overwrite: Replace an earlier export; nothing else is replaced.
        labels_only: Leave out the pictures.

    Raises:
        InputError: There is nothing to export, a picture is unreadable, a name cannot be written in the format, or
            ``out`` exists.
    """
    _require_writable(dataset, out, overwrite=overwrite)
    classes = _classes(dataset.samples)
    _require_nameable(dataset, classes, to)
    counted: Counter[str] = Counter()
    with _destination(out, overwrite=overwrite) as folder:
        pictures = _pictures(dataset, folder, to, counted, labels_only=labels_only)
        _WRITERS[to](pictures, folder, classes)
        if to in _WITHOUT_FIELDS:
            _write_records(dataset, folder, to)
        (folder / _MARKER).write_text(f"{to}\n", "utf-8")
    return Exported(
        path=out,
        pictures=len(dataset.samples),
        boxes=counted["boxes"],
        masks=counted["masks"],
        notes=tuple(_losses(dataset, to, counted)),
    )


def _require_writable(dataset: Dataset, out: Path, *, overwrite: bool) -> None:
    if not dataset.samples:
        raise InputError(f"{dataset.root}: expected pictures, found none. Add some with gonogo dataset add.")
    root, target = dataset.root.resolve(), out.resolve()
    if target == root or target in root.parents or root in target.parents:
        raise InputError(f"{out}: expected a place outside the data set {dataset.root}. Choose another --out.")
    if out.exists() and not (overwrite and _is_export(out)):
        say = "is not an export, and only an export is replaced" if overwrite else "already exists"
        raise InputError(f"{out}: {say}. Choose another --out{'' if overwrite else ', or pass --overwrite'}.")


def _is_export(out: Path) -> bool:
    if out.is_dir():
        return (out / _MARKER).is_file()
    try:
        with zipfile.ZipFile(out) as archive:
            return _MARKER in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


@contextmanager
def _destination(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield the folder to write into; if the block succeeds, it becomes ``out``, or is packed into it."""
    if out.suffix.lower() != ".zip":
        with folder_beside(out, replace=overwrite) as folder:
            yield folder
        return
    with scratch_beside(out) as folder:
        yield folder
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        packed = folder / ".packed.zip"
        with zipfile.ZipFile(packed, "x", zipfile.ZIP_STORED) as archive:
            for path in track(files, "Packing"):
                archive.write(path, path.relative_to(folder).as_posix())
        packed.replace(out)


def _classes(samples: Sequence[Sample]) -> list[str]:
    """Class names of all boxes and outlines, in the order in which they appear."""
    boxes = (box.name for sample in samples for box in _boxes(sample))
    kinds = (sample.defect or NO_KIND for sample in samples if sample.mask_file_name is not None)
    return list(dict.fromkeys((*boxes, *kinds)))


def _boxes(sample: Sample) -> tuple[Marked, ...]:
    """The region of interest, and the other objects of a picture."""
    extra = sample.model_extra or {}
    objects = extra.get("objects") or {"bbox": [], "categories": []}
    others = tuple(
        Marked(name=str(name), box_xyxy=(x, y, x + width, y + height))
        for name, (x, y, width, height) in zip(objects["categories"], objects["bbox"], strict=True)
    )
    if sample.box_xyxy is None:
        return others
    name = str(extra.get("object_name") or NO_NAME)
    return (Marked(name=name, box_xyxy=sample.box_xyxy, quad=sample.quad, region=bool(others)), *others)


def _require_nameable(dataset: Dataset, classes: Sequence[str], to: Format) -> None:
    """Refuse names that a label file cannot hold, before anything is written."""
    texts = [text for sample in dataset.samples for text in _fields(sample).values()]
    for text in (*classes, *texts, *(sample.file_name for sample in dataset.samples)):
        if readable(text) != text:
            raise InputError(f"{dataset.root}: {readable(text)!r} has signs that no label file can hold. Rename it.")
    if to is Format.VOC and any(sign in name for name in classes for sign in ":\n#"):
        raise InputError(f"{dataset.root}: expected names without ':' and '#' for VOC, found {classes}. Rename it.")
    if to is Format.VOC and len(classes) > voc.MOST_CLASSES - 2:
        raise InputError(f"{dataset.root}: expected at most {voc.MOST_CLASSES - 2} classes, found {len(classes)}.")


def _fields(sample: Sample) -> dict[str, str]:
    values = sample.model_dump(include={*FIELDS})
    values["present"] = "false" if sample.present is False else None
    return {name: str(values[name]) for name in FIELDS if values.get(name) is not None}


def _pictures(
    dataset: Dataset, folder: Path, to: Format, counted: Counter[str], *, labels_only: bool
) -> Iterator[Picture]:
    """Copy the pictures one after the other, and yield what the writers need."""
    for sample, name in zip(track(dataset.samples, "Exporting"), _names(dataset.samples), strict=True):
        data = images.read_bytes(dataset.path(sample))
        header = images.read_header(data, name=str(dataset.path(sample)))
        turned = header.orientation >= 5  # coordinates are those of the upright picture
        width, height = (header.height, header.width) if turned else (header.width, header.height)
        counted["turned"] += header.orientation != 1
        place = _place(sample, name, to)
        if not labels_only:
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        mask = dataset.load_mask(sample, (height, width))
        boxes = _boxes(sample)
        counted["boxes"] += len(boxes)
        counted["masks"] += mask is not None and bool(mask.any())
        yield Picture(
            path=place,
            name=name,
            split=_split(sample),
            size_wh=(width, height),
            boxes=boxes,
            mask=mask if mask is not None and mask.any() else None,
            fields=_fields(sample),
        )


def _names(samples: Sequence[Sample]) -> Iterator[str]:
    """Give each picture a file name whose stem no other has, whatever the case of its letters."""
    taken: set[str] = set()
    for sample in samples:
        path = PurePosixPath(sample.file_name)
        plain = [part.translate(_UNSAFE).strip(" #") or "_" for part in path.with_suffix("").parts]
        options = ["-".join(plain[-depth:]) for depth in range(1, len(plain) + 1)]
        numbered = (f"{options[-1]}-{number}" for number in count(2))
        stem = next(name for name in chain(options, numbered) if name.casefold() not in taken)
        taken.add(stem.casefold())
        yield stem + path.suffix


def _split(sample: Sample) -> str:
    return UNSPLIT if sample.split is None else str(sample.split)


def _place(sample: Sample, name: str, to: Format) -> str:
    if to is Format.VOC:
        return f"JPEGImages/{name}"
    return f"images/{name}" if to is Format.LABEL_STUDIO else f"images/{_split(sample)}/{name}"


def pictures_folder(to: Format) -> str:
    """Folder of the pictures inside an export: what ``gonogo dataset import`` takes as SRC."""
    return "JPEGImages" if to is Format.VOC else "images"


def _write_records(dataset: Dataset, folder: Path, to: Format) -> None:
    """Write ``metadata.jsonl`` with what the format has no place for; boxes and masks are only in the label files."""
    top = folder / pictures_folder(to)
    top.mkdir(parents=True, exist_ok=True)
    write_metadata(
        top,
        (
            Sample.model_validate(
                {"file_name": PurePosixPath(_place(sample, name, to)).relative_to(pictures_folder(to)).as_posix()}
                | {key: value for key, value in sample.model_dump().items() if key in FIELDS}
            )
            for sample, name in zip(dataset.samples, _names(dataset.samples), strict=True)
        ),
    )


def _losses(dataset: Dataset, to: Format, counted: Mapping[str, int]) -> Iterator[str]:
    """Say what the format does not carry, of what this data set has."""
    samples = dataset.samples
    if to in _WITHOUT_FIELDS:
        yield (
            f"{to.upper()} has no place for label, defect kind of a picture, part and lot: they are in "
            f"{pictures_folder(to)}/{METADATA}, which gonogo reads and other tools do not."
        )
    if to is Format.YOLO and any(sample.quad is not None for sample in samples):
        yield "YOLO has no place for turned regions: only their boxes were written."
    if to is Format.YOLO and any(box.region for sample in samples for box in _boxes(sample)):
        yield "YOLO cannot tell the region from other boxes: on import, pictures with several boxes have no region."
    if counted["turned"]:
        yield (
            f"{counted['turned']} pictures are turned by their EXIF orientation; the coordinates are those of the "
            "upright picture."
        )
    extra = [(sample.model_extra or {}).items() for sample in samples]
    further = sorted({key for items in extra for key, value in items if value is not None and key not in _CARRIED})
    if further:
        yield f"No format carries these columns of {METADATA}: {', '.join(further)}."
