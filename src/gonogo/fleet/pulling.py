"""The station's side of the shelf: fetch a release and its bundles, verify every byte, keep what was fetched."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from gonogo.bundle import SEAL, SIGNATURE, read_bundle
from gonogo.errors import BundleError, GonogoError, InputError
from gonogo.files import folder_beside, require_regular, write_beside
from gonogo.fleet.shelf import MOST_RELEASE_BYTES
from gonogo.names import readable
from gonogo.signing import SignaturePolicy, verify_bundle

_MOST_FILE_BYTES = 8_000_000_000
_MOST_SEAL_BYTES = 4_000_000
_MOST_SIGNATURE_BYTES = 100_000
_CHUNK = 1 << 20
_KEPT = 6
"""Bundles that a station keeps, so that it can return to one without the network."""


class UnreachableError(GonogoError):
    """The shelf cannot be reached now; try again later."""


class Source(Protocol):
    """Where the shelf's files come from."""

    def open(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open one file by its address on the shelf, to be read once.

        Raises:
            UnreachableError: it cannot be opened now.
        """


class FolderSource:
    """The shelf as a folder, such as a mounted share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """See `Source`."""
        path = self._root / name
        try:
            require_regular(path)
            file = path.open("rb")
        except OSError as error:
            raise UnreachableError(f"{path}: cannot be read ({error.strerror or error}).") from error
        with file:
            yield file


class HttpSource:
    """The shelf behind a web server. Nothing depends on the server being honest: all that it sends is verified."""

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 20.0) -> None:
        self._url, self._token, self._timeout_s = url.rstrip("/"), token, timeout_s

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """See `Source`."""
        url = f"{self._url}/{name}"
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        try:
            answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=self._timeout_s)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError(f"{url}: cannot be fetched ({error}).") from error
        with answer:
            yield answer


class Pull:
    """Fetches from a source into the station's own folder. What arrived whole is never fetched again."""

    def __init__(self, source: Source, folder: Path) -> None:
        """Store the arguments.

        Args:
            source: The shelf.
            folder: The station's folder; ``bundles`` in it has the fetched bundles, ``objects`` unfinished ones.
        """
        self._source = source
        self._bundles, self._objects = folder / "bundles", folder / "objects"

    def release(self, channel: str) -> bytes:
        """Fetch the latest release of a channel, not verified yet.

        Raises:
            UnreachableError: the shelf cannot be reached, or has no release of this channel.
        """
        return self._small(f"{channel}/release.json", most_bytes=MOST_RELEASE_BYTES)

    def place_of(self, sha256: str) -> Path:
        """Return the folder of a bundle, whether it was fetched or not."""
        return self._bundles / f"{sha256}.inspector"

    def bundle(self, sha256: str, policy: SignaturePolicy) -> Path:
        """Fetch a bundle unless it is here, and verify it: every file by its hash, the whole by its signature.

        Raises:
            UnreachableError: the shelf cannot be reached; a later call goes on with what was fetched.
            BundleError: what the shelf has is not that bundle.
            SignatureError: the bundle is not signed with a trusted key.
            InputError: the disk is full.
        """
        place = self.place_of(sha256)
        if not self._usable(place, sha256, policy):
            seal = self._small(f"objects/{sha256}", most_bytes=_MOST_SEAL_BYTES)
            if hashlib.sha256(seal).hexdigest() != sha256:
                raise BundleError(f"objects/{sha256}: the shelf has other contents under this hash. Publish again.")
            files = _files_of(seal)
            for digest in files.values():
                self._fetch(digest)
            signature = self._small(f"signatures/{sha256}.json", most_bytes=_MOST_SIGNATURE_BYTES)
            with folder_beside(place, replace=True) as partial:
                for name, digest in files.items():
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(self._objects / digest, partial / name)
                write_beside(partial / SEAL, seal)
                write_beside(partial / SIGNATURE, signature)
                _verified(partial, sha256, policy)
            shutil.rmtree(self._objects, ignore_errors=True)
        os.utime(place)
        return place

    def prune(self, *keep: str) -> None:
        """Delete the bundles that were used longest ago, except some."""
        places = sorted(self._bundles.glob("*.inspector"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        kept = {self.place_of(each) for each in keep}
        for place in places[_KEPT:]:
            if place not in kept:
                shutil.rmtree(place, ignore_errors=True)

    def _usable(self, place: Path, sha256: str, policy: SignaturePolicy) -> bool:
        try:
            _verified(place, sha256, policy)
        except BundleError:
            return False  # damaged, or signed anew since
        return True

    def _small(self, name: str, *, most_bytes: int) -> bytes:
        try:
            with self._source.open(name) as file:
                data = file.read(most_bytes + 1)
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{name}: the connection broke off ({error}).") from error
        if len(data) > most_bytes:
            raise InputError(f"{name}: expected at most {most_bytes:,} bytes, found more.")
        return data

    def _fetch(self, digest: str) -> None:
        """Fetch one object unless it is here; it gets its name only if its hash is right."""
        target = self._objects / digest
        if target.is_file() and _sha256(target) == digest:
            return
        self._objects.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=self._objects, prefix=".partial.")
        found, size = hashlib.sha256(), 0
        try:
            with os.fdopen(handle, "wb") as file, self._source.open(f"objects/{digest}") as source:
                while piece := source.read(_CHUNK):
                    size += len(piece)
                    if size > _MOST_FILE_BYTES:
                        raise BundleError(f"objects/{digest}: more than {_MOST_FILE_BYTES:,} bytes.")
                    found.update(piece)
                    file.write(piece)
            if found.hexdigest() != digest:
                raise UnreachableError(f"objects/{digest}: other contents than its name says, or it broke off.")
            Path(partial).replace(target)
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"objects/{digest}: cannot be fetched ({error}).") from error
        finally:
            Path(partial).unlink(missing_ok=True)


def _verified(place: Path, sha256: str, policy: SignaturePolicy) -> None:
    opened = read_bundle(place)
    if opened.sha256 != sha256:
        raise BundleError(f"{place}: expected bundle {sha256[:16]}, found {opened.sha256[:16]}.")
    verify_bundle(opened, policy)


def _files_of(seal: bytes) -> dict[str, str]:
    """Read a seal whose hash is verified; its names may still be anything.

    Raises:
        BundleError: it is not a seal, or a name would lie outside the bundle.
    """
    files: dict[str, str] = {}
    for line in seal.decode(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        parts = Path(name).parts
        odd = not name or name.startswith("/") or ".." in parts or readable(name) != name or name in (SEAL, SIGNATURE)
        if odd or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise BundleError(f"the seal of a bundle on the shelf has an impossible line ({readable(line)[:200]!r}).")
        files[name] = digest
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
