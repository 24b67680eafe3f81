"""The bundle in use: loaded from a copy of its own, swapped for a newer one only after that has proven itself."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gonogo.errors import GonogoError, InputError
from gonogo.files import folder_beside
from gonogo.schema import Frame, Verdict

_SEAL = "SHA256SUMS"
_KEPT = 5


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a station needs to know of a loaded bundle."""

    name: str
    path: Path
    sha256: str
    go_below: float | None
    """``None``: nothing can pass."""
    no_go_above: float | None
    device: str
    inspect: Callable[[Frame], Verdict]


Loader = Callable[[Path], Model]
"""Opens a bundle and replays its golden frames; raises a `GonogoError` for one that is not fit to judge."""


def load(path: Path) -> Model:
    """Open a bundle with the inspector; see `Loader`."""
    import math

    from gonogo.config import settings
    from gonogo.inspector import Inspector

    inspector = Inspector.load(path)
    point = inspector.operating_point
    finite = [] if point is None else [point.go_below, point.no_go_above]
    go_below, no_go_above = (value if math.isfinite(value) else None for value in (finite or [math.inf, math.inf]))
    return Model(
        name=inspector.bundle.manifest.name,
        path=path,
        sha256=inspector.bundle_sha256,
        go_below=go_below,
        no_go_above=no_go_above,
        device=settings().device,
        inspect=inspector.inspect,
    )


@dataclass(frozen=True, kw_only=True)
class Swap:
    """What came of looking at the bundle's place: a new model in use, or why it is not."""

    before: str | None
    """SHA-256 of the bundle that judged until now."""
    after: str | None
    """SHA-256 of the bundle that judges from now on."""
    refused: str
    """Why the bundle that lies there now is not used; empty where it is."""


class ModelSlot:
    """Holds the model in use and watches the place it came from.

    A bundle is copied into a folder of the station's own before it is loaded, so that nobody can change it under a
    running network, and the last good one is at hand whatever becomes of the place.
    """

    def __init__(self, source: Path, copies: Path, *, only_sha256: str | None = None, loader: Loader = load) -> None:
        self._source = source
        self._copies = copies
        self._only = only_sha256
        self._loader = loader
        self._tried: tuple[object, ...] = ()
        self._lock = threading.Lock()
        self._found: Swap | None = None
        self._next: Model | None = None
        self._thread: threading.Thread | None = None
        self.model: Model | None = None
        self.trouble = "no bundle is loaded yet"
        """Why the bundle at its place is not the one in use; empty where it is."""

    def start(self) -> Swap:
        """Load what lies there now, or else the last good copy. Leaves the slot empty where neither can judge."""
        self._tried = self._signature()
        swap = self._attempt()
        if self._next is None:
            for folder in sorted(self._copies.glob("*/"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
                try:
                    self._next = self._accepted(self._loader(folder))
                except GonogoError:
                    continue
                swap = Swap(before=None, after=self._next.sha256, refused=swap.refused)
                break
        self._take(swap)
        return swap

    def poll(self) -> Swap | None:
        """Look at the place; load what changed in a thread; give the result once, when it is in use or refused."""
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread = None
            with self._lock:
                swap, self._found = self._found, None
            if swap is not None:
                self._take(swap)
            return swap
        signature = self._signature()
        if signature == self._tried:
            return None
        self._tried = signature
        self._thread = threading.Thread(target=self._load_aside, name="bundle", daemon=True)
        self._thread.start()
        return None

    @property
    def unsettled(self) -> bool:
        """Whether something else lies at the place than was last tried, or is being tried."""
        return self._thread is not None or self._signature() != self._tried

    def _load_aside(self) -> None:
        swap = self._attempt()
        with self._lock:
            self._found = swap

    def _attempt(self) -> Swap:
        before = None if self.model is None else self.model.sha256
        self._next = None
        try:
            self._next = self._accepted(self._loaded())
        except Exception as error:  # noqa: BLE001  a bundle may be damaged in any way; the one in use judges on
            return Swap(before=before, after=before, refused=str(error) or type(error).__name__)
        return Swap(before=before, after=self._next.sha256, refused="")

    def _loaded(self) -> Model:
        place = self._resolved()
        seal = place / _SEAL
        if not seal.is_file():
            told = f"{self._source}: expected a bundle or a text file with its path, found neither ({place})."
            raise InputError(told)
        target = self._copies / hashlib.sha256(seal.read_bytes()).hexdigest()[:32]
        if target.is_dir():
            with contextlib.suppress(GonogoError):
                return self._loader(target)
        # Always anew otherwise: two bundles with one seal differ where one of them is damaged.
        with folder_beside(target, replace=True) as partial:
            shutil.copytree(place, partial, dirs_exist_ok=True)
        try:
            return self._loader(target)
        except GonogoError:
            if self.model is None or target != self.model.path:
                shutil.rmtree(target, ignore_errors=True)
            raise

    def _take(self, swap: Swap) -> None:
        self.trouble = swap.refused
        if self._next is not None:
            self.model, self._next = self._next, None
            self.model.path.touch()  # the newest copy is the last good one
            self._prune()

    def _accepted(self, model: Model) -> Model:
        if self._only is not None and model.sha256 != self._only:
            raise InputError(
                f"{self._source}: expected bundle {self._only}, as bundle_sha256 in the settings says, "
                f"found {model.sha256}. Put the right bundle there or change the settings."
            )
        return model

    def _resolved(self) -> Path:
        if self._source.is_file():
            text = self._source.read_text(encoding="utf-8").strip()
            return (self._source.parent / text).resolve() if text else self._source
        return self._source.resolve()

    def _signature(self) -> tuple[object, ...]:
        """Changes whenever another bundle, or another state of it, lies there."""
        try:
            place = self._resolved()
            stats = [path.stat() for path in sorted(place.rglob("*"))]
            return (str(place), *((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats))
        except (OSError, UnicodeDecodeError) as error:
            return (str(error),)

    def _prune(self) -> None:
        folders = sorted(self._copies.glob("*/"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for folder in folders[_KEPT:]:
            if self.model is None or folder != self.model.path:
                shutil.rmtree(folder, ignore_errors=True)
