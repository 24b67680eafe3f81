"""From a folder of photographs as it lies to a data set: pictures copied byte for byte, splits made once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gonogo import images
from gonogo.dataset.annotations import Annotations, beside, marked_in, read_annotations
from gonogo.dataset.layouts import Found, read_layout
from gonogo.dataset.reading import Reading, Unreadable, near_groups, read_all
from gonogo.dataset.records import Dataset, Sample, write_metadata
from gonogo.dataset.splits import Fractions, gaps, resplit
from gonogo.errors import DatasetError
from gonogo.files import folder_beside
from gonogo.schema import Label


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How a foreign folder maps to a data set."""

    good: str | None = None
    """The class folder that holds good parts; every other class folder is a defect kind."""
    mask_suffix: str | None = None
    """``NAME`` + this beside a picture is its defect mask."""
    unlabelled: bool = False
    """Take pictures that no class folder labels."""
    annotations: Path | None = None
    """Boxes; Pascal VOC files beside their pictures are found without it."""
    object_name: str | None = None
    """Only boxes of this name count."""
    part_regex: str | None = None
    """Its first group, searched in the path inside the source, is the part's identity."""
    lot_regex: str | None = None
    fractions: Fractions | None = None
    """``None`` keeps the splits a source already has, and makes the default ones otherwise."""
    seed: int = 0
    split_within_lots: bool = False


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A finished import: the data set and what a person should know about it."""

    dataset: Dataset
    notes: tuple[str, ...]


@dataclass
class _Intake:
    """What gathers while pictures are taken one by one."""

    records: list[dict[str, Any]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    first_with: dict[str, Found] = field(default_factory=dict)
    copies: int = 0
    empty_masks: int = 0
    several_boxes: int = 0
    boxes: int = 0


def import_folder(source: Path, out: Path, options: ImportOptions | None = None) -> Imported:
    """Make a data set out of a folder of photographs, whichever known layout it has.

    Pictures and masks are copied byte for byte; the source is not touched. Either the whole data set appears under
    ``out`` or nothing does.

    Raises:
        InputError: unreadable pictures, the same picture under two labels, an unknown layout, an empty folder, or
            ``out`` exists; the message names the files.
    """
    options = options or ImportOptions()
    if options.annotations is not None:
        annotations = read_annotations(options.annotations)
    else:
        annotations = beside(list(images.find(source)) if source.is_dir() else [])
    found = read_layout(
        source,
        good=options.good,
        mask_suffix=options.mask_suffix,
        unlabelled=options.unlabelled or bool(annotations),
    )
    intake = _Intake()
    with folder_beside(out) as folder:
        readings = read_all([(item.path, item.mask) for item in found], "Reading pictures", keep_data=True)
        for item, reading in zip(found, readings, strict=True):
            _take(item, reading, source, folder, annotations, options, intake)
        _refuse(intake.faults, source)
        if options.annotations is not None and not intake.boxes:
            raise DatasetError(
                f"{options.annotations}: expected boxes for pictures of {source}, found none for any of them. "
                "Check --annotations and --object; pictures are matched by file name."
            )
        samples = tuple(_sample(record) for record in intake.records)
        samples, split_notes = _with_splits(samples, intake.readings, options)
        write_metadata(folder, samples)
    return Imported(dataset=Dataset(root=out, samples=samples), notes=(*_notes(intake, annotations), *split_notes))


def _take(
    item: Found,
    reading: Reading | Unreadable,
    source: Path,
    folder: Path,
    annotations: Annotations,
    options: ImportOptions,
    intake: _Intake,
) -> None:
    """Copy one picture and note its record, or note why it cannot be taken."""
    if isinstance(reading, Unreadable):
        intake.faults.append(reading.reason)
        return
    first = intake.first_with.setdefault(reading.pixels_sha256, item)
    if first is not item:
        intake.copies += 1
        if (first.label, first.defect) != (item.label, item.defect):
            intake.faults.append(
                f"{first.path} ({_named(first)}) and {item.path} ({_named(item)}) are the same picture under different "
                "labels. Keep the one that is right."
            )
        return
    record: dict[str, Any] = {key: value for key, value in item.record.items() if value is not None}
    record |= _identity(item.path.relative_to(source).as_posix(), options)
    record |= _boxes(item, reading.size_wh, source, annotations, options, intake)
    kind = re.sub(r"[^\w.+-]+", "_", _named(item))
    name = _free_name(item.path, source, kind, intake.names)
    if reading.mask_marks and item.mask is not None:
        if item.label is Label.GOOD:
            intake.faults.append(
                f"{item.mask} marks a defect on a picture labelled good. Correct the label or the mask."
            )
            return
        record["mask_file_name"] = f"masks/{kind}/{Path(name).stem}{item.mask.suffix}"
        _write(folder / record["mask_file_name"], images.read_bytes(item.mask))
    intake.empty_masks += item.mask is not None and not reading.mask_marks
    record |= {"file_name": f"images/{kind}/{name}", "label": item.label, "defect": item.defect}
    _write(folder / record["file_name"], reading.data)
    intake.records.append(record)
    intake.readings.append(replace(reading, data=b""))


def _named(item: Found) -> str:
    return item.defect or (item.label.value if item.label else "unlabelled")


def _identity(name: str, options: ImportOptions) -> dict[str, str]:
    """Part and lot, where the user says how the path names them."""
    identity = {}
    for key, pattern in (("part", options.part_regex), ("lot", options.lot_regex)):
        if pattern is None:
            continue
        try:
            match = re.search(pattern, name)
        except re.error as error:
            raise DatasetError(f"--{key}-regex {pattern}: not a regular expression ({error}). Correct it.") from error
        if match is None or not match.groups() or match.group(1) is None:
            raise DatasetError(
                f"--{key}-regex {pattern}: expected its first group to match in every path, found none in {name}. "
                r"Put the identity in brackets, for example 'part(\d+)_'."
            )
        identity[key] = match.group(1)
    return identity


def _boxes(
    item: Found,
    size_wh: tuple[int, int],
    source: Path,
    annotations: Annotations,
    options: ImportOptions,
    intake: _Intake,
) -> dict[str, Any]:
    """The one box of a picture; where several are marked none is the region, and all are kept as ``objects``."""
    marked = [
        mark.in_pixels(size_wh, str(item.path))
        for mark in marked_in(annotations, item.path, source)
        if options.object_name in (None, mark.name)
    ]
    intake.boxes += len(marked)
    if len(marked) == 1:
        return {"box_xyxy": marked[0].box_xyxy, "quad": marked[0].quad, "object_name": marked[0].name}
    if marked:
        intake.several_boxes += 1
        xywh = [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in (mark.box_xyxy for mark in marked)]
        return {"objects": {"bbox": xywh, "categories": [mark.name for mark in marked]}}
    return {}


def _free_name(path: Path, source: Path, kind: str, taken: set[str]) -> str:
    """The picture's own name, with its folders in front where that is taken; no two share a stem, as masks do not."""
    folders = path.relative_to(source).parts[:-1]
    names = ["-".join((*folders[len(folders) - depth :], path.name)) for depth in range(len(folders) + 1)]
    names.append("-".join((*folders, path.suffix[1:], path.name)))
    name = next(name for name in names if f"{kind}/{Path(name).stem}".lower() not in taken)
    taken.add(f"{kind}/{Path(name).stem}".lower())
    return name


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _refuse(faults: Sequence[str], source: Path) -> None:
    if faults:
        shown = "\n  ".join(faults[:10])
        more = f"\n  and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise DatasetError(f"{source}: nothing was imported; mend or remove these first:\n  {shown}{more}")


