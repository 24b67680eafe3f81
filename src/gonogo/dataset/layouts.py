"""Readers for the supported folder layouts: the pictures of a source folder, with their labels, kinds and masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gonogo import images
from gonogo.dataset.records import METADATA, Split, read_json_lines
from gonogo.errors import DatasetError
from gonogo.files import parse_json
from gonogo.schema import Label

_GOOD = {"good", "ok", "okay", "go", "pass", "passed", "accept", "accepted", "conforming", "gut", "gutteil", "gutteile"}
_GOOD |= {"io", "inordnung"}
_BAD = {"bad", "nok", "notok", "nogo", "ng", "fail", "failed", "reject", "rejected", "defect", "defects", "defective"}
_BAD |= {"nonconforming", "schlecht", "schlechtteil", "schlechtteile", "nio", "nichtinordnung", "niok", "ausschuss"}


def label_named(name: str) -> Label | None:
    """Return the label for a word such as good, OK, pass, gut or their opposites, in any case; ``None`` for others.

    >>> label_named("OK"), label_named("Not_OK"), label_named("n.i.O."), label_named("scratch")
    (<Label.GOOD: 'good'>, <Label.BAD: 'bad'>, <Label.BAD: 'bad'>, None)
    """
    plain = "".join(sign for sign in name.casefold() if sign.isalnum())
    return Label.GOOD if plain in _GOOD else Label.BAD if plain in _BAD else None


@dataclass(frozen=True, kw_only=True)
class Found:
    """One picture of a source folder, with its label, kind and mask."""

    path: Path
    label: Label | None
    defect: str | None = None
    mask: Path | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the source's ``metadata.jsonl``."""


def read_layout(
    source: Path, *, good: str | None = None, mask_suffix: str | None = None, unlabelled: bool = False
) -> tuple[Found, ...]:
    """List the pictures of a source folder in any supported layout.

    A ``metadata.jsonl`` is read as Hugging Face imagefolder; ``train/good`` beside ``test`` as MVTec AD; ``good`` and
    ``bad`` (or the folder named by ``good``) as one folder per class.

    Args:
        source: The folder to read; it is not modified.
        good: The class folder of good parts; every other class folder is a defect kind.
        mask_suffix: A file named ``NAME`` + this suffix beside a picture ``NAME.*`` is its defect mask.
        unlabelled: Accept a folder without class folders; its pictures have no label.

    Raises:
        DatasetError: The folder is missing or has no pictures, or its layout does not tell which parts are good.
    """
    if not source.is_dir():
        raise DatasetError(f"{source}: expected a folder of pictures, found no such folder. Check the path.")
    if (source / METADATA).is_file() or any(source.glob(f"*/{METADATA}")):
        return _not_empty(tuple(_image_folder(source, good)), source)
    if (source / "train" / "good").is_dir() and (source / "test").is_dir() and good is None:
        return _not_empty(tuple(_mvtec(source)), source)
    if good is not None or any(label_named(folder.name) for folder in _subfolders(source)):
        return _not_empty(tuple(_class_folders(source, good=good, mask_suffix=mask_suffix)), source)
    pictures, masks = _pictures(source, mask_suffix)
    if pictures and not unlabelled:
        raise DatasetError(
            f"{source}: expected good/ and bad/, MVTec AD's train/good and test/, or {METADATA}; found "
            f"{_listed(_subfolders(source))} and {len(pictures)} pictures. Name the folder of good parts with "
            "--good NAME, or use --unlabelled to import without labels."
        )
    return _not_empty(tuple(Found(path=path, label=None, mask=masks.get(path)) for path in pictures), source)


def _image_folder(source: Path, good: str | None) -> Iterator[Found]:
    paths = [source / METADATA] if (source / METADATA).is_file() else sorted(source.glob(f"*/{METADATA}"))
    for path in paths:
        for number, line in enumerate(read_json_lines(path), start=1):
            if line.strip():
                yield _from_record(line, path, good, f"{path}, line {number}")


def _from_record(line: str, path: Path, good: str | None, where: str) -> Found:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise DatasetError(f"{where}: expected a JSON object ({error}). Correct the line.") from error
    name = record.pop("file_name", None) if isinstance(record, dict) else None
    if not isinstance(name, str):
        raise DatasetError(f"{where}: expected an object with file_name, found {line[:60]!r}. Correct the line.")
    label, kind = _label_of(record.pop("label", None), good, where)
    mask = record.pop("mask_file_name", None)
    if record.get("split") not in (None, *Split):
        record["source_split"] = record.pop("split")
    return Found(
        path=_inside(path.parent, name, where),
        label=label,
        defect=record.pop("defect", None) or kind,
        mask=None if mask is None else _inside(path.parent, mask, where),
        record=record,
    )


