"""Pictures that another program puts into a folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

from gonogo import images
from gonogo.capture.camera import Acquired, CaptureError, Trouble, now
from gonogo.config import Limits
from gonogo.errors import ImageError, InputError

_POLL_S = 0.02
DONE, FAILED = "done", "failed"


class FolderCamera:
    """Gives the picture whose file name is the trigger's, once its size has stopped changing.

    A trigger ``A17`` is given ``A17.png`` (any picture suffix) or a file named ``A17``; what follows a ``#`` in the
    trigger id is left out, see `picture_name`. With ``any_name`` the oldest picture in the folder is given instead.

    A judged picture moves to ``done/``, one that could not be recorded to ``failed/``; with ``keep`` it stays. With
    ``any_name``, pictures that lie there at the start move to ``failed/``: nobody can tell which parts they show.
    """

    def __init__(
        self,
        folder: Path,
        *,
        any_name: bool = False,
        keep: bool = False,
        stable_s: float = 0.1,
        limits: Limits | None = None,
    ) -> None:
        if any_name and keep:
            raise InputError(f"{folder}: any_name needs the pictures to be moved; leave keep out.")
        self._folder = folder
        self._any_name = any_name
        self._keep = keep
        self._stable_s = stable_s
        self._limits = limits or Limits()
        self._given: dict[str, Path] = {}
        if any_name:
            self._clear()

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Acquired:
        """Wait for the trigger's file; see `Camera.acquire`."""
        deadline = time.monotonic() + timeout_s
        watch = Stability(self._stable_s)
        while True:
            path = self._find(trigger_id)
            if path is not None and watch.stable(path):
                self._given = {trigger_id: path}
                return self._read(path)
            if time.monotonic() >= deadline:
                found = "a picture that is still growing" if path is not None else "none"
                wanted = "a picture" if self._any_name else f"a picture named {picture_name(trigger_id)}"
                raise CaptureError(
                    Trouble.NO_FRAME, f"{self._folder}: expected {wanted} within {timeout_s:.2f} s, found {found}"
                )
            time.sleep(_POLL_S)

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Move the picture on; a move that fails is an error, as the picture would be found again."""
        if self._keep:
            return
        try:
            path = self._given.pop(trigger_id, None) or (
                None if self._any_name else named(self._folder, picture_name(trigger_id))
            )
            if path is not None and path.exists():
                move_on(path, DONE if stored else FAILED)
        except OSError as error:
            told = f"{self._folder}: the picture of {trigger_id} cannot be moved on ({error.strerror or error})"
            raise CaptureError(Trouble.CAMERA_LOST, told) from error

    def close(self) -> None:
        """Nothing to let go."""

    def _clear(self) -> None:
        try:
            for path in pictures(self._folder):
                move_on(path, FAILED)
        except OSError as error:
            told = f"{self._folder}: cannot be cleared ({error.strerror or error})"
            raise CaptureError(Trouble.CAMERA_LOST, told) from error

    def _find(self, trigger_id: str) -> Path | None:
        wanted = picture_name(trigger_id)
        try:
            if not self._any_name:
                return named(self._folder, wanted)
            return oldest(self._folder)
        except OSError as error:
            raise CaptureError(
                Trouble.CAMERA_LOST, f"{self._folder}: cannot be read ({error.strerror or error})"
            ) from error

    def _read(self, path: Path) -> Acquired:
        try:
            data = images.read_bytes(path, limits=self._limits)
            return Acquired(
                frame=images.decode(data, name=path.name, limits=self._limits), data=data, at=now(), path=path
            )
        except ImageError as error:
            if not self._keep and path.exists():
                move_on(path, FAILED)
            raise CaptureError(Trouble.UNREADABLE, str(error)) from error


class Stability:
    """Tells when files have stopped growing: same size and change time for a while."""

    def __init__(self, stable_s: float) -> None:
        self._stable_s = stable_s
        self._seen: dict[Path, tuple[int, int, float]] = {}

    def stable(self, path: Path) -> bool:
        """Whether the file is complete, as far as can be told; a file that is gone is not."""
        try:
            stat = path.stat()
        except OSError:
            self._seen.pop(path, None)
            return False
        # A file that nobody has touched for that long needs no second look.
        if time.time() - stat.st_mtime >= max(self._stable_s, 0.0) and stat.st_mtime <= time.time():
            return stat.st_size > 0
        before = self._seen.get(path)
        if before is None or before[:2] != (stat.st_size, stat.st_mtime_ns):
            self._seen[path] = (stat.st_size, stat.st_mtime_ns, time.monotonic())
            return stat.st_size > 0 and self._stable_s <= 0
        return stat.st_size > 0 and time.monotonic() - before[2] >= self._stable_s


def picture_name(trigger_id: str) -> str:
    """The file name that belongs to a trigger: its id up to the first ``#``."""
    return trigger_id.partition("#")[0]


def named(folder: Path, name: str) -> Path | None:
    """The picture of that name, with or without its suffix; ``None`` where there is none.

    Raises:
        OSError: the folder cannot be read.
    """
    if not name or "/" in name or name.startswith("."):
        return None
    folder.stat()  # a missing folder is another trouble than a missing picture
    candidates = (name, *(name + suffix for suffix in images.SUFFIXES), *(name + s.upper() for s in images.SUFFIXES))
    return next((folder / each for each in candidates if (folder / each).is_file()), None)


def oldest(folder: Path) -> Path | None:
    """The picture that has lain there longest; ``None`` where there is none.

    Raises:
        OSError: the folder cannot be read.
    """
    return min(pictures(folder), default=None, key=lambda path: (path.stat().st_mtime_ns, path.name))


def pictures(folder: Path) -> list[Path]:
    """The picture files directly in a folder; hidden ones are left out, as they are still being written.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if not entry.name.startswith(".") and Path(entry.name).suffix.lower() in images.SUFFIXES and entry.is_file()
        ]


def move_on(path: Path, where: str) -> Path:
    """Move a picture into a folder beside it; one of the same name already there is not replaced."""
    folder = path.parent / where
    folder.mkdir(exist_ok=True)
    target = folder / path.name
    number = 2
    while target.exists():
        target = folder / f"{path.stem}-{number}{path.suffix}"
        number += 1
    return path.replace(target)
