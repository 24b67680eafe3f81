"""Bundles on their way to workers: the bytes of every file, unpacked once per machine, seal checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gonogo import signing
from gonogo.bundle import SIGNATURE, SUFFIX, read_bundle
from gonogo.config import settings
from gonogo.errors import BundleError, InputError
from gonogo.files import folder_beside, plain_files, read_regular

_MOST_BYTES = 8_000_000_000


@dataclass(frozen=True, kw_only=True)
class PackedBundle:
    """The files of a bundle, by their names in it."""

    sha256: str
    files: dict[str, bytes]


def pack(folder: Path) -> PackedBundle:
    """Read a bundle whole. This machine's signature policy must accept it.

    Raises:
        BundleError: The folder is not a bundle, or was changed.
        SignatureError: The policy requires a signature, and the bundle has none that this machine trusts.
    """
    opened = read_bundle(folder)
    signing.verify_bundle(opened, signing.machine_policy(settings()))
    files = {name: read_regular(folder / name, most_bytes=_MOST_BYTES) for name in plain_files(folder)}
    return PackedBundle(sha256=opened.sha256, files=files)


def unpack(packed: PackedBundle) -> Path:
    """Return the folder of a bundle on this machine, in its cache; unpack it if it is not there.

    Raises:
        BundleError: The folder, or what was sent, is not that bundle.
    """
    signature = hashlib.sha256(packed.files.get(SIGNATURE, b"")).hexdigest()[:8]  # it may be signed later
    folder = settings().cache_dir / "bundles" / f"{packed.sha256}-{signature}{SUFFIX}"
    if not folder.is_dir():
        try:
            with folder_beside(folder) as partial:
                for name, data in packed.files.items():
                    _require_inside(name)
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    (partial / name).write_bytes(data)
        except InputError:
            if not folder.is_dir():  # otherwise another worker of this machine was first
                raise
    found = read_bundle(folder).sha256
    if found != packed.sha256:
        raise BundleError(
            f"{folder}: expected bundle {packed.sha256[:12]}, found {found[:12]}. Nothing was judged with it. Remove "
            "the folder."
        )
    return folder


def _require_inside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise BundleError(f"{name[:100]!r}: expected the name of a file in a bundle. Nothing was judged with it.")
