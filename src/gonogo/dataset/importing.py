"""Import of a folder of photographs as a data set: pictures are copied byte for byte, and splits are made once."""

from __future__ import annotations

import operator
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from gonogo import images
from gonogo.dataset.annotations import beside, read_annotations
from gonogo.dataset.cameras import cameras_note
from gonogo.dataset.checking import parts_with_both_labels
from gonogo.dataset.describing import Joined, joined
from gonogo.dataset.history import record_change
from gonogo.dataset.judged import judged_unlabelled
from gonogo.dataset.known_pictures import KnownPictures, named
from gonogo.dataset.layouts import Found, read_layout
from gonogo.dataset.levels import levels_note, with_levels, write_levels
from gonogo.dataset.marks import Annotations, Described
from gonogo.dataset.reading import Reading, Unreadable, near_groups, read_all, read_pictures
from gonogo.dataset.records import METADATA, Dataset, Sample, locked, read_levels
from gonogo.dataset.splits import Fractions, assign_splits, complete_splits, gaps, groups_of, resplit
from gonogo.errors import DatasetError
from gonogo.files import folder_beside
from gonogo.names import readable
from gonogo.schema import Label


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How a folder of photographs maps to a data set."""

    good: str | None = None
    """The class folder of good parts; every other class folder is a defect kind."""
    mask_suffix: str | None = None
    """A file named ``NAME`` + this suffix beside a picture is its defect mask."""
    unlabelled: bool = False
    """Import pictures without class folders, unlabelled."""
    annotations: Path | None = None
    """Label files of another tool; Pascal VOC files beside their pictures are found automatically."""
    object_name: str | None = None
    """Use only the boxes with this class name."""
    part_regex: str | None = None
    """Regular expression, searched in the path inside the source; its first group identifies the part."""
    lot_regex: str | None = None
    camera_regex: str | None = None
    """Like ``part_regex``, for the camera that took the picture."""
    fractions: Fractions | None = None
    """Shares of the splits; ``None`` keeps the splits of the source, or makes default ones if it has none."""
    seed: int = 0
    split_within_lots: bool = False
    relabel: bool = False
    """Whether the labels of an added folder replace those of pictures that the data set has; see `add_folder`."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Result of an import: the data set, and notes for the user."""

    dataset: Dataset
    notes: tuple[str, ...]
    conflicts: tuple[str, ...] = ()
    """Added pictures that the data set has with another label, one sentence each."""


