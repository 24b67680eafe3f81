"""Backup and restore of a workspace: one file with everything in it, checked byte by byte when it comes back.

The file is an uncompressed tar archive (pictures are compressed already). Its last member, ``gonogo-backup.json``,
holds the size and SHA-256 of every file, so that a file that was cut short or changed is refused. A server and its
stations may run meanwhile: databases are copied as of one moment, a data set's records under its lock, and pictures and
frames are never changed once they are written.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import stat
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

import apsw
from pydantic import JsonValue

import gonogo
from gonogo.dataset import locked
from gonogo.errors import GonogoError, InputError
from gonogo.files import disk_is_full, free_bytes, parse_json
from gonogo.ledger import Action, verify
from gonogo.ledger.frames import frames_folder
from gonogo.names import readable
from gonogo.progress import track
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.workspace import Workspace
from gonogo.signed_actions import SignatureCheck

MANIFEST = "gonogo-backup.json"
FORMAT = 1
_SQLITE = b"SQLite format 3\x00"
_SKIPPED_ENDINGS = ("-wal", "-shm", "-journal")
_MOST_MANIFEST_BYTES = 1_000_000_000
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Backup:
    """What a backup holds."""

    file: Path
    files: int
    bytes: int
    """Sum of their sizes."""
    notes: list[str]
    """What is not in it, and what else its owner should know."""


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What came back."""

    workspace: Path
    made_at: str
    """When the backup was made, ISO 8601."""
    files: int
    bytes: int
    notes: list[str]
    """What was not in the backup, and what else its owner should know."""
    findings: list[str]
    """Signs of tampering or damage that the ledger already had; empty if it is intact."""


@dataclass(kw_only=True)
class _Writer:
    tar: tarfile.TarFile
    root: Path
    scratch: Path
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """Add a file once; one that vanished meanwhile was temporary, or belongs to a change after the backup began."""
        name = path.relative_to(self.root).as_posix()
        if name in self.entries:
            return
        with contextlib.suppress(FileNotFoundError):
            if not path.is_file():
                self.notes.append(f"{readable(name)} is left out: not a file")
                return
            with path.open("rb") as file:
                if file.read(len(_SQLITE)) != _SQLITE:
                    file.seek(0)
                    self._write(name, file)
                    return
            copy = self.scratch / "database"
            _copy_database(path, copy)
            with copy.open("rb") as file:
                self._write(name, file, mode=path.stat().st_mode)
            copy.unlink()

    def _write(self, name: str, file: IO[bytes], *, mode: int | None = None) -> None:
        found = os.fstat(file.fileno())
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime = found.st_size, int(found.st_mtime)
        entry.mode = stat.S_IMODE(found.st_mode if mode is None else mode) & 0o777
        reader = _Hashing(file)
        self.tar.addfile(entry, reader)  # type: ignore[arg-type]  # it needs read() alone
        self.entries[name] = {"size": entry.size, "sha256": reader.digest()}