def _label_of(value: object, good: str | None, where: str) -> tuple[Label | None, str | None]:
    """Return a record's label and, if the label is the name of a defect kind, that kind."""
    if value is None:
        return None, None
    if str(value) == (good or "good"):
        return Label.GOOD, None
    if value == "bad":
        return Label.BAD, None
    if good is None and (label := label_named(str(value))) is not None:
        return label, None
    if good is None:
        raise DatasetError(
            f"{where}: expected label good, bad or null, found {value!r}. Name the good label with --good NAME; "
            "every other label is then a defect kind."
        )
    return Label.BAD, str(value)


def _inside(root: Path, name: str, where: str) -> Path:
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise DatasetError(f"{where}: expected a path inside {root}, found {name!r}. Correct the line.")
    return root / name


def _mvtec(source: Path) -> Iterator[Found]:
    for path in images.find(source / "train" / "good"):
        yield Found(path=path, label=Label.GOOD)
    for folder in _subfolders(source / "test"):
        for path in images.find(folder):
            if folder.name == "good":
                yield Found(path=path, label=Label.GOOD)
                continue
            mask = source / "ground_truth" / folder.name / f"{path.stem}_mask.png"
            yield Found(path=path, label=Label.BAD, defect=folder.name, mask=mask if mask.is_file() else None)


def _class_folders(source: Path, *, good: str | None, mask_suffix: str | None) -> Iterator[Found]:
    good_name = good or _good_folder(source)
    if not (source / good_name).is_dir():
        raise DatasetError(
            f"{source}: expected a folder {good_name}/ of good parts, found {_listed(_subfolders(source))}. "
            "Name it with --good NAME."
        )
    outside = [path for path in images.find(source) if path.parent == source]
    if outside:
        raise DatasetError(f"{outside[0]}: is not in a class folder. Move it into one, or remove it.")
    for folder in _subfolders(source):
        pictures, masks = _pictures(folder, mask_suffix)
        for path in pictures:
            inner = path.relative_to(folder).parts
            if folder.name == good_name:
                label, defect = Label.GOOD, None
            elif label_named(folder.name) is Label.BAD:
                label, defect = Label.BAD, inner[0] if len(inner) > 1 else None
            elif good is not None:
                label, defect = Label.BAD, folder.name
            else:
                raise DatasetError(
                    f"{folder}: expected only good/ and bad/ (bad/<kind>/ for defect kinds) in {source}. "
                    "Move it under bad/, or use --good good to treat every other folder as a defect kind."
                )
            yield Found(path=path, label=label, defect=defect, mask=masks.get(path))


def _good_folder(source: Path) -> str:
    """Find the folder of good parts by its name: good, OK, pass, gut, in any case."""
    named = [folder.name for folder in _subfolders(source) if label_named(folder.name) is Label.GOOD]
    if len(named) > 1:
        raise DatasetError(
            f"{source}: expected one folder of good parts, found {', '.join(named)}. Name it with --good NAME, and put "
            "the others into it or elsewhere."
        )
    return named[0] if named else "good"


def _pictures(folder: Path, mask_suffix: str | None) -> tuple[list[Path], dict[Path, Path]]:
    """List the pictures under a folder and, with a mask suffix, the masks beside them."""
    files = list(images.find(folder))
    if mask_suffix is None:
        return files, {}
    by_place: dict[Path, list[Path]] = {}
    masks = {
        path: path.with_name(path.name.removesuffix(mask_suffix)) for path in files if path.name.endswith(mask_suffix)
    }
    pictures = [path for path in files if path not in masks]
    for path in pictures:
        by_place.setdefault(path.with_suffix(""), []).append(path)
    found: dict[Path, Path] = {}
    for mask, place in masks.items():
        owners = by_place.get(place, [])
        if len(owners) != 1:
            raise DatasetError(
                f"{mask}: expected one picture {place.name}.* beside this mask, found {len(owners)}. "
                "Check --mask-suffix, or remove the extra files."
            )
        found[owners[0]] = mask
    return pictures, found


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(folder.name for folder in folders[:10]) or "no folders"


def _not_empty(found: tuple[Found, ...], source: Path) -> tuple[Found, ...]:
    if not found:
        raise DatasetError(
            f"{source}: expected pictures ({', '.join(images.SUFFIXES)}), found none. Check the path and the layout."
        )
    return found
