"""A camera that reads pictures which another program writes into a folder."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gonogo import images
from gonogo.capture.camera import Acquired, CaptureError, Trouble, capture_time
from gonogo.capture.deliveries import Delivered, Matched, Matching
from gonogo.capture.matching import PictureMatcher
from gonogo.config import PictureLimits
from gonogo.errors import ImageError, InputError

_POLL_S = 0.02
_SWEEP_S = 1.0
_CLOCK_STEP_S = 0.01  # how far the times of a file may lag behind the clock
_REMEMBERED = 4_096
_Identity = tuple[int, int, int] | None
_Found = TypeVar("_Found")
_DIGEST = re.compile(r"#([0-9a-f]{12})$")
DONE, FAILED = "done", "failed"


class FolderCamera:
    """Returns the picture with the trigger's file name, once the file has stopped growing.

    For trigger ``A17`` this is ``A17.png`` (any picture suffix) or ``A17``. Text after a ``#`` in the trigger id is
    ignored, except that twelve hexadecimal digits must be the start of the file's SHA-256; a file with another digest
    belongs to another part.

    With ``any_name``, or if the modification times of files are capture times, pictures may have other names; see
    `gonogo.capture.matching` for how they are matched. The folder must be on a local disk.

    Judged pictures move to ``done/``; leftovers and pictures that could not be recorded move to ``failed/``. With
    ``keep`` they stay. If pictures may have any name, those in the folder at the start move to ``failed/``, as it is
    unknown which parts they show.
    """

    def __init__(
        self,
        folder: Path,
        *,
        any_name: bool = False,
        matching: Matching | None = None,
        mtime_is_capture_time: bool = False,
        keep: bool = False,
        stable_s: float = 0.1,
        limits: PictureLimits | None = None,
    ) -> None:
        rule = matching or Matching(any_name=any_name)
        if (rule.any_name or mtime_is_capture_time) and keep:
            raise InputError(f"{folder}: pictures of any name must be moved after they are judged. Remove keep.")
        self._folder = folder
        self._named_only = not rule.any_name and not mtime_is_capture_time
        self._mtime_is_capture_time = mtime_is_capture_time
        self._keep = keep
        self._stable_s = stable_s
        self._limits = limits or PictureLimits()
        self._given: dict[str, tuple[Path, _Identity]] = {}
        self._offered: set[tuple[Path, _Identity]] = set()
        self._left: list[Delivered[Path]] = []
        self.matcher: PictureMatcher[Path] = PictureMatcher(rule, name_of=picture_name, discard=self._left.append)
        self._watch = Stability(stable_s)
        self._finished: OrderedDict[str, str] = OrderedDict()
        self._swept_s = 0.0
        if not self._named_only:
            self._clear()

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Acquired:
        """Wait for the trigger's file; see `Camera.acquire`."""
        until_s = time.monotonic() + timeout_s
        if self._named_only:
            self._finish(trigger_id, "late")
            return self._read(trigger_id, self._wait_for_name(trigger_id, until_s, timeout_s))
        self._offer_new()
        try:
            matched = self.matcher.take(trigger_id, until_s=until_s, poll=self._offer_new, poll_s=_POLL_S)
        finally:
            self._move_leftovers()
        return self._read(trigger_id, matched.picture.content, matched)

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Move the picture to ``done/`` or ``failed/``; a failure is an error, as the picture would be found again."""
        if self._keep:
            return
        try:
            path, given = self._given.pop(trigger_id, (None, None))
            if path is None and self._named_only:
                path = named(self._folder, picture_name(trigger_id))
                given = None if path is None or not _is_of(path, trigger_id) else _identity(path)
            # Another picture may have arrived under the same name; it waits for its own trigger.
            if path is not None and given is not None and _identity(path) == given:
                move_on(path, DONE if stored else FAILED)
        except OSError as error:
            problem = f"{self._folder}: the picture of {trigger_id} cannot be moved ({error.strerror or error})"
            raise CaptureError(Trouble.CAMERA_LOST, problem) from error
        if self._named_only:
            self._sweep()

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _wait_for_name(self, trigger_id: str, until_s: float, timeout_s: float) -> Path:
        watch = Stability(self._stable_s)
        while True:
            path = self._seek(lambda: named(self._folder, picture_name(trigger_id)))
            if path is not None and watch.stable(path):
                return path
            if time.monotonic() >= until_s:
                found = "a picture that is still growing" if path is not None else "none"
                wanted = f"a picture named {picture_name(trigger_id)}"
                problem = f"{self._folder}: expected {wanted} within {timeout_s:.2f} s, found {found}"
                raise CaptureError(Trouble.NO_FRAME, problem)
            time.sleep(_POLL_S)

    def _finish(self, trigger_id: str, reason: str) -> None:
        """Mark a name as finished: later pictures under it are leftovers, unless the trigger id has a ``#``."""
        if "#" not in trigger_id:
            self._finished[trigger_id] = reason
            while len(self._finished) > _REMEMBERED:
                self._finished.popitem(last=False)

    def _sweep(self) -> None:
        """Move leftovers of finished triggers to ``failed/``, at most once a second."""
        if time.monotonic() - self._swept_s < _SWEEP_S:
            return
        self._swept_s = time.monotonic()
        for path in self._seek(lambda: waiting_pictures(self._folder)):
            reason = self._finished.get(path.stem) or self._finished.get(path.name)
            if reason and path not in [given[0] for given in self._given.values()] and self._watch.stable(path):
                self.matcher.count(reason)
                move_on(path, FAILED)

    def _offer_new(self) -> None:
        """Give new pictures to the matcher."""
        self._move_leftovers()
        present = set()
        for path in self._seek(lambda: waiting_pictures(self._folder)):
            identity = _identity(path)
            if identity is None:
                continue
            present.add((path, identity))
            if (path, identity) in self._offered or not self._watch.stable(path):
                continue
            try:
                self._offer(path)
            except OSError:
                continue  # moved away meanwhile
            self._offered.add((path, identity))
        self._offered &= present
        self._move_leftovers()

    def _offer(self, path: Path) -> None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        stat = path.stat()
        # The change time of the inode is the time of arrival; the modification time may be older.
        arrived_s = min(time.monotonic(), self.matcher.to_monotonic(stat.st_ctime) + _CLOCK_STEP_S)
        captured_s = self.matcher.to_monotonic(stat.st_mtime) if self._mtime_is_capture_time else None
        names = frozenset((path.name, path.stem))
        if captured_s is None and not self.matcher.rule.any_name:
            return
        self.matcher.put(
            Delivered(content=path, digest=digest, arrived_s=arrived_s, names=names, captured_s=captured_s)
        )

    def _move_leftovers(self) -> None:
        while self._left:
            path = self._left.pop().content
            try:
                if path.exists():
                    move_on(path, FAILED)
            except OSError as error:
                problem = f"{path}: the leftover picture cannot be moved ({error.strerror or error})"
                raise CaptureError(Trouble.CAMERA_LOST, problem) from error

    def _clear(self) -> None:
        try:
            for path in waiting_pictures(self._folder):
                move_on(path, FAILED)
        except OSError as error:
            problem = f"{self._folder}: cannot be cleared ({error.strerror or error})"
            raise CaptureError(Trouble.CAMERA_LOST, problem) from error

    def _seek(self, look: Callable[[], _Found]) -> _Found:
        try:
            return look()
        except OSError as error:
            raise CaptureError(
                Trouble.CAMERA_LOST, f"{self._folder}: cannot be read ({error.strerror or error})"
            ) from error

    def _read(self, trigger_id: str, path: Path, matched: Matched[Path] | None = None) -> Acquired:
        self._given = {trigger_id: (path, _identity(path))}
        self._finish(trigger_id, "doubled")
        sole_until_s = None if matched is None else matched.sole_until_s
        digest = "" if matched is None else matched.picture.digest
        try:
            data = images.read_bytes(path, limits=self._limits)
            if not hashlib.sha256(data).hexdigest().startswith(digest or wanted_digest(trigger_id)):
                problem = f"{path}: another picture has replaced the one of this trigger"
                raise CaptureError(Trouble.UNMATCHED, problem)
            return Acquired(
                photograph=images.Photograph(data, name=path.name),
                at=capture_time(),
                path=path,
                sole_until_s=sole_until_s,
            )
        except ImageError as error:
            if not self._keep and path.exists():
                move_on(path, FAILED)
            raise CaptureError(Trouble.UNREADABLE, str(error)) from error
        except CaptureError:
            self._given.clear()  # leave the picture for its own trigger
            raise