@dataclass
class _Intake:
    """Intermediate state of an import."""

    records: list[dict[str, Any]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    known: KnownPictures = field(default_factory=KnownPictures)
    empty_masks: int = 0
    several_boxes: int = 0
    boxes: int = 0
    outlined: int = 0
    described: Mapping[Path, Described] = field(default_factory=dict)
    """What the label file says, by picture."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Class names of whole pictures that are neither a label nor a kind."""
    notes: tuple[str, ...] = ()


def import_folder(source: Path, out: Path, options: ImportOptions | None = None) -> Imported:
    """Make a data set from a folder of photographs in any supported layout.

    Pictures and masks are copied byte for byte; the source is not modified. ``out`` is created completely or not at
    all.

    Example:
        >>> imported = import_folder(Path("photos"), Path("parts"))  # photos/good, photos/bad
        >>> sorted({sample.label.value for sample in imported.dataset.samples})
        ['bad', 'good']

    Raises:
        InputError: A picture is unreadable, a picture has two labels, the layout is unknown, the folder is empty, or
            ``out`` exists; the message names the files.
    """
    options = options or ImportOptions()
    intake = _Intake()
    with folder_beside(out) as folder:
        _take_all(source, folder, options, intake)
        samples = tuple(_sample(record) for record in intake.records)
        samples, split_notes = _with_splits(samples, intake.readings, options)
        depth = read_levels(source) if (source / METADATA).is_file() else None
        made = Dataset(root=folder, samples=samples)
        with_levels(made) if depth is None else write_levels(made, depth)
        record_change(folder, samples, what="import", details={"source": readable(str(source))})
    dataset = Dataset.read(out)
    notes = (*_notes(intake, source, samples), *split_notes, *levels_note(dataset))
    return Imported(dataset=dataset, notes=notes)


def add_folder(source: Path, root: Path, options: ImportOptions | None = None) -> Imported:
    """Add a folder of photographs to a data set; layouts are those of `import_folder`.

    Existing pictures keep their split, box and mask; one without a label takes the label of an added duplicate. Where
    both have a label and they differ, the existing one stays and the conflict is listed; with ``options.relabel`` the
    added one replaces it. New pictures of an existing part, lot or near-duplicate group join its split; others are
    distributed over the splits. Either all pictures are added or none.

    Raises:
        InputError: See `import_folder`; also if ``root`` is not a data set. Nothing was changed.
    """
    options, before = options or ImportOptions(), Dataset.read(root)
    old = read_pictures(before)
    held = frozenset(before.path(sample) for sample in before.samples)
    intake = _Intake(known=KnownPictures(held=held, relabel=options.relabel))
    for sample, reading in zip(before.samples, old, strict=True):
        item = Found(path=before.path(sample), label=sample.label, defect=sample.defect)
        intake.known.remember(reading.pixels_sha256, item)
    lying = {*held, *(root / "images").rglob("*")}  # pictures that were removed stay until they are pruned
    intake.names |= {path.relative_to(root / "images").with_suffix("").as_posix().lower() for path in lying
                     if path.is_relative_to(root / "images")}  # fmt: skip
    folder = Path(tempfile.mkdtemp(dir=root, prefix=".adding."))
    try:
        _take_all(source, folder, options, intake)
        new = tuple(_sample(record) for record in intake.records)
        new = _grouped(before.samples, old, new, intake.readings)
        with locked(root):
            samples = _joined(root, before, new, intake, options)
            with _moved_in(folder, root):
                record_change(root, samples, what="add", details={"source": readable(str(source))})
    except OSError as error:
        raise DatasetError(f"{root}: cannot be written ({error.strerror or error}). Free some space.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    messages = [f"{len(new)} pictures were added to {root}."]
    known = intake.known
    if known.given:
        whose = "pictures were relabelled" if options.relabel else "unlabelled pictures received a label"
        messages.append(f"{len(known.given)} {whose}.")
    if known.conflicts:
        end = "replaced" if options.relabel else "kept; --relabel replaces them"
        messages.append(f"{len(known.conflicts)} pictures have another label in {root}. Its labels were {end}.")
    notes = (*messages, *_notes(intake, source, samples))
    dataset = Dataset(root=root, samples=samples, depth=before.depth)
    return Imported(dataset=dataset, notes=notes, conflicts=tuple(known.conflicts))


def _take_all(source: Path, folder: Path, options: ImportOptions, intake: _Intake) -> None:
    """Copy the pictures of a source into a folder and collect their records."""
    if options.annotations is not None:
        annotations = read_annotations(options.annotations)
    else:
        annotations = beside(list(images.find(source)) if source.is_dir() else [])
    found = read_layout(
        source,
        good=options.good,
        mask_suffix=options.mask_suffix,
        unlabelled=options.unlabelled or bool(annotations.pictures),
    )
    _describe(found, annotations, source, options, intake)
    readings = read_all([(item.path, item.mask) for item in found], "Reading pictures", keep_data=True)
    for item, reading in zip(found, readings, strict=True):
        _take(item, reading, source, folder, options, intake)
    _refuse(intake.faults, source)


def _describe(
    found: Sequence[Found], annotations: Annotations, source: Path, options: ImportOptions, intake: _Intake
) -> None:
    """Match the label file with the pictures, and refuse one that says nothing about them."""
    intake.described, others = annotations.of([item.path for item in found], source)
    intake.notes = annotations.notes
    if others:
        intake.notes += (f"{others} annotated pictures are not in {source}.",)
    name = options.object_name
    if options.annotations is not None and not any(
        said.tags or said.fields or any(name in (None, mark.name) or mark.outline for mark in said.shapes)
        for said in intake.described.values()
    ):
        raise DatasetError(
            f"{options.annotations}: expected boxes, outlines or labels for the pictures in {source}, found none. "
            "Check --annotations and --object; pictures are matched by file name."
        )


def _grouped(
    before: Sequence[Sample], old: Sequence[Reading], new: Sequence[Sample], readings: Sequence[Reading]
) -> tuple[Sample, ...]:
    """Assign near-duplicate groups to new samples: the group of a matching old picture, or a new one."""
    near = near_groups([*old, *readings])
    known: dict[int, int] = {}
    for sample, number in zip(before, near, strict=False):
        if sample.group is not None:
            known.setdefault(number, sample.group)
    free = max((sample.group for sample in before if sample.group is not None), default=-1) + 1
    for number in near:
        if number not in known:
            known[number], free = free, free + 1
    pairs = zip(new, near[len(old) :], strict=True)
    return tuple(sample.model_copy(update={"group": known[number]}) for sample, number in pairs)


def _joined(
    root: Path, before: Dataset, new: Sequence[Sample], intake: _Intake, options: ImportOptions
) -> tuple[Sample, ...]:
    """Merge the current records and the new ones, with added labels and splits."""
    now = Dataset.read(root)
    names = {sample.file_name for sample in now.samples}
    taken = [sample.file_name for sample in new if sample.file_name in names or (root / sample.file_name).exists()]
    if taken or not {sample.file_name for sample in before.samples} <= names:
        raise DatasetError(f"{root}: the data set was changed during the import; nothing was added. Add again.")
    kept = [intake.known.relabelled(sample, root / sample.file_name) for sample in now.samples]
    samples = (*kept, *(sample.model_copy(update={"split": None}) for sample in new))
    if now.samples and all(sample.split is None for sample in now.samples):
        return samples  # training makes the splits of such a data set
    fractions, early = options.fractions or Fractions(), judged_unlabelled(now)
    if not options.split_within_lots:
        return complete_splits(samples, fractions, options.seed, early=early)
    return assign_splits(samples, groups_of(samples, by_lot=False), fractions, options.seed, keep=True, early=early)


@contextmanager
def _moved_in(folder: Path, root: Path) -> Iterator[None]:
    """Move the new files into the data set; they are deleted again if the block raises."""
    moved = []
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                target = root / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
                moved.append(target)
        yield
    except BaseException:  # BLE001: undone whatever happened, and raised again
        for target in moved:
            target.unlink(missing_ok=True)
        raise


def _take(
    item: Found,
    reading: Reading | Unreadable,
    source: Path,
    folder: Path,
    options: ImportOptions,
    intake: _Intake,
) -> None:
    """Copy one picture and store its record, or the reason why it cannot be imported."""
    if isinstance(reading, Unreadable):
        intake.faults.append(reading.reason)
        return
    try:
        said = intake.described.get(item.path)
        both = joined(item, said, reading.size_wh, good=options.good, object_name=options.object_name)
    except DatasetError as error:
        intake.faults.append(str(error) if str(item.path) in str(error) else f"{item.path}: {error}")
        return
    item = both.item
    if intake.known.is_copy(item, reading.pixels_sha256, intake.faults):
        return
    record: dict[str, Any] = {key: value for key, value in item.record.items() if value is not None}
    record |= _identity(item.path.relative_to(source).as_posix(), options) | both.columns
    if options.camera_regex is not None and item.defect == record.get("part"):
        item = replace(item, defect=None)  # bad/PART/CAMERA.png: the folder is the part, not a defect kind
    kind = re.sub(r"[^\w.+-]+", "_", named(item))
    name = _free_name(item.path, source, kind, intake.names)
    mask = _mask_file(both, reading)
    if mask is not None:
        if item.label is Label.GOOD:
            intake.faults.append(
                f"{item.mask} marks a defect on a picture labelled good. Correct the label or the mask."
            )
            return
        record["mask_file_name"] = f"masks/{kind}/{Path(name).stem}{mask[0]}"
        _write(folder / record["mask_file_name"], mask[1])
    intake.empty_masks += mask is None and (item.mask is not None or both.mask is not None)
    _count(both, intake)
    record |= {"file_name": f"images/{kind}/{name}", "label": item.label, "defect": item.defect}
    _write(folder / record["file_name"], reading.data)
    intake.records.append(record)
    intake.readings.append(replace(reading, data=b""))


def _mask_file(both: Joined, reading: Reading) -> tuple[str, bytes] | None:
    """Suffix and content of a picture's mask: the outlines of the label file if it has any, else the mask's file."""
    if both.mask is not None:
        return (".png", images.encode_png(both.mask.astype(np.uint8) * 255)) if both.mask.any() else None
    if both.item.mask is None or not reading.mask_marks:
        return None
    return both.item.mask.suffix, images.read_bytes(both.item.mask)


def _count(both: Joined, intake: _Intake) -> None:
    intake.boxes += len(both.boxes)
    intake.several_boxes += "objects" in both.columns and "box_xyxy" not in both.columns
    intake.outlined += both.mask is not None
    intake.unknown.update(both.unknown)


def _identity(name: str, options: ImportOptions) -> dict[str, str]:
    """Part and lot from the path, by the regular expressions in the options."""
    identity = {}
    for key, pattern in (
        ("part", options.part_regex),
        ("lot", options.lot_regex),
        ("camera", options.camera_regex),
    ):
        if pattern is None:
            continue
        try:
            match = re.search(pattern, name)
        except re.error as error:
            raise DatasetError(f"--{key}-regex {pattern}: not a regular expression ({error}). Correct it.") from error
        if match is None or not match.groups() or match.group(1) is None:
            raise DatasetError(
                f"--{key}-regex {pattern}: expected its first group to match in every path, found none in {name}. "
                r"Put the identity in parentheses, for example 'part(\d+)_'."
            )
        identity[key] = match.group(1)
    return identity


def _free_name(path: Path, source: Path, kind: str, taken: set[str]) -> str:
    """The picture's name, prefixed with its folders if that is taken; stems are unique, because masks use them."""
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
        raise DatasetError(f"{source}: nothing was imported. Fix or remove these files first:\n  {shown}{more}")


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
    notes = [f"{len(samples)} pictures of {len(set(near))} different parts, judged by their surfaces."]
    notes += cameras_note(samples)
    largest = Counter(near).most_common(1)[0][1]
    if largest > len(samples) / 2:
        notes.append(f"{largest} of them seem to show the same part and share a split. Check that they do.")
    blank = sum(not reading.look.comparable for reading in readings)
    if blank:
        notes.append(f"{blank} pictures have too little texture to find near-duplicates. Name parts with --part-regex.")
    given = [sample.split is not None for sample in samples]
    labelled = [sample.label is not None for sample in samples]
    if options.fractions is None and any(given) and all(map(operator.ge, given, labelled)):
        return samples, [*notes, "The splits of the source were kept. Use --splits to make new ones."]
    fractions = options.fractions or Fractions()
    samples = resplit(samples, fractions, options.seed, within_lots=options.split_within_lots)
    return samples, [*notes, *gaps(samples, fractions)]


def _notes(intake: _Intake, source: Path, samples: Sequence[Sample]) -> list[str]:
    notes = [note for note in (images.others(source), parts_with_both_labels(samples)) if note]
    if intake.known.copies:
        notes.append(f"{intake.known.copies} exact duplicates of other pictures were skipped.")
    if intake.empty_masks:
        notes.append(f"{intake.empty_masks} empty masks were skipped.")
    notes += intake.notes
    if intake.described:
        notes.append(f"{intake.boxes} boxes were read.")
    if intake.outlined:
        notes.append(
            f"{intake.outlined} pictures have outlined defects, which became masks (--object NAME reads outlines of "
            "that class as parts)."
        )
    if intake.unknown:
        classes = ", ".join(f"{name} ({count})" for name, count in intake.unknown.most_common(10))
        notes.append(f"Classes of whole pictures that say neither good nor bad were skipped: {classes}. See --good.")
    if intake.several_boxes:
        notes.append(
            f"{intake.several_boxes} pictures have several boxes: these are stored as objects, not as the region of "
            "interest (--object NAME uses only the boxes with one class name)."
        )
    return notes
