"""The bundle in use: loaded from a copy, and replaced by a newer one only after that has passed its golden frames."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gonogo.config import Recipe
from gonogo.errors import InputError, SignatureError
from gonogo.files import folder_beside, plain_files, read_regular
from gonogo.images import Photograph
from gonogo.manifest import PartCertificate
from gonogo.names import readable
from gonogo.schema import PartIdentity, Verdict
from gonogo.signing import Signature, SignaturePolicy
from gonogo.validity import Validity, read_validity

_SEAL, _SIGNATURE = "SHA256SUMS", "signature.json"
_LONGEST_SIGNATURE = 100_000
_KEPT = 5
_ATTEMPT = "attempt"
"""File that names the bundle being loaded; it is left behind if loading crashes the worker."""


@dataclass(frozen=True, kw_only=True)
class LoadedBundle:
    """A loaded bundle, as far as a station needs it."""

    name: str
    path: Path
    sha256: str
    go_below: float | None
    """``None``: no part can pass."""
    no_go_above: float | None
    device: str
    """The device it judges on, and why it is not the one that was asked for; see `gonogo.devices.DeviceUse`."""
    inspect: Callable[[Photograph], Verdict]
    identify: Callable[[Photograph], PartIdentity | None] = lambda photograph: None
    """Reads the codes on a part without judging it."""
    recipe: Recipe = field(default_factory=Recipe)
    """How pictures are decoded for it."""
    fell_back: bool = False
    """Whether it judges on another device than the one that was asked for."""
    signature: Signature | None = None
    """The verified signature; ``None`` if none is required."""
    validity: Validity | None = None
    """How long the certificate is valid; ``None`` if it states no end."""
    cameras: tuple[str, ...] = ()
    """The cameras that it was trained for; empty if it knows of none."""
    part: PartCertificate | None = None
    """The cameras that its thresholds were certified with."""


Loader = Callable[[Path], LoadedBundle]
"""Opens a bundle and replays its golden frames; raises a `GonogoError` if it cannot judge."""


def load_model(path: Path, *, device: str | None = None, policy: SignaturePolicy | None = None) -> LoadedBundle:
    """Open a bundle with the inspector; see `Loader`.

    Args:
        path: The bundle's folder.
        device: Device to judge on; defaults to the one in `gonogo.config.settings`.
        policy: Whether the bundle must be signed, and by whom; defaults to the settings of the machine.
    """
    import math

    from gonogo.config import settings
    from gonogo.inspector import Inspector

    machine = settings() if device is None else settings().model_copy(update={"device": device})
    inspector = Inspector.load(path, machine=machine, policy=policy)
    point = inspector.operating_point
    finite = [] if point is None else [point.go_below, point.no_go_above]
    go_below, no_go_above = (value if math.isfinite(value) else None for value in (finite or [math.inf, math.inf]))
    return LoadedBundle(
        name=inspector.bundle.manifest.name,
        path=path,
        sha256=inspector.bundle_sha256,
        go_below=go_below,
        no_go_above=no_go_above,
        device=str(inspector.device),
        fell_back=inspector.device.fell_back,
        inspect=inspector.inspect,
        identify=inspector.identify,
        recipe=inspector.recipe,
        signature=inspector.signature,
        validity=read_validity(inspector.bundle),
        cameras=inspector.bundle.manifest.cameras,
        part=inspector.bundle.manifest.part,
    )


@dataclass(frozen=True, kw_only=True)
class Swap:
    """Result of checking the bundle's path: a new bundle in use, or why it was refused."""

    before: str | None
    """SHA-256 of the bundle that judged until now."""
    after: str | None
    """SHA-256 of the bundle that judges from now on."""
    refused: str
    """Why the bundle at the path is not used; empty if it is."""
    signature: Signature | None = None
    """The signature of the bundle that judges from now on; ``None`` if none is required."""


