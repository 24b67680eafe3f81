"""Photographs that people hand over: files, folders and ZIP archives, each picture checked before it is taken."""

from __future__ import annotations

import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, TypeAlias

from gonogo import images
from gonogo.config import Limits
from gonogo.dataset import Sample
from gonogo.errors import ImageError
from gonogo.files import write_beside
from gonogo.schema import Label
from gonogo.server.access import MIB
from gonogo.server.datasets import LONGEST_KIND, Records
from gonogo.server.language import N_
from gonogo.server.services import Services

MOST_BYTES = 1024 * MIB
"""Of one upload, as it is sent."""
MOST_UNPACKED_BYTES = 4 * MOST_BYTES
MOST_MEMBERS = 20_000
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')  # a data set may be copied to a Windows PC
_LONGEST_NAME = 120
_UNPACKING = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, OSError, EOFError, ValueError)
"""All that a damaged member may raise; NotImplementedError, for a method unknown here, is a RuntimeError."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file that was not taken."""

    name: str
    reason: str
    """English; marked for translation where it is one of ours."""


Item: TypeAlias = "tuple[str, bytes] | Refused"
"""A picture's path as it was sent, and its bytes; or why there are none."""


@dataclass
class Taken:
    """What became of an upload."""

    added: int = 0
    copies: int = 0
    """Files that the data set holds already, byte for byte."""
    refused: list[Refused] = field(default_factory=list)


def take(
    here: Services, dataset: str, sent: Iterable[tuple[str, BinaryIO]], *, who: str, by_folder: bool = False
) -> Taken:
    """Add pictures to a data set; what cannot be read is left out and named.

    Args:
        here: The services.
        dataset: Whose pictures they become.
        sent: Files with their names or relative paths; archives are unpacked.
        who: Who sent them.
        by_folder: Take labels from the folders that pictures lie in: ``good``, ``bad`` or ``bad/<kind>``.

    Raises:
        RefusedError: no such data set.
        InputError: the disk is full.
    """
    taken = Taken()
    new = list(_stored(here.datasets.read(dataset), _items(sent), taken, by_folder=by_folder))
    with here.datasets.changing(dataset) as draft:
        new = [sample for sample in new if sample.file_name not in draft.samples]
        here.book.act(
            "upload", who, dataset=dataset, pictures=len(new), refused=len(taken.refused), by_folder=by_folder
        )
        draft.put(new)
    taken.added = len(new)
    return taken


def _stored(records: Records, items: Iterable[Item], taken: Taken, *, by_folder: bool) -> Iterator[Sample]:
    """Check and write pictures one by one, each under a free name."""
    folder = records.root / "images"
    lying = {records.root / file for file in records.samples} | set(folder.glob("*"))
    stems = {path.stem.lower() for path in lying}
    held: dict[int, list[Path]] = {}
    for path in lying:
        if path.is_file():
            held.setdefault(path.stat().st_size, []).append(path)
    for item in items:
        if isinstance(item, Refused):
            taken.refused.append(item)
            continue
        name, data = item
        try:
            images.decode(data, name=PurePosixPath(name).name)
        except ImageError as error:
            taken.refused.append(Refused(name=name, reason=str(error)))
            continue
        twin = next((path for path in held.get(len(data), []) if path.read_bytes() == data), None)
        if twin is not None and twin.relative_to(records.root).as_posix() in records.samples:
            taken.copies += 1
            continue
        path = twin or _reserved(folder, _plain(name), stems)
        if twin is None:
            write_beside(path, data)
        held.setdefault(len(data), []).append(path)
        label, defect = _label_of(name) if by_folder else (None, None)
        yield Sample(file_name=path.relative_to(records.root).as_posix(), label=label, defect=defect)


def _items(sent: Iterable[tuple[str, BinaryIO]]) -> Iterator[Item]:
    most = Limits().max_file_bytes
    for name, file in sent:
        if zipfile.is_zipfile(file):
            file.seek(0)
            yield from unpacked(name, file)
            continue
        file.seek(0)
        data = file.read(most + 1)
        yield (
            Refused(name=name, reason=N_("The file is too large for one picture."))
            if len(data) > most
            else (
                name,
                data,
            )
        )