class Stability:
    """Detects files that have stopped growing: size and modification time are constant for a while."""

    def __init__(self, stable_s: float) -> None:
        self._stable_s = stable_s
        self._seen: dict[Path, tuple[int, int, float]] = {}

    def stable(self, path: Path) -> bool:
        """Whether the file seems to be complete; false for a missing file."""
        try:
            stat = path.stat()
        except OSError:
            self._seen.pop(path, None)
            return False
        # A file that was last modified long enough ago is complete at first sight.
        if time.time() - stat.st_mtime >= max(self._stable_s, 0.0) and stat.st_mtime <= time.time():
            return stat.st_size > 0
        before = self._seen.get(path)
        if before is None or before[:2] != (stat.st_size, stat.st_mtime_ns):
            self._seen[path] = (stat.st_size, stat.st_mtime_ns, time.monotonic())
            return stat.st_size > 0 and self._stable_s <= 0
        return stat.st_size > 0 and time.monotonic() - before[2] >= self._stable_s


def picture_name(trigger_id: str) -> str:
    """Return the file name for a trigger: its id up to the first ``#``."""
    return trigger_id.partition("#")[0]


def wanted_digest(trigger_id: str) -> str:
    """Return the start of the picture's SHA-256 in a trigger id; empty if the id contains none."""
    found = _DIGEST.search(trigger_id)
    return "" if found is None else found[1]


def _is_of(path: Path, trigger_id: str) -> bool:
    wanted = wanted_digest(trigger_id)
    return not wanted or hashlib.sha256(path.read_bytes()).hexdigest().startswith(wanted)


def _identity(path: Path) -> _Identity:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def named(folder: Path, name: str) -> Path | None:
    """Find the picture of this name, with or without suffix; ``None`` if there is none.

    Raises:
        OSError: the folder cannot be read.
    """
    if not name or "/" in name or name.startswith("."):
        return None
    folder.stat()  # raises for a missing folder, which is not the same as a missing picture
    candidates = (name, *(name + suffix for suffix in images.SUFFIXES), *(name + s.upper() for s in images.SUFFIXES))
    return next((folder / each for each in candidates if (folder / each).is_file()), None)


def waiting_pictures(folder: Path) -> list[Path]:
    """List the picture files directly in a folder, without hidden ones, which are still being written.

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
    """Move a picture into a subfolder next to it, without replacing a file of the same name."""
    folder = path.parent / where
    folder.mkdir(exist_ok=True)
    target = folder / path.name
    number = 2
    while target.exists():
        target = folder / f"{path.stem}-{number}{path.suffix}"
        number += 1
    return path.replace(target)