def _sample(record: dict[str, Any]) -> Sample:
    try:
        return Sample.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DatasetError(f"{record['file_name']}: {where}: {first['msg']}. Correct the source's record.") from error


def _with_splits(
    samples: tuple[Sample, ...], readings: Sequence[Reading], options: ImportOptions
) -> tuple[tuple[Sample, ...], list[str]]:
    near = near_groups(readings)
    samples = tuple(sample.model_copy(update={"group": number}) for sample, number in zip(samples, near, strict=True))
    notes = [f"{len(samples)} pictures of {len(set(near))} different parts, as far as their surfaces tell."]
    largest = Counter(near).most_common(1)[0][1]
    if largest > len(samples) / 2:
        notes.append(f"{largest} of them look like one and the same part and share a split. Look at them: is that so?")
    blank = sum(not reading.look.comparable for reading in readings)
    if blank:
        notes.append(f"{blank} pictures have too little structure to find re-shot copies of them; name parts instead.")
    if options.fractions is None and all(sample.split is not None for sample in samples):
        return samples, [*notes, "The splits of the source were kept; --splits makes new ones."]
    fractions = options.fractions or Fractions()
    samples = resplit(samples, fractions, options.seed, within_lots=options.split_within_lots)
    return samples, [*notes, *gaps(samples, fractions)]


def _notes(intake: _Intake, annotations: Annotations) -> list[str]:
    notes = []
    if intake.copies:
        notes.append(f"{intake.copies} exact copies of other pictures were left out.")
    if intake.empty_masks:
        notes.append(f"{intake.empty_masks} masks mark nothing and were left out.")
    if annotations:
        notes.append(f"{intake.boxes} boxes were read.")
    if intake.several_boxes:
        notes.append(
            f"{intake.several_boxes} pictures have several boxes: none became the region, all are kept as objects "
            "(--object NAME takes only boxes of one name)."
        )
    return notes
