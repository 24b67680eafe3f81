"""Upload of photographs as files, folders or ZIP archives; every picture is checked before it is stored."""

from __future__ import annotations

import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, TypeAlias

from gonogo import images
from gonogo.config import PictureLimits
from gonogo.dataset import Sample, label_named
from gonogo.errors import ImageError, InputError
from gonogo.files import free_bytes, write_beside
from gonogo.images import CostlyImageError
from gonogo.schema import Label
from gonogo.server.access import MIB
from gonogo.server.dataset_store import LONGEST_KIND, Datasets, Records
from gonogo.server.language import N_
from gonogo.server.ledger_pool import LedgerPool

MOST_BYTES = 1024 * MIB
"""Maximum size of one upload as sent."""
MOST_UNPACKED_BYTES = 4 * MOST_BYTES
MOST_MEMBERS = 20_000
MOST_DIRECTORY_BYTES = 16 * MIB
"""Maximum size of an archive's list of files, which is read whole before their number is known."""
MOST_PICTURES = 100_000
"""Maximum number of pictures in one data set."""
MOST_DATASET_BYTES = 200 * 1024 * MIB
LEAST_FREE_BYTES = 1024 * MIB
"""Minimum free disk space: stations record on the same disk, and without space every part is a fault."""
MOST_COSTLY = 3
"""After this many pictures that took too long to decode, the rest of the upload is skipped."""
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Other methods may expand a few kilobytes to gigabytes in a single step."""
_PICTURE_STARTS = (b"\xff\xd8", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"RIFF", b"GIF8")
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')  # a data set may be copied to a Windows PC
_LONGEST_NAME = 120
_LONGEST_END = 22 + 65_535 + 76
_MOST_NAMED = 20
_UNPACKING = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, OSError, EOFError, ValueError)
"""Exceptions raised for a damaged member; NotImplementedError (unknown method) is a RuntimeError."""


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A file that was skipped."""

    name: str
    reason: str
    """In English; messages of the server are marked for translation."""


Item: TypeAlias = "tuple[str, bytes] | SkippedFile"
"""A picture's path as sent and its bytes, or the reason why it was skipped."""


@dataclass
class UploadResult:
    """Result of an upload."""

    added: int = 0
    copies: int = 0
    """Files that the data set already contains, byte for byte."""
    labelled: int = 0
    """Unlabelled pictures among them that got the label of their folder."""
    unknown_folders: list[str] = field(default_factory=list)
    """Folder names that mean neither good nor bad; their pictures stay unlabelled."""
    refused: list[SkippedFile] = field(default_factory=list)


def take(
    datasets: Datasets,
    ledger_pool: LedgerPool,
    dataset: str,
    sent: Iterable[tuple[str, BinaryIO]],
    *,
    who: str,
    by_folder: bool = False,
) -> UploadResult:
    """Add pictures to a data set; unreadable files are skipped and reported.

    Args:
        datasets: The workspace's data sets.
        ledger_pool: Records the upload.
        dataset: Name of the data set.
        sent: Files with their names or relative paths; archives are unpacked.
        who: Name of the uploader.
        by_folder: Label pictures by their folders: ``good``, ``bad`` or ``bad/<kind>``, or synonyms that `label_named`
            knows. Unlabelled pictures that already exist get these labels too.

    Raises:
        RefusedError: no such data set.
        InputError: the disk is full.
    """
    taken = UploadResult()
    new = list(_stored(datasets.read(dataset), _items(sent), taken, by_folder=by_folder))
    with datasets.changing(dataset, what="upload", who=who) as draft:
        existing = [sample for sample in new if sample.file_name in draft.samples]
        new = [sample for sample in new if sample.file_name not in draft.samples]
        draft.put(_labelled(existing, draft.samples, taken))
        ledger_pool.act(
            "upload", who, dataset=dataset, pictures=len(new), refused=len(taken.refused), by_folder=by_folder
        )
        draft.put(new)
    taken.added = len(new)
    return taken


