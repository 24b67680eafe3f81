"""The inspectors that answer programs: loaded once, verified, and used by one request at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import openvino as ov

from gonogo import bundle
from gonogo.errors import GonogoError
from gonogo.images import Photograph
from gonogo.inspector import Inspector
from gonogo.server.api.problems import ApiError
from gonogo.server.workspace import Workspace
from gonogo.signing import SignaturePolicy

SUFFIX = ".inspector"
MOST_LOADED = 4
"""Inspectors in memory; the one that was not asked for longest is dropped."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """A loaded inspector. Hold ``lock`` while it judges."""

    inspector: Inspector
    model_info: Mapping[str, Any]
    """What OpenVINO's Model API reads from the network."""
    lock: threading.Lock

    @property
    def name(self) -> str:
        """Name without the folder's ending."""
        return self.inspector.path.name.removesuffix(SUFFIX)


class Judges:
    """Loads inspectors of a workspace by name. Thread-safe."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._loaded: OrderedDict[Path, tuple[bytes, Judge]] = OrderedDict()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Names of the inspectors of the workspace."""
        return [path.name.removesuffix(SUFFIX) for path in self._workspace.bundle_paths()]

    def in_use(self) -> str | None:
        """Name of the inspector in use."""
        path = self._workspace.active_bundle()
        return None if path is None else path.name.removesuffix(SUFFIX)

    def of(self, name: str | None) -> Judge:
        """Return an inspector; it is loaded again if its bundle was changed.

        Args:
            name: Its name; ``None`` for the one in use.

        Raises:
            ApiError: there is none of this name, none is in use, or it cannot be loaded.
        """
        path = self._path(name)
        try:
            seal = (path / bundle.SEAL).read_bytes()
        except OSError as error:
            raise _unusable(path, f"cannot be read ({error.strerror})") from error
        with self._lock:
            known = self._loaded.get(path)
            if known is None or known[0] != seal:
                known = self._loaded[path] = (seal, _load(path, self._workspace.signatures))
            self._loaded.move_to_end(path)
            while len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
            return known[1]

    def _path(self, name: str | None) -> Path:
        if name is None:
            path = self._workspace.active_bundle()
            if path is None:
                raise ApiError(
                    HTTPStatus.CONFLICT,
                    "expected an inspector in use, found none. Deploy one, or name one in the request.",
                )
            return path
        for path in self._workspace.bundle_paths():
            if path.name == f"{name}{SUFFIX}":
                return path
        shown = name[:100].encode(errors="backslashreplace").decode()
        raise ApiError(
            HTTPStatus.NOT_FOUND,
            f"expected the name of an inspector of this server, found {shown!r}: see /api/inspectors.",
        )


def decoded(data: bytes, inspector: Inspector) -> Photograph:
    """Return a picture that was decoded in a process with limits, as it will be judged.

    Raises:
        ImageError: the picture is larger than allowed or cannot be decoded.
    """
    photograph = Photograph(data, name="picture", confined=True)
    photograph.unpacked(inspector.recipe)
    return photograph


def _load(path: Path, policy: SignaturePolicy) -> Judge:
    try:
        inspector = Inspector.load(path, policy=policy)
        structure, weights = inspector.bundle.graph(bundle.CLASSIFIER)
    except (GonogoError, OSError) as error:
        raise _unusable(path, str(error)) from error
    return Judge(inspector=inspector, model_info=_model_info(structure, weights), lock=threading.Lock())


def _model_info(structure: bytes, weights: bytes) -> dict[str, Any]:
    model = ov.Core().read_model(structure, weights)
    if not model.has_rt_info("model_info"):
        return {}
    return {str(key): value for key, value in model.get_rt_info("model_info").value.items()}


def _unusable(path: Path, why: str) -> ApiError:
    return ApiError(HTTPStatus.CONFLICT, f"{path.name}: expected an inspector that can judge, found that it {why}")
