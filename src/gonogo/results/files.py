"""Results as files: in a folder, or in an S3-compatible store or another file system of fsspec.

The name of a file is its result id, so a second delivery writes the same bytes to the same name. Pictures come before
the document: where it is, they are complete.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gonogo.errors import InputError
from gonogo.files import parse_toml, write_beside
from gonogo.results.credentials import read_secret
from gonogo.results.delivery import Delivery, DeliveryError

_LOCAL = re.compile(r"(?:file|local)://(/.*)")


class Folder:
    """A local or mounted folder; each file is durable and complete as soon as it has its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def deliver(self, batch: Sequence[Delivery]) -> None:
        """Write pictures and documents."""
        for number, each in enumerate(batch):
            try:
                for name, data in each.pictures():
                    self._write(self.folder / name, data)
                self._write(self.folder / f"{each.name}.json", each.content)
            except (InputError, OSError) as error:
                raise DeliveryError(str(error), delivered=number) from error

    def close(self) -> None:
        """Nothing is open."""

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        if not (path.is_file() and path.read_bytes() == data):
            write_beside(path, data)


class ObjectStore:
    """Objects in a file system of fsspec; a result counts once the store has acknowledged its document."""

    def __init__(self, url: str, options_file: Path | None = None) -> None:
        self.url, self._options_file = url.rstrip("/"), options_file
        self._system: Any = None
        self._made: set[str] = set()

    def deliver(self, batch: Sequence[Delivery]) -> None:
        """Store pictures, then the documents together: many stores answer several requests at a time."""
        system, root = self._opened(), self.url.partition("://")[2]
        try:
            for each in batch:
                for name, data in each.pictures():
                    self._put(system, {f"{root}/{name}": data})
            self._put(system, {f"{root}/{each.name}.json": each.content for each in batch})
        except _store_errors() as error:
            found = str(error) or type(error).__name__
            refused = isinstance(error, PermissionError)
            raise DeliveryError(
                f"{self.url}: cannot be written ({found}). Check the store, its address and its keys.",
                delivered=0,  # what is there already is written again, with the same content
                refused=refused,
            ) from error

    def close(self) -> None:
        """Open the store anew at the next delivery, with the options that are in the file then."""
        self._system = None
        self._made.clear()

    def _put(self, system: Any, objects: Mapping[str, bytes]) -> None:
        for folder in {path.rpartition("/")[0] for path in objects} - self._made:
            if getattr(system, "protocol", "") in _WITH_FOLDERS:
                system.makedirs(folder, exist_ok=True)
                self._made.add(folder)
        system.pipe(dict(objects))

    def _opened(self) -> Any:
        if self._system is None:
            import fsspec

            protocol, _, root = self.url.partition("://")
            if not root.strip("/"):
                raise InputError(f"{self.url}: expected a bucket or a folder, such as s3://bucket/folder.")
            try:
                self._system = fsspec.filesystem(
                    protocol, use_listings_cache=False, skip_instance_cache=True, **self._options(protocol)
                )
            except (ImportError, ValueError, TypeError) as error:
                kind = type(error).__name__ if self._options_file else error
                raise InputError(
                    f"{self.url}: this kind of store is unknown, needs a package, or does not know an option ({kind})."
                ) from error
        return self._system

    def _options(self, protocol: str) -> dict[str, Any]:
        usual: dict[str, Any] = {}
        if protocol in ("s3", "s3a"):
            usual["config_kwargs"] = {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 1}}
        if self._options_file is None:
            return usual
        text = read_secret(self._options_file, "options of the store in TOML")
        try:
            return {**usual, **parse_toml(text)}
        except ValueError:
            # neither the text nor the parser's message is shown: both may hold a key
            raise InputError(
                f'{self._options_file}: expected TOML such as key = "...", found something else.'
            ) from None


_WITH_FOLDERS = ("sftp", "ssh", "smb")


def open_store(url: str, options_file: Path | None) -> Folder | ObjectStore:
    """Return the store of a URL; ``file:///folder`` is a folder, which is written durably, unlike by fsspec."""
    local = _LOCAL.fullmatch(url)
    return ObjectStore(url, options_file) if local is None else Folder(Path(local[1]))


def _store_errors() -> tuple[type[Exception], ...]:
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError,) if botocore is None else (OSError, botocore.BotoCoreError, botocore.ClientError)