class _Hashing:
    """Reads a file and computes its SHA-256 on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        return self._hash.hexdigest()


def back_up(root: Path, to: Path, *, who: str) -> Backup:
    """Write a workspace to one file, which only this user may read.

    Args:
        root: The workspace; it may be in use.
        to: The file; it must not exist.
        who: Stands in the ledger beside the action ``workspace_backed_up``.

    Raises:
        InputError: there is no workspace, the file exists, or it cannot be written; nothing is left behind then.
    """
    space = opened_workspace(root)
    if to.exists():
        raise InputError(f"{to}: already exists. Choose another name or remove it first.")
    if to.resolve().is_relative_to(space.root):
        raise InputError(f"{to}: expected a file outside of the workspace {space.root}. Choose another folder.")
    notes = _recorded(space, "workspace_backed_up", who, file=readable(to.name))
    with _beside(to) as (partial, scratch):
        with partial.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            made = _Writer(tar=tar, root=space.root, scratch=scratch, notes=notes)
            for path in track(_in_order(space, made), "backing up"):
                made.add(path)
            _add_manifest(tar, made)
            tar.close()
            file.flush()
            os.fsync(file.fileno())
        partial.replace(to)
    total = sum(entry["size"] for entry in made.entries.values())
    return Backup(file=to, files=len(made.entries), bytes=total, notes=made.notes)


@contextlib.contextmanager
def _beside(to: Path) -> Iterator[tuple[Path, Path]]:
    """Make an empty file and a folder beside a path, which only this user may read; both are gone afterwards."""
    try:
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as folder:
            partial = Path(folder) / "backup"
            partial.touch(mode=0o600)
            yield partial, Path(folder)
    except OSError as error:
        step = "Free some space or choose another disk." if disk_is_full(error) else "Choose another folder."
        raise InputError(f"{to}: cannot be written ({error.strerror or error}). {step}") from error


def restore(file: Path, to: Path, *, who: str) -> Restored:
    """Write the workspace of a backup to a new folder, and check every byte of it and its ledger.

    Everybody is logged out. Keys that were revoked and people who were locked out after the backup can use the
    workspace again; the ledger's action ``workspace_restored`` says from when the backup is.

    Args:
        file: The backup.
        to: The folder; it must not exist.
        who: Stands in the ledger beside the action.

    Raises:
        InputError: it is no backup, incomplete or changed, or the folder exists or cannot be written; nothing is left
            behind then.
    """
    if to.exists():
        raise InputError(f"{to}: already exists. Restore to a new folder, then exchange the two.")
    try:
        if (size := file.stat().st_size) > free_bytes(to.parent):
            raise InputError(f"{to}: expected {size:,} bytes of free space, found less. Free some space.")
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as folder:
            root = Path(folder) / "workspace"
            manifest = _extracted(file, root)
            _log_everybody_out(root)
            root.rename(to)
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{file}: cannot be restored to {to} ({error}).") from error
    space = Workspace.open(to)
    findings: list[str] = []
    if space.ledger.is_file():
        found = verify(space.ledger, frames=frames_folder(space.ledger).is_dir(), also=SignatureCheck())
        findings = [each.what if each.seq is None else f"row {each.seq}: {each.what}" for each in found]
    notes = _recorded(space, "workspace_restored", who, file=readable(file.name), made_at=manifest["made_at"])
    sizes = [entry["size"] for entry in manifest["files"].values()]
    return Restored(
        workspace=to,
        made_at=manifest["made_at"],
        files=len(sizes),
        bytes=sum(sizes),
        notes=[*manifest["notes"], *notes],
        findings=findings,
    )


def _recorded(space: Workspace, action: str, who: str, **details: JsonValue) -> list[str]:
    """Record an action. A ledger that cannot be written is backed up all the same: it may be evidence."""
    try:
        pool = LedgerPool.open(space.ledger)
    except GonogoError as error:
        return [f"{action} does not stand in the ledger: {error}"]
    try:
        pool.append(Action(action=action, who=who, details=details))
    finally:
        pool.close()
    return []


def opened_workspace(root: Path) -> Workspace:
    """Open a workspace that a server has already used.

    Raises:
        InputError: there is none.
    """
    if not (root / "server.db").is_file():
        raise InputError(f"{root}: expected the workspace of a server, found none. Start it once: gonogo serve {root}")
    return Workspace.open(root)


def _in_order(space: Workspace, made: _Writer) -> Iterator[Path]:
    """List the files: the ledger before its frames, a data set's records before its pictures."""
    if space.ledger.is_relative_to(space.root):
        yield space.ledger
    else:
        made.notes.append(f"{space.ledger} is left out: station.toml names a ledger outside of the workspace")
    yield space.database
    for dataset in sorted(space.datasets.iterdir()):
        if (dataset / "metadata.jsonl").is_file():
            with locked(dataset):
                for record in sorted(dataset.iterdir()):
                    if record.is_file():
                        made.add(record)
    for folder, inside, names in os.walk(space.root):
        here = Path(folder)
        inside[:] = sorted(each for each in inside if not _is_volatile(here / each, space, made))
        yield from (here / name for name in sorted(names) if not name.endswith(_SKIPPED_ENDINGS))