def _stored(records: Records, items: Iterable[Item], taken: UploadResult, *, by_folder: bool) -> Iterator[Sample]:
    """Check and write pictures one at a time, each under a free name."""
    folder = records.root / "images"
    lying = {records.root / file for file in records.samples} | set(folder.glob("*"))
    stems = {path.stem.lower() for path in lying}
    held: dict[int, list[Path]] = {}
    for path in lying:
        if path.is_file():
            held.setdefault(path.stat().st_size, []).append(path)
    room = _Capacity(records.root, sum(map(len, held.values())), sum(size * len(paths) for size, paths in held.items()))
    for name, data in _readable(items, taken):
        twin = next((path for path in held.get(len(data), []) if path.read_bytes() == data), None)
        if twin is not None and twin.relative_to(records.root).as_posix() in records.samples:
            taken.copies += 1
            if by_folder:
                yield _labelled_by_folder(name, twin.relative_to(records.root).as_posix(), taken)
            continue
        if twin is None and (full := room.obstacle(len(data))):
            taken.refused.append(SkippedFile(name=name, reason=full))
            return
        path = twin or _reserved(folder, _plain(name), stems)
        if twin is None:
            _write(path, data)
            room.take(len(data))
        held.setdefault(len(data), []).append(path)
        file = path.relative_to(records.root).as_posix()
        yield _labelled_by_folder(name, file, taken) if by_folder else Sample(file_name=file)


def _readable(items: Iterable[Item], taken: UploadResult) -> Iterator[tuple[str, bytes]]:
    """Yield the decodable pictures; problems of the others are recorded in ``taken``."""
    costly = 0
    for item in items:
        if isinstance(item, SkippedFile):
            taken.refused.append(item)
            continue
        name, data = item
        try:
            images.decode_confined(data, name=PurePosixPath(name).name)
        except ImageError as error:
            taken.refused.append(SkippedFile(name=name, reason=str(error)))
            costly += isinstance(error, CostlyImageError)
        else:
            yield name, data
        if costly == MOST_COSTLY:
            taken.refused.append(
                SkippedFile(name=name, reason=N_("Several files took too long; the rest was skipped."))
            )
            return


def _labelled_by_folder(name: str, file: str, taken: UploadResult) -> Sample:
    """Create a record labelled by the picture's folders."""
    label, defect = _label_of(name)
    folder = PurePosixPath(name.replace("\\", "/")).parent.name
    if label is None and folder and folder not in taken.unknown_folders and len(taken.unknown_folders) < _MOST_NAMED:
        taken.unknown_folders.append(folder[:LONGEST_KIND])
    return Sample(file_name=file, label=label, defect=defect)


def _labelled(sent: Iterable[Sample], there: Mapping[str, Sample], taken: UploadResult) -> Iterator[Sample]:
    """Yield existing unlabelled pictures with the label of their folder; existing labels are kept."""
    for sample in sent:
        known = there[sample.file_name]
        if sample.label is None or known.present is False:
            continue
        if known.label is None:
            taken.labelled += 1
            yield known.model_copy(update={"label": sample.label, "defect": sample.defect})
        elif known.label is not sample.label:
            reason = N_("This picture already exists with the other label. The existing label was kept.")
            taken.refused.append(SkippedFile(name=sample.file_name, reason=reason))


@dataclass
class _Capacity:
    """Remaining capacity of a data set."""

    root: Path
    pictures: int
    taken_bytes: int

    def obstacle(self, size: int) -> str:
        """Return why a picture of this size cannot be stored; empty if it can."""
        if self.pictures >= MOST_PICTURES:
            return N_("The data set has reached its maximum number of pictures; the rest was skipped.")
        if self.taken_bytes + size > MOST_DATASET_BYTES:
            return N_("The data set has reached its maximum size; the rest was skipped.")
        if free_bytes(self.root) - size < LEAST_FREE_BYTES:
            return N_("The disk is nearly full; the rest was skipped. Free some space first.")
        return ""

    def take(self, size: int) -> None:
        """Count one more stored picture."""
        self.pictures, self.taken_bytes = self.pictures + 1, self.taken_bytes + size


def _write(path: Path, data: bytes) -> None:
    """Write a reserved file; if the disk is full, release the name."""
    try:
        write_beside(path, data)
    except InputError:
        path.unlink(missing_ok=True)
        raise


def _items(sent: Iterable[tuple[str, BinaryIO]]) -> Iterator[Item]:
    most = PictureLimits().max_file_bytes
    for name, file in sent:
        if zipfile.is_zipfile(file):
            file.seek(0)
            yield from unpacked(name, file)
            continue
        file.seek(0)
        data = file.read(most + 1)
        yield (
            SkippedFile(name=name, reason=N_("The file is too large for one picture."))
            if len(data) > most
            else (
                name,
                data,
            )
        )


