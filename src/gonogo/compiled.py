"""Cache of compiled graphs, used only if this user compiled them from exactly this bundle.

A cached graph runs in place of the sealed one, so it must be authenticated. Each file carries an HMAC-SHA-256 over its
bytes and over what it was compiled from, with a key that only this user can read. The bytes are read once, verified in
memory, and those same bytes are used. Anything that fails the check is a cache miss: the caller compiles the sealed
graph.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gonogo.errors import GonogoError
from gonogo.files import private_folder, read_regular, write_beside

MOST_FILES = 24
"""Largest number of files; the least recently used are removed. All revisions of a bundle share one file per graph."""
MOST_BYTES = 1_000_000_000
"""Largest size of one file, and of all files together."""
SUFFIX = ".compiled"
_MAGIC = b"gonogo compiled graph 1\n"
_KEY_BYTES = 32
_LEFTOVER_S = 3600.0

Binding = Mapping[str, str]
"""What a compiled graph depends on: bundle, graph, OpenVINO, processor, device, precision."""


@dataclass(frozen=True, kw_only=True)
class CompiledCache:
    """A folder of compiled graphs and the key that authenticates them. A failed read or write is a cache miss."""

    folder: Path
    """Accessible to this user only; created if missing."""
    key_file: Path
    """Stored outside the folder, so that write access to the folder, or a copy of it, does not allow forgery."""

    def file(self, place: str) -> Path:
        """Return the cache file of a graph.

        Args:
            place: Identifies the bundle folder and the graph; each graph of each folder has one file.
        """
        return self.folder / f"{hashlib.sha256(place.encode(errors='surrogateescape')).hexdigest()[:32]}{SUFFIX}"

    def read(self, place: str, binding: Binding) -> bytes | None:
        """Return the compiled graph, or ``None`` if this user has not compiled one for exactly this binding."""
        data, key = _read(self.file(place), MOST_BYTES), self._key()
        head = len(_MAGIC) + hashlib.sha256().digest_size
        if data is None or key is None or not data.startswith(_MAGIC):
            return None
        blob = data[head:]
        if not hmac.compare_digest(data[len(_MAGIC) : head], _code(key, binding, blob)):
            return None
        with contextlib.suppress(OSError):
            os.utime(self.file(place))  # mark as recently used
        return blob

    def write(self, place: str, binding: Binding, blob: bytes) -> None:
        """Store a graph that was just compiled from sealed bytes; without a key, or on a full disk, store nothing."""
        if len(blob) + 1024 > MOST_BYTES:
            return
        try:
            private_folder(self.folder)
            key = self._key() or self._new_key()
            if key is not None:
                self._clear(place)
                write_beside(self.file(place), _MAGIC + _code(key, binding, blob) + blob, mode=0o600)
            self._prune()
        except (OSError, GonogoError):
            return

    def _clear(self, place: str) -> None:
        """Remove anything but a regular file, such as a pipe or a link, because it could not be overwritten."""
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(self.file(place).lstat().st_mode):
                self.file(place).unlink()

    def discard(self, place: str) -> None:
        """Remove the graph of a place from the cache."""
        with contextlib.suppress(OSError):
            self.file(place).unlink(missing_ok=True)

    def _key(self) -> bytes | None:
        """Read the key, unless another user could have read or written it."""
        found = _read(self.key_file, _KEY_BYTES, private=True)
        return found if found is not None and len(found) == _KEY_BYTES else None

    def _new_key(self) -> bytes | None:
        """Replace a missing or exposed key; every graph stored under the old one becomes a cache miss."""
        private_folder(self.key_file.parent)
        write_beside(self.key_file, secrets.token_bytes(_KEY_BYTES), mode=0o600)
        return self._key()

    def _prune(self) -> None:
        kept = sorted(((entry.stat(follow_symlinks=False), entry) for entry in os.scandir(self.folder)), key=_age)
        total = 0
        for number, (found, entry) in enumerate(kept):
            total += found.st_size
            whole = entry.name.endswith(SUFFIX) and not entry.name.startswith(".")
            old = number >= MOST_FILES or total > MOST_BYTES if whole else time.time() - found.st_mtime > _LEFTOVER_S
            if old and not stat.S_ISDIR(found.st_mode):
                Path(entry.path).unlink(missing_ok=True)


def _age(kept: tuple[os.stat_result, os.DirEntry[str]]) -> float:
    return -kept[0].st_mtime


def _code(key: bytes, binding: Binding, blob: bytes) -> bytes:
    """HMAC over the binding's length, the binding and the graph, so that no byte can move from one to the other."""
    said = json.dumps(dict(binding), sort_keys=True).encode()
    code = hmac.new(key, len(said).to_bytes(8, "little") + said, "sha256")
    code.update(blob)
    return code.digest()


def _read(path: Path, most: int, *, private: bool = False) -> bytes | None:
    """Read a regular file once; ``None`` if it is not one, is too large or, if ``private``, is exposed."""
    try:
        return read_regular(path, most_bytes=most, follow=False, private=private)
    except OSError:
        return None