def _is_volatile(folder: Path, space: Workspace, made: _Writer) -> bool:
    if folder.is_symlink():
        made.notes.append(f"{readable(str(folder.relative_to(space.root)))} is left out: a link to another folder")
        return True
    return folder == space.station_state  # what a station writes anew when it starts


def _copy_database(source: Path, copy: Path) -> None:
    """Copy an SQLite database as of one moment."""
    copy.unlink(missing_ok=True)
    reading = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
    writing = apsw.Connection(str(copy))
    try:
        reading.set_busy_timeout(10_000)
        with writing.backup("main", reading, "main") as moving:
            moving.step(-1)
    except apsw.Error as error:
        raise OSError(0, f"the database cannot be read: {error}", str(source)) from error
    finally:
        writing.close()
        reading.close()


def _add_manifest(tar: tarfile.TarFile, made: _Writer) -> None:
    content = {
        "format": FORMAT,
        "gonogo": gonogo.__version__,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "notes": made.notes,
        "files": made.entries,
    }
    data = json.dumps(content).encode()
    entry = tarfile.TarInfo(MANIFEST)
    entry.size, entry.mode = len(data), 0o600
    tar.addfile(entry, io.BytesIO(data))


def _extracted(file: Path, root: Path) -> dict[str, Any]:
    """Write the files below a folder and return the manifest that they agree with."""
    found: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] | None = None
    root.mkdir()
    with tarfile.open(file, mode="r:") as tar:
        for entry in track(tar, "restoring"):
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is None or manifest is not None:
                raise _no_backup(file, f"{readable(entry.name)}, which no backup has")
            if entry.name == MANIFEST:
                manifest = _read_manifest(file, content.read(min(entry.size, _MOST_MANIFEST_BYTES)))
                continue
            path = root / _safe(file, entry.name, found)
            path.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            with path.open("xb") as out:
                while data := content.read(_CHUNK):
                    digest.update(data)
                    out.write(data)
            path.chmod(entry.mode & 0o777 | 0o600)
            found[entry.name] = {"size": entry.size, "sha256": digest.hexdigest()}
    if manifest is None:
        raise _no_backup(file, "no list of its files: it was cut short")
    wrong = [name for name in sorted({*found, *manifest["files"]}) if found.get(name) != manifest["files"].get(name)]
    if wrong:
        raise _no_backup(file, f"{len(wrong)} files that differ from the list, the first {readable(wrong[0])}")
    return manifest


def _read_manifest(file: Path, data: bytes) -> dict[str, Any]:
    try:
        content: Any = parse_json(data)
        if content["format"] > FORMAT:
            version = readable(str(content["gonogo"]))
            raise InputError(f"{file}: made by gonogo {version}. Restore it with that version or a newer one.")
        return {name: content[name] for name in ("made_at", "notes", "files")}
    except (ValueError, KeyError, TypeError) as error:
        raise _no_backup(file, "a list of files that cannot be read") from error


def _safe(file: Path, name: str, found: dict[str, Any]) -> PurePosixPath:
    path = PurePosixPath(name)
    foreign = sys.platform == "win32" and any(sign in name for sign in "\\:")
    if foreign or path.is_absolute() or ".." in path.parts or name in found or path.as_posix() != name:
        raise _no_backup(file, f"the name {readable(name)!r}, which no backup has")
    return path


def _no_backup(file: Path, found: str) -> InputError:
    return InputError(f"{file}: expected a backup of a workspace, found {found}. Use another backup.")


def _log_everybody_out(root: Path) -> None:
    path = root / "server.db"
    if path.is_file():
        connection = apsw.Connection(str(path))
        try:
            connection.execute("DELETE FROM sessions")
        except apsw.Error as error:
            raise OSError(0, f"server.db cannot be opened: {error}") from error
        finally:
            connection.close()
