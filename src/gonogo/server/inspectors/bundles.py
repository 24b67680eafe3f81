"""Cache of opened bundles: a bundle is opened again only if its folder has changed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gonogo import bundle, drift
from gonogo.bundle import Bundle
from gonogo.certification import EVIDENCE, SCORES
from gonogo.drift import DriftReference
from gonogo.errors import GonogoError, SignatureError
from gonogo.manifest import Manifest
from gonogo.schema import OperatingPoint
from gonogo.signing import SignaturePolicy, verify_bundle

_ABOUT_LIMITS = (bundle.MANIFEST, bundle.MODEL_CARD, drift.DRIFT, drift.TAUGHT, EVIDENCE, SCORES)
_FOLDERS_ABOUT_LIMITS = (f"{bundle.GOLDEN}/", f"{bundle.REVISIONS}/")


@dataclass(frozen=True, kw_only=True)
class OpenBundle:
    """One verified bundle."""

    path: Path
    manifest: Manifest
    sha256: str
    graph: str
    """Hash of the files that determine the scores; equal for revisions that differ only in their limits."""
    reference: DriftReference | None
    evidence: Mapping[str, Any]
    """The evidence written by ``gonogo certify``; empty if it was never run."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def point(self) -> OperatingPoint | None:
        """The limits in force."""
        return self.manifest.operating_point

    @property
    def family(self) -> frozenset[str]:
        """The hashes of this and all earlier revisions, whose scores are comparable."""
        return frozenset({self.sha256, *(revision.bundle_sha256 for revision in self.manifest.revisions)})


class OpenBundles:
    """Opens and caches bundles."""

    def __init__(self, policy: SignaturePolicy) -> None:
        self._policy = replace(policy, accept_revoked=True)  # a revocation does not stop a line
        self._open: dict[Path, tuple[bytes, OpenBundle]] = {}
        self._trusted: dict[tuple[str, bytes, int], bool] = {}
        self._lock = threading.Lock()

    def open(self, path: Path | None) -> OpenBundle | None:
        """Open a bundle; ``None`` if it is missing or unusable (the overview shows why)."""
        if path is None or not (path / bundle.SEAL).is_file():
            return None
        with self._lock:
            try:
                seal = (path / bundle.SEAL).read_bytes()
                known = self._open.get(path)
                if known is None or known[0] != seal:
                    known = self._open[path] = (seal, _read(path, seal))
            except (GonogoError, OSError, ValueError):
                return None
        return known[1]

    def open_trusted(self, path: Path | None) -> OpenBundle | None:
        """Open a bundle; ``None`` also if it is not signed as the policy requires."""
        opened = self.open(path)
        if opened is None or not self._policy.required:
            return opened
        try:
            signature = (opened.path / bundle.SIGNATURE).read_bytes()
            key = (opened.sha256, signature, self._policy.trust_store.stat().st_mtime_ns)
        except OSError:
            return None
        with self._lock:
            if key not in self._trusted:
                self._trusted = {key: not untrusted(bundle.read_bundle(opened.path), self._policy)}
            return opened if self._trusted[key] else None


def seal_of(path: Path) -> str:
    """The hash of a bundle by its seal alone; empty without one. What it says of the files is verified on opening."""
    try:
        return hashlib.sha256((path / bundle.SEAL).read_bytes()).hexdigest()
    except OSError:
        return ""


def untrusted(opened: Bundle, policy: SignaturePolicy) -> str:
    """Why a bundle is not signed as a policy requires; empty if it is."""
    try:
        verify_bundle(opened, policy)
    except SignatureError as error:
        return str(error)
    return ""


def _read(path: Path, seal: bytes) -> OpenBundle:
    opened = bundle.read_bundle(path)
    evidence = json.loads((path / EVIDENCE).read_bytes()) if (path / EVIDENCE).is_file() else {}
    files = [line for line in seal.decode().splitlines() if not _about_limits(line.partition("  ")[2])]
    recipe = opened.manifest.recipe.model_dump_json()
    return OpenBundle(
        path=path,
        manifest=opened.manifest,
        sha256=opened.sha256,
        graph=hashlib.sha256("\n".join([*files, recipe, opened.manifest.precision]).encode()).hexdigest(),
        reference=drift.read_reference(path),
        evidence=evidence,
    )


def _about_limits(name: str) -> bool:
    """Whether a file belongs to the certification and does not affect scores."""
    return name in _ABOUT_LIMITS or name.startswith(_FOLDERS_ABOUT_LIMITS)
