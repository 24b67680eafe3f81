"""The frame store: files named by the SHA-256 of their bytes, so that changes are detected and duplicates avoided."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from gonogo import images
from gonogo.array_types import UInt16
from gonogo.config import PictureLimits
from gonogo.errors import ImageError, LedgerError
from gonogo.images import Photograph
from gonogo.schema import Frame

_DIGEST = re.compile(r"[0-9a-f]{64}")


def frames_folder(ledger: Path) -> Path:
    """Return the folder of a ledger's frames."""
    return ledger.with_name(ledger.name + "-frames")


class Frames(Protocol):
    """Stored frames under their content addresses: beside a local ledger, or in a store that many stations share."""

    def put(self, data: bytes) -> str:
        """Store the bytes of a picture and return their SHA-256; durable when this returns."""

    def holds(self, digest: str) -> bool:
        """Whether a frame is stored; its bytes are not checked."""

    def read(self, digest: str) -> bytes:
        """Return the bytes of a stored frame, after a check against its hash."""

    def load(self, digest: str, *, limits: PictureLimits | None = None) -> Frame:
        """Decode a stored frame."""

    def photograph(self, digest: str) -> Photograph:
        """Return a stored frame as a photograph, which is decoded on first use."""


class FrameStore:
    """The frames of a ledger: files ``ab/cd/abcd...``, each with the bytes of one encoded picture."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, data: bytes) -> str:
        """Store the bytes of a picture unchanged; durable when this returns.

        Returns:
            The SHA-256 of the bytes, which names the frame.

        Raises:
            LedgerError: the disk is full or not writable; no partial frame is left.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        try:
            if not (path.is_file() and path.stat().st_size == len(data)):
                make_folders(path.parent, below=self.root.parent, mode=0o700)
                _write_durably(path, data)
            # Also for an existing file: its writer may have died before the name was durable.
            sync_folder(path.parent)
        except OSError as error:
            raise LedgerError(
                f"{path}: the frame cannot be stored ({error.strerror or error}). "
                "Free some space, for example with: gonogo ledger retain"
            ) from error
        return digest

    def put_frame(self, frame: Frame | UInt16[np.ndarray, "height width"]) -> str:
        """Store a decoded frame losslessly: as BMP, or 16-bit counts at their full depth as PNG; see `put`.

        The answer waits for this. BMP costs next to nothing to encode; PNG takes longer than judging the frame, but BMP
        has no 16 bits.
        """
        if frame.dtype == np.uint16:
            return self.put(images.encode_png(frame, effort=1))
        done, data = cv2.imencode(".bmp", np.ascontiguousarray(frame[..., ::-1]))
        if not done:
            raise ImageError(f"cannot encode a picture of shape {frame.shape} as BMP.")
        return self.put(data.tobytes())

    def holds(self, digest: str) -> bool:
        """Whether a frame is stored; its bytes are not checked."""
        return self.path(digest).is_file()

    def read(self, digest: str) -> bytes:
        """Return the bytes of a stored frame, after a check against its hash.

        Raises:
            LedgerError: the frame is missing, unreadable or was changed.
        """
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise LedgerError(
                f"{path}: the frame cannot be read ({error.strerror or error}). Was it deleted by gonogo ledger retain?"
            ) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise LedgerError(f"{path}: the frame was changed after it was stored. Restore it from a backup.")
        return data

    def load(self, digest: str, *, limits: PictureLimits | None = None) -> Frame:
        """Decode a stored frame.

        Raises:
            LedgerError: the frame is missing, unreadable or was changed.
            ImageError: the frame is not a picture within the limits.
        """
        return images.decode(self.read(digest), name=str(self.path(digest)), limits=limits)

    def photograph(self, digest: str) -> Photograph:
        """Return a stored frame as a photograph, which is decoded on first use.

        Raises:
            LedgerError: the frame is missing, unreadable or was changed.
        """
        return Photograph(self.read(digest), name=str(self.path(digest)))

    def remove(self, digest: str) -> int:
        """Delete a stored frame and return the number of bytes freed; 0 if there was none."""
        return self.delete(self.path(digest))

    def files(self) -> Iterator[Path]:
        """Yield all files in the store, partly written ones included."""
        return self.root.glob("??/??/*")

    def delete(self, path: Path) -> int:
        """Delete one of `files` and return the number of bytes freed; 0 if it does not exist."""
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise LedgerError(f"{path}: cannot be deleted ({error.strerror or error}). Check the folder.") from error
        return size

    def path(self, digest: str) -> Path:
        """Return the path of a frame.

        Raises:
            LedgerError: the name is not a SHA-256, and could lead out of the folder.
        """
        return self.root / frame_name(digest)


def frame_name(digest: str) -> str:
    """Return the content address of a frame, a path below the root of a store.

    Raises:
        LedgerError: the name is not a SHA-256, and could lead out of the folder.
    """
    if not _DIGEST.fullmatch(digest):
        raise LedgerError(f"expected a frame's SHA-256 in lower-case hexadecimal, found {digest!r}.")
    return f"{digest[:2]}/{digest[2:4]}/{digest}"


def make_folders(folder: Path, *, below: Path | None = None, mode: int = 0o777) -> None:
    """Create a folder and its parents durably, but none at or above ``below``."""
    if folder == below or folder.is_dir():
        return
    make_folders(folder.parent, below=below, mode=mode)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=mode)
    sync_folder(folder.parent)


def _write_durably(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name[:8]}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it are durable; Windows does that with the files."""
    if sys.platform == "win32":
        return  # pragma: no cover  Windows only
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
