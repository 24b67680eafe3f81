"""Stored frames: files named by the SHA-256 of their bytes, so that one can neither be changed nor stored twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from gonogo import images
from gonogo.config import PictureLimits
from gonogo.errors import ImageError, LedgerError
from gonogo.images import Photograph
from gonogo.schema import Frame

_DIGEST = re.compile(r"[0-9a-f]{64}")


def frames_folder(ledger: Path) -> Path:
    """Where a ledger's frames lie."""
    return ledger.with_name(ledger.name + "-frames")


class FrameStore:
    """The frames beside a ledger: ``ab/cd/abcd...``, each the bytes of one encoded picture."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, data: bytes) -> str:
        """Store a picture's bytes as they came; on the disk, file and name, when this returns.

        Returns:
            The SHA-256 that names it.

        Raises:
            LedgerError: the disk is full or not writable; nothing is left under the final name.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        try:
            if not (path.is_file() and path.stat().st_size == len(data)):
                _make_folders(path.parent, below=self.root.parent)
                _write_durably(path, data)
            # Also for one already there: whoever wrote it may have died before its name was durable.
            sync_folder(path.parent)
        except OSError as error:
            raise LedgerError(
                f"{path}: the frame cannot be stored ({error.strerror or error}). "
                "Free some space, or delete old frames with: gonogo ledger retain"
            ) from error
        return digest

    def put_frame(self, frame: Frame) -> str:
        """Store a decoded frame without loss, as BMP; see `put`.

        BMP because this is on the way to the answer: encoding costs next to nothing, PNG longer than judging the frame.
        """
        done, data = cv2.imencode(".bmp", np.ascontiguousarray(frame[..., ::-1]))
        if not done:
            raise ImageError(f"cannot encode a picture of shape {frame.shape} as BMP.")
        return self.put(data.tobytes())

    def holds(self, digest: str) -> bool:
        """Whether a frame is stored; its bytes are not looked at."""
        return self.path(digest).is_file()

    def read(self, digest: str) -> bytes:
        """The bytes of a stored frame, held against its name.

        Raises:
            LedgerError: missing, unreadable, or changed.
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
        """Decode a stored frame, the way every picture is decoded.

        Raises:
            LedgerError: missing, unreadable, or changed.
            ImageError: not a picture within the limits.
        """
        return images.decode(self.read(digest), name=str(self.path(digest)), limits=limits)

    def photograph(self, digest: str) -> Photograph:
        """A stored frame, unpacked when it is looked at.

        Raises:
            LedgerError: missing, unreadable, or changed.
        """
        return Photograph(self.read(digest), name=str(self.path(digest)))

    def remove(self, digest: str) -> int:
        """Delete a stored frame and give the bytes freed; 0 where there was none."""
        return self.delete(self.path(digest))

    def files(self) -> Iterator[Path]:
        """Everything that lies in the store, also what was cut off while it was written."""
        return self.root.glob("??/??/*")

    def delete(self, path: Path) -> int:
        """Delete one of `files` and give the bytes freed; 0 where it is gone."""
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise LedgerError(f"{path}: cannot be deleted ({error.strerror or error}). Check the folder.") from error
        return size

    def path(self, digest: str) -> Path:
        """Where a frame lies.

        Raises:
            LedgerError: not a SHA-256, so that no name can lead out of the folder.
        """
        if not _DIGEST.fullmatch(digest):
            raise LedgerError(f"expected a frame's SHA-256 in lower-case hexadecimal, found {digest!r}.")
        return self.root / digest[:2] / digest[2:4] / digest


def _make_folders(folder: Path, *, below: Path) -> None:
    """Make a folder and those above it, each name durable."""
    if folder == below or folder.is_dir():
        return
    _make_folders(folder.parent, below=below)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
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
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
