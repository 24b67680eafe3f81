"""Compiled graphs, kept between starts and believed only where this user made them from this very bundle.

Whatever lies in the cache would run in place of the sealed graph. So each file carries a message authentication code
(HMAC-SHA-256) over its bytes and over what it was made from, under a key that only this user can read. The bytes are
read once, checked in memory, and those same bytes are handed on. Anything else counts as not there: the caller
compiles the sealed graph.
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
"""Kept at most; the longest unused are removed. One graph of one bundle is one file, whatever revision it is of."""
MOST_BYTES = 1_000_000_000
"""Of one file, and of all together."""
SUFFIX = ".compiled"
_MAGIC = b"gonogo compiled graph 1\n"
_KEY_BYTES = 32
_LEFTOVER_S = 3600.0

Binding = Mapping[str, str]
"""What a compiled graph was made from and for: bundle, graph, OpenVINO, processor, device, precision."""


@dataclass(frozen=True, kw_only=True)
class CompiledCache:
    """A folder of compiled graphs and the key that vouches for them. Any failure to read or write is a miss."""

    folder: Path
    """Readable by this user alone; made where it is missing."""
    key_file: Path
    """Elsewhere, so that write access to the folder, or a copy of it, is not enough to have a graph believed."""

    def file(self, place: str) -> Path:
        """Where the graph of a place lies.

        Args:
            place: Names bundle folder and graph; one graph of one folder has one file.
        """
        return self.folder / f"{hashlib.sha256(place.encode(errors='surrogateescape')).hexdigest()[:32]}{SUFFIX}"

    def read(self, place: str, binding: Binding) -> bytes | None:
        """The compiled graph, or ``None`` where there is none made by this user from exactly this."""
        data, key = _read(self.file(place), MOST_BYTES), self._key()
        head = len(_MAGIC) + hashlib.sha256().digest_size
        if data is None or key is None or not data.startswith(_MAGIC):
            return None
        blob = data[head:]
        if not hmac.compare_digest(data[len(_MAGIC) : head], _code(key, binding, blob)):
            return None
        with contextlib.suppress(OSError):
            os.utime(self.file(place))  # used a moment ago
        return blob

    def write(self, place: str, binding: Binding, blob: bytes) -> None:
        """Keep a graph that was just compiled from sealed bytes; without a key, or on a full disk, nothing is kept."""
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
        """Remove what is no file of ours, such as a pipe or a link: it would not be written over."""
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(self.file(place).lstat().st_mode):
                self.file(place).unlink()

    def discard(self, place: str) -> None:
        """Forget the graph of a place."""
        with contextlib.suppress(OSError):
            self.file(place).unlink(missing_ok=True)

    def _key(self) -> bytes | None:
        """The key, unless somebody else could have read or written it."""
        found = _read(self.key_file, _KEY_BYTES, private=True)
        return found if found is not None and len(found) == _KEY_BYTES else None

    def _new_key(self) -> bytes | None:
        """A new key in place of a missing or exposed one; every graph kept under the old one is then a miss."""
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
    """Over the binding's length, the binding and the graph, so that no byte can move from one to the other."""
    said = json.dumps(dict(binding), sort_keys=True).encode()
    code = hmac.new(key, len(said).to_bytes(8, "little") + said, "sha256")
    code.update(blob)
    return code.digest()


def _read(path: Path, most: int, *, private: bool = False) -> bytes | None:
    """The bytes of a regular file, read once; ``None`` where it is none, too large or, if ``private``, exposed."""
    try:
        return read_regular(path, most_bytes=most, follow=False, private=private)
    except OSError:
        return None
