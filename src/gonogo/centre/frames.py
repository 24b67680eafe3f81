"""Frames in a store that many stations share: S3 or another fsspec file system, under the same content addresses."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gonogo import images
from gonogo.config import PictureLimits
from gonogo.errors import InputError, LedgerError
from gonogo.images import Photograph
from gonogo.ledger import FrameStore
from gonogo.ledger.frames import frame_name
from gonogo.schema import Frame

_FOLDER = re.compile(r"(?:file|local)://(/.*)")


def open_frames(url: str) -> FrameStore | SharedFrames:
    """Return the frames below a URL; nothing is opened yet.

    Args:
        url: ``s3://bucket/folder``, another URL of fsspec, or ``file:///folder``. Keys come from the environment or the
            store's own configuration, for S3 ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_ENDPOINT_URL``.

    Raises:
        InputError: the URL names no known kind of store, its package is missing, or it holds a password.
    """
    folder = _FOLDER.fullmatch(url)
    if folder is not None:
        return FrameStore(Path(folder[1]))  # writes durably, unlike fsspec
    protocol, separator, root = url.partition("://")
    if not separator or not root.strip("/"):
        raise InputError(f"expected the URL of a store, such as s3://bucket/folder or file:///folder, found {url!r}.")
    if "@" in root:
        raise InputError(
            f"{protocol}: expected no user or password in the URL of a store. Set its environment variables."
        )
    import fsspec

    try:
        system = fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=True)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: this kind of store is unknown or needs a package ({error}).") from error
    return SharedFrames(system, root.rstrip("/"), url)


def prepare_frames(url: str) -> None:
    """Create the bucket or folder of a store if it is missing; a local folder is created with its first frame.

    Raises:
        InputError: see `open_frames`.
        LedgerError: the store cannot be reached, or refuses.
    """
    store = open_frames(url)
    if isinstance(store, SharedFrames):
        store.prepare()


class SharedFrames:
    """Frames in an fsspec file system; see `gonogo.ledger.frames.Frames`. Create it with `open_frames`."""

    def __init__(self, system: Any, root: str, url: str) -> None:
        self._system, self._root, self.url = system, root, url

    def prepare(self) -> None:
        """See `prepare_frames`."""
        with _explained(self.url, "prepared"):
            self._system.makedirs(self._root, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Store the bytes of a picture, unless the store has them already.

        Raises:
            LedgerError: the store cannot be reached or written.
        """
        digest = hashlib.sha256(data).hexdigest()
        with _explained(self._address(digest), "stored"):
            if self._size(digest) != len(data):
                self._make_folder(digest)
                self._system.pipe_file(self._address(digest), data)
        return digest

    def holds(self, digest: str) -> bool:
        """Whether a frame is stored; its bytes are not checked.

        Raises:
            LedgerError: the store cannot be reached.
        """
        with _explained(self._address(digest), "looked up"):
            return self._size(digest) is not None

    def read(self, digest: str) -> bytes:
        """Return the bytes of a stored frame, after a check against its hash.

        Raises:
            LedgerError: the frame is missing or was changed, or the store cannot be reached.
        """
        with _explained(self._address(digest), "read"):
            data = bytes(self._system.cat_file(self._address(digest)))
        if hashlib.sha256(data).hexdigest() != digest:
            raise LedgerError(f"{self._shown(digest)}: the frame was changed after it was stored. Restore it.")
        return data

    def load(self, digest: str, *, limits: PictureLimits | None = None) -> Frame:
        """Decode a stored frame.

        Raises:
            LedgerError: see `read`.
            ImageError: the frame is not a picture within the limits.
        """
        return images.decode(self.read(digest), name=self._shown(digest), limits=limits)

    def photograph(self, digest: str) -> Photograph:
        """Return a stored frame as a photograph, which is decoded on first use.

        Raises:
            LedgerError: see `read`.
        """
        return Photograph(self.read(digest), name=self._shown(digest))

    def _address(self, digest: str) -> str:
        return f"{self._root}/{frame_name(digest)}"

    def _shown(self, digest: str) -> str:
        return f"{self.url.rstrip('/')}/{frame_name(digest)}"

    def _size(self, digest: str) -> int | None:
        try:
            return int(self._system.info(self._address(digest))["size"])
        except FileNotFoundError:
            return None

    def _make_folder(self, digest: str) -> None:
        if getattr(self._system, "protocol", "") in _WITH_FOLDERS:
            self._system.makedirs(self._address(digest).rpartition("/")[0], exist_ok=True)


_WITH_FOLDERS = ("sftp", "ssh", "smb")


class NoFrames:
    """The frames of a chain whose frames are not forwarded: none; see `gonogo.ledger.frames.Frames`."""

    def put(self, data: bytes) -> str:
        """Refuse a frame."""
        raise LedgerError("expected a store for frames, found none. Name one when the chain is created.")

    def holds(self, digest: str) -> bool:
        """No frame is stored."""
        return False

    def read(self, digest: str) -> bytes:
        """Refuse: there are no frames."""
        raise LedgerError(f"frame {digest} was not forwarded: this chain has no store of frames at the centre.")

    def load(self, digest: str, *, limits: PictureLimits | None = None) -> Frame:
        """Refuse: there are no frames."""
        return images.decode(self.read(digest), limits=limits)

    def photograph(self, digest: str) -> Photograph:
        """Refuse: there are no frames."""
        return Photograph(self.read(digest))


@contextmanager
def _explained(address: str, done: str) -> Iterator[None]:
    """Turn the errors of a store into a `LedgerError`."""
    try:
        yield
    except _store_errors() as error:
        raise LedgerError(
            f"{address}: cannot be {done} ({str(error) or type(error).__name__}). "
            "Check the store, its address and its keys."
        ) from error


def _store_errors() -> tuple[type[Exception], ...]:
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError,) if botocore is None else (OSError, botocore.BotoCoreError, botocore.ClientError)