def unpacked(
    name: str, file: IO[bytes], *, most_bytes: int = MOST_UNPACKED_BYTES, most_members: int = MOST_MEMBERS
) -> Iterator[Item]:
    """The files in a ZIP archive. Nothing is ever written under a name from the archive.

    Args:
        name: How the archive is called.
        file: The archive.
        most_bytes: All its files together, unpacked; whatever comes after that is left out.
        most_members: How many files it may have.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        yield Refused(name=name, reason=f"{name}: the archive is damaged ({error}).")
        return
    members = [member for member in archive.infolist() if not member.is_dir() and not _is_hidden(member.filename)]
    if len(members) > most_members:
        yield Refused(name=name, reason=N_("The archive contains too many files."))
        return
    left = most_bytes
    for member in members:
        reason = _against(member)
        if reason:
            yield Refused(name=member.filename, reason=reason)
            continue
        most = min(left, Limits().max_file_bytes)
        try:
            with archive.open(member) as opened:
                data = opened.read(most + 1)  # what the archive says of its size may be a lie
        except _UNPACKING as error:
            yield Refused(name=member.filename, reason=f"{member.filename}: cannot be unpacked ({error}).")
            continue
        left -= len(data)
        if left < 0:
            yield Refused(name=name, reason=N_("The unpacked archive is larger than allowed; the rest was skipped."))
            return
        if len(data) > most:
            yield Refused(name=member.filename, reason=N_("The file is too large for one picture."))
            continue
        yield member.filename, data


def _against(member: zipfile.ZipInfo) -> str:
    """Why a file in an archive is not even opened; empty where it may be."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", member.filename):
        return N_("Its path leads outside the archive.")
    if stat.S_ISLNK(member.external_attr >> 16):
        return N_("It is a link, not a file.")
    if member.flag_bits & 1:
        return N_("It is encrypted.")
    if member.file_size > Limits().max_file_bytes:
        return N_("The file is too large for one picture.")
    return ""


def _is_hidden(name: str) -> bool:
    # What macOS and Windows add by themselves; nobody misses it.
    pieces = name.split("/")
    return pieces[0] == "__MACOSX" or pieces[-1] in ("Thumbs.db", "desktop.ini", ".DS_Store")


def _plain(name: str) -> str:
    """A file name that every system can hold."""
    last = PurePosixPath(name.replace("\\", "/")).name
    plain = _FORBIDDEN.sub("_", "".join(sign if sign.isprintable() else "_" for sign in last)).strip(". ")
    stem, suffix = PurePosixPath(plain).stem, PurePosixPath(plain).suffix[:10]
    while len((stem + suffix).encode()) > _LONGEST_NAME:
        stem = stem[:-1]
    return (stem or "picture") + suffix


def _reserved(folder: Path, name: str, stems: set[str]) -> Path:
    """A path that nobody else gets, even while others upload; no two share a stem, as masks do not."""
    folder.mkdir(exist_ok=True)
    for stem in _tries(PurePosixPath(name).stem):
        path = folder / f"{stem}{PurePosixPath(name).suffix}"
        if stem.lower() in stems:
            continue
        stems.add(stem.lower())
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        return path
    raise AssertionError("there is always a next name")


def _tries(stem: str) -> Iterator[str]:
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1


def _label_of(name: str) -> tuple[Label | None, str | None]:
    """What the folders say: ``good``, ``bad`` or ``bad/<kind>``; anything else says nothing."""
    folders = PurePosixPath(name.replace("\\", "/")).parts[:-1]
    lower = [folder.lower() for folder in folders]
    if lower and lower[-1] == "good":
        return Label.GOOD, None
    if lower and lower[-1] == "bad":
        return Label.BAD, None
    if len(lower) > 1 and lower[-2] == "bad" and folders[-1].isprintable():
        return Label.BAD, folders[-1][:LONGEST_KIND]
    return None, None
