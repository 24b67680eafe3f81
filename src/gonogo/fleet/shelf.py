"""The shelf: the folder of the release server that stations pull from, by path or through any web server of files.

<channel>/release.json       the latest release, signed
<channel>/000017.json        every release, by its number
objects/<sha256>             the files of the bundles, each named by its hash; a bundle's seal by the bundle's hash
signatures/<sha256>.json     the signature of a bundle
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from gonogo import locks
from gonogo.bundle import Bundle
from gonogo.errors import InputError
from gonogo.files import read_regular, write_beside
from gonogo.fleet.releases import Release, open_release, sign_release
from gonogo.progress import track
from gonogo.signing import SigningKey, TrustStore

LATEST = "release.json"
MOST_RELEASE_BYTES = 1_000_000
_MOST_SEAL_BYTES = 4_000_000
_MOST_FILE_BYTES = 100_000_000


class Shelf:
    """The release server's side: publishes bundles and releases."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def changing(self, channel: str) -> Iterator[None]:
        """Hold a channel while a release is decided, recorded and published, so that no two are made at once.

        Raises:
            InputError: the folder cannot be written.
        """
        try:
            (self.root / channel).mkdir(parents=True, exist_ok=True)
            lock = (self.root / channel / ".lock").open("ab")
        except OSError as error:
            raise InputError(
                f"{self.root}: expected a folder for releases, found none that can be used ({error.strerror or error})."
            ) from error
        with lock:
            locks.lock(lock)
            yield

    def latest(self, channel: str, store: TrustStore) -> Release | None:
        """Read the latest release of a channel; ``None`` if there is none.

        Raises:
            InputError: it cannot be read.
            SignatureError: it does not verify; then nothing may be built upon it.
        """
        place = self.root / channel / LATEST
        try:
            data = read_regular(place, most_bytes=MOST_RELEASE_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{place}: the release cannot be read ({error.strerror or error}).") from error
        release, _ = open_release(data, store, name=str(place))
        if release.channel != channel:
            raise InputError(f"{place}: expected a release of channel {channel}, found one of {release.channel}.")
        return release

    def put_bundle(self, bundle: Bundle) -> None:
        """Copy a bundle and its signature to the shelf; files that are there already are not copied again.

        Raises:
            BundleError: the bundle was changed since it was opened.
            InputError: the shelf cannot be written.
        """
        objects = self.root / "objects"
        for name, digest in track(bundle.digests.items(), "Copying", total=len(bundle.digests)):
            if not (objects / digest).is_file():
                write_beside(objects / digest, bundle.data(name))
        seal = "".join(f"{digest}  {name}\n" for name, digest in bundle.digests.items()).encode()
        write_beside(objects / bundle.sha256, seal)
        if bundle.signature is not None:
            write_beside(self.root / "signatures" / f"{bundle.sha256}.json", bundle.signature)

    def holds(self, sha256: str) -> bool:
        """Whether a bundle of this hash was put on the shelf."""
        return sha256 in {path.stem for path in (self.root / "signatures").glob("*.json")}

    def file(self, sha256: str, name: str) -> bytes | None:
        """Read one file of a bundle on the shelf, checked by its hash; ``None`` if the shelf or the bundle lacks it."""
        try:
            seal = read_regular(self.root / "objects" / sha256, most_bytes=_MOST_SEAL_BYTES)
            lines = (line.partition("  ") for line in seal.decode(errors="replace").splitlines())
            digest = next((digest for digest, _, each in lines if each == name), "")
            data = read_regular(self.root / "objects" / digest, most_bytes=_MOST_FILE_BYTES) if digest else b""
        except OSError:
            return None
        same = (hashlib.sha256(seal).hexdigest(), hashlib.sha256(data).hexdigest()) == (sha256, digest)
        return data if same else None

    def publish(self, release: Release, key: SigningKey) -> Path:
        """Publish a release: under its number first, then as the latest. Call within `changing`.

        Raises:
            InputError: the shelf cannot be written.
        """
        data, folder = sign_release(release, key), self.root / release.channel
        write_beside(folder / f"{release.sequence:06d}.json", data)
        write_beside(folder / LATEST, data)
        return folder / LATEST

    def channels(self) -> list[str]:
        """Return the channels that have a release."""
        return sorted(path.parent.name for path in self.root.glob(f"*/{LATEST}"))