def unpacked(
    name: str, file: IO[bytes], *, most_bytes: int = MOST_UNPACKED_BYTES, most_members: int = MOST_MEMBERS
) -> Iterator[Item]:
    """Yield the files of a ZIP archive. Names from the archive are never used as paths.

    Args:
        name: Name of the archive.
        file: The archive.
        most_bytes: Maximum total size of the unpacked files; the rest is skipped.
        most_members: Maximum number of files.
    """
    if _directory_bytes(file) > MOST_DIRECTORY_BYTES:
        yield SkippedFile(name=name, reason=N_("The archive contains too many files."))
        return
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        yield SkippedFile(name=name, reason=f"{name}: the archive is damaged ({error}).")
        return
    members = [member for member in archive.infolist() if not member.is_dir() and not _is_hidden(member.filename)]
    if len(members) > most_members:
        yield SkippedFile(name=name, reason=N_("The archive contains too many files."))
        return
    left = most_bytes
    for member in members:
        reason = _obstacle(member)
        if reason:
            yield SkippedFile(name=member.filename, reason=reason)
            continue
        most = min(left, PictureLimits().max_file_bytes)
        data = _read_member(archive, member, most)
        if isinstance(data, SkippedFile):
            yield data
            continue
        left -= len(data)
        if left < 0:
            yield SkippedFile(
                name=name, reason=N_("The unpacked archive is larger than allowed; the rest was skipped.")
            )
            return
        if len(data) > most:
            yield SkippedFile(name=member.filename, reason=N_("The file is too large for one picture."))
            continue
        yield member.filename, data


def _directory_bytes(file: IO[bytes]) -> int:
    """Size of the list of files that the end of an archive states; 0 if it has no such end."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _LONGEST_END))
    end = file.read()
    file.seek(0)
    at = len(end) - 22 if end[-22:].startswith(b"PK\x05\x06") else end.rfind(b"PK\x05\x06")
    if at < 0:
        return 0
    if end[max(0, at - 20) : at].startswith(b"PK\x06\x07"):  # a large archive has another record before this one
        record = end[max(0, at - 76) : at - 20]
        return int.from_bytes(record[40:48], "little") if record.startswith(b"PK\x06\x06") else size
    return int.from_bytes(end[at + 12 : at + 16], "little")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes | SkippedFile:
    """Read a picture, at most ``most`` + 1 bytes; of other files only the first bytes."""
    try:
        with archive.open(member) as opened:
            data = opened.read(32)
            if _may_be_picture(data):  # other files are not unpacked
                data += opened.read(most + 1 - len(data))  # the size stated in the archive may be false
    except _UNPACKING as error:
        return SkippedFile(name=member.filename, reason=f"{member.filename}: cannot be unpacked ({error}).")
    return data


def _obstacle(member: zipfile.ZipInfo) -> str:
    """Return why a file in an archive must not be opened; empty if it may."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", member.filename):
        return N_("Its path points outside the archive.")
    if stat.S_ISLNK(member.external_attr >> 16):
        return N_("It is a link, not a file.")
    if member.flag_bits & 1:
        return N_("It is encrypted.")
    if member.compress_type not in _PACKED:
        return N_("Its compression method is not supported. Create the archive again with Deflate.")
    if member.file_size > PictureLimits().max_file_bytes:
        return N_("The file is too large for one picture.")
    return ""


def _may_be_picture(head: bytes) -> bool:
    return head.startswith(_PICTURE_STARTS) or head[4:8] == b"ftyp"


def _is_hidden(name: str) -> bool:
    # Files that macOS and Windows add to archives.
    pieces = name.split("/")
    return pieces[0] == "__MACOSX" or pieces[-1] in ("Thumbs.db", "desktop.ini", ".DS_Store")


def _plain(name: str) -> str:
    """Make a file name that is valid on every operating system."""
    last = PurePosixPath(name.replace("\\", "/")).name
    plain = _FORBIDDEN.sub("_", "".join(sign if sign.isprintable() else "_" for sign in last)).strip(". ")
    stem, suffix = PurePosixPath(plain).stem, PurePosixPath(plain).suffix[:10]
    while len((stem + suffix).encode()) > _LONGEST_NAME:
        stem = stem[:-1]
    return (stem or "picture") + suffix


def _reserved(folder: Path, name: str, stems: set[str]) -> Path:
    """Reserve a unique path, also against concurrent uploads; stems are unique because masks are named by stem."""
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
    """Derive label and kind from the folders: good, bad or bad/KIND, or synonyms; otherwise ``None``."""
    folders = PurePosixPath(name.replace("\\", "/")).parts[:-1]
    labels = [label_named(folder) for folder in folders]
    if labels and labels[-1] is not None:
        return labels[-1], None
    if len(labels) > 1 and labels[-2] is Label.BAD and folders[-1].isprintable():
        return Label.BAD, folders[-1][:LONGEST_KIND]
    return None, None