class ModelSlot:
    """Holds the bundle in use and watches the path that it came from.

    A bundle is copied into the station's state folder before it is loaded. So it cannot be changed while the network
    runs, and the last good bundle stays available if the original is lost.
    """

    def __init__(
        self,
        source: Path,
        copies: Path,
        *,
        only_sha256: str | None = None,
        loader: Loader = load_model,
        fallback: Loader | None = None,
        trust_store: Path | None = None,
        dispensable: bool = False,
    ) -> None:
        """Store the arguments; nothing is loaded yet.

        Args:
            source: The bundle's folder, a link to it, or a text file with its path.
            copies: Folder for the copies.
            only_sha256: The only bundle that may judge.
            loader: Opens a bundle.
            fallback: Opens a copy that has been in use here; defaults to ``loader``.
            trust_store: The bundle is checked again whenever this file changes.
            dispensable: Whether other bundles judge on without this one: if it crashes a worker while it is loaded, the
                next worker refuses it, even if no other one has been in use here.
        """
        self._source = source
        self._fallback = fallback or loader
        self._trust_store = trust_store
        self._copies = copies
        self._only = only_sha256
        self._dispensable = dispensable
        self._loader = loader
        self._tried: tuple[object, ...] = ()
        self._lock = threading.Lock()
        self._found: Swap | None = None
        self._next: LoadedBundle | None = None
        self._thread: threading.Thread | None = None
        self.model: LoadedBundle | None = None
        self.trouble = "no bundle is loaded yet"
        """Why the bundle at the path is not the one in use; empty if it is."""

    def start(self) -> Swap:
        """Load the bundle at the path, or else the last good copy. The slot stays empty if neither can judge."""
        self._tried = self._signature()
        swap = self._attempt()
        self._take(swap)
        return swap

    def release(self, why: str) -> None:
        """Unload the bundle, to be loaded again by the next `poll`; may only be called while none is being loaded.

        Args:
            why: The reason, for the status.
        """
        self.model, self._tried, self.trouble = None, (), why

    def poll(self) -> Swap | None:
        """Check the path, load a changed bundle in a thread, and return the result once it is in use or refused."""
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
    def loading(self) -> bool:
        """Whether a bundle is being loaded, or waits to be taken over by `poll`."""
        return self._thread is not None

    @property
    def unsettled(self) -> bool:
        """Whether the path changed since the last attempt, or an attempt is running."""
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
        except Exception as error:  # noqa: BLE001  a bundle may be damaged in any way; the one in use stays
            refused = readable(str(error)) or type(error).__name__
            return self._fallen_back(refused) or Swap(before=before, after=before, refused=refused)
        return Swap(before=before, after=self._next.sha256, refused="", signature=self._next.signature)

    def _fallen_back(self, refused: str) -> Swap | None:
        """Load the last good copy if no bundle is in use; ``None`` if there is none."""
        for folder in self._good_copies() if self.model is None else ():
            try:
                self._next = self._accepted(self._fallback(folder))
            except Exception:  # noqa: BLE001  a copy may be damaged in any way; the next one may be intact
                continue
            return Swap(before=None, after=self._next.sha256, refused=refused, signature=self._next.signature)
        return None

    def _loaded(self) -> LoadedBundle:
        place = self._resolved()
        seal = place / _SEAL
        if not seal.is_file():
            raise InputError(
                f"{self._source}: expected a bundle or a text file with its path, found neither ({place})."
            )
        plain_files(place)  # a FIFO or a device must not even be copied
        target = self._copies / _name_of_copy(place)
        with self._attempting(target):
            if target.is_dir():
                try:
                    return self._loader(target)
                except SignatureError:
                    raise  # another copy has the same signature, and this one may be the last good bundle
                except Exception:  # noqa: BLE001  it may be damaged in any way
                    pass
            # Otherwise copy again: the existing copy with this seal may be damaged.
            with folder_beside(target, replace=True) as partial:
                shutil.copytree(place, partial, dirs_exist_ok=True)
            with contextlib.ExitStack() as unusable:
                if self.model is None or target != self.model.path:
                    unusable.callback(shutil.rmtree, target, ignore_errors=True)
                loaded = self._loader(target)
                unusable.pop_all()
            return loaded

    @contextlib.contextmanager
    def _attempting(self, target: Path) -> Iterator[None]:
        """Mark a bundle while it is loaded: if it crashes the worker, the next worker finds the mark.

        Raises:
            InputError: the bundle crashed a worker before, and another bundle has been in use here.
        """
        mark, attempt = self._copies / _ATTEMPT, f"{target.name} {_digest(self._signature())}"
        if _proof(target).exists():  # it has been in use here, so loading it did not crash a worker
            yield
            return
        with contextlib.suppress(OSError):
            proven = self._dispensable or any(_proof(it).exists() for it in self._folders())
            if mark.read_text(encoding="utf-8") == attempt and proven:
                raise InputError(
                    f"{self._source}: this bundle crashed the worker while it was loaded. The last good bundle "
                    "stays in use, if there is one; to retry this one, copy it there again."
                )
        with contextlib.suppress(OSError):
            self._copies.mkdir(parents=True, exist_ok=True)
            mark.write_text(attempt, encoding="utf-8")
        try:
            yield
        finally:  # not reached if the bundle crashes the worker
            mark.unlink(missing_ok=True)

    def _folders(self) -> list[Path]:
        """Return the copies, newest first."""
        return sorted(self._copies.glob("*/"), key=lambda path: path.stat().st_mtime_ns, reverse=True)

    def _good_copies(self) -> list[Path]:
        """Return copies to fall back on: those that have been in use here, the latest first.

        Without any such mark (from older versions), all copies count, except one that crashed a worker.
        """
        try:
            marked = (self._copies / _ATTEMPT).read_text(encoding="utf-8").partition(" ")[0]
        except (OSError, UnicodeDecodeError):
            marked = ""
        folders = self._folders()
        return [it for it in folders if _proof(it).exists()] or [it for it in folders if it.name != marked]

    def _take(self, swap: Swap) -> None:
        self.trouble = swap.refused
        if self._next is not None:
            self.model, self._next = self._next, None
            self.model.path.touch()  # so that the last good copy is the newest
            with contextlib.suppress(OSError):
                _proof(self.model.path).touch()
            self._prune()

    def _accepted(self, model: LoadedBundle) -> LoadedBundle:
        if self._only is not None and model.sha256 != self._only:
            raise InputError(
                f"{self._source}: expected bundle {self._only} (bundle_sha256 in the settings), found {model.sha256}. "
                "Install the right bundle or change the settings."
            )
        return model

    def _resolved(self) -> Path:
        if self._source.is_file():
            text = self._source.read_text(encoding="utf-8").strip()
            return (self._source.parent / text).resolve() if text else self._source
        return self._source.resolve()

    def _signature(self) -> tuple[object, ...]:
        """Return a value that changes whenever the bundle or its files change."""
        try:
            place = self._resolved()
            stats = [path.lstat() for path in sorted(place.rglob("*"))]
            if self._trust_store is not None and self._trust_store.exists():
                stats.append(self._trust_store.stat())
            return (str(place), *((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats))
        except (OSError, UnicodeDecodeError) as error:
            return (str(error),)

    def _prune(self) -> None:
        for folder in self._folders()[_KEPT:]:
            if self.model is None or folder != self.model.path:
                _proof(folder).unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)


def _name_of_copy(place: Path) -> str:
    """Name a copy by its seal and its signature, so that no copy is replaced by one with another signature."""
    digest = hashlib.sha256((place / _SEAL).read_bytes())
    with contextlib.suppress(FileNotFoundError):
        digest.update(read_regular(place / _SIGNATURE, most_bytes=_LONGEST_SIGNATURE))
    return digest.hexdigest()[:32]


def _proof(folder: Path) -> Path:
    """Return the file that marks a copy that has been in use."""
    return folder.with_name(f"{folder.name}.proven")


def _digest(signature: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(signature).encode(errors="backslashreplace")).hexdigest()
