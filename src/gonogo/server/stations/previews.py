"""The processes that show what the cameras of stations see while these do not run; see `gonogo.station.preview`.

A camera driver may crash or hang, so none is loaded into the server. A process ends when no page has asked for a while,
when its station starts, and with the server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gonogo.server.language import N_, RefusedError
from gonogo.server.stations.stations import Station
from gonogo.station.companion import end_child, start_child
from gonogo.station.preview import LOOK, TRIED

MOST = 6
"""Largest number of stations that are previewed at a time."""
IDLE_S = 10.0
_SWEEP_S = 1.0
_PICTURES = ("{}.jpg", "tried-{}.jpg", "tried-{}-map.jpg")


@dataclass(kw_only=True)
class _Preview:
    """One process and the folder that it writes to."""

    child: subprocess.Popen[str]
    folder: tempfile.TemporaryDirectory[str]
    toml_mark: int
    """Modification time of the settings that it read."""
    asked_s: float = field(default_factory=time.monotonic)

    @property
    def out(self) -> Path:
        return Path(self.folder.name)


class Previews:
    """One process for each station that is looked at."""

    def __init__(self) -> None:
        self._held: dict[str, _Preview] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sweeper: threading.Thread | None = None

    def look(self, station: Station) -> dict[str, Any]:
        """Return what the cameras of a station see, and what was tried; empty until its process has looked.

        Raises:
            RefusedError: too many stations are looked at.
        """
        with self._lock:
            held = self._of(station)
            held.asked_s = time.monotonic()
            out, ended = held.out, held.child.poll()
        found: dict[str, Any] = {"look": _read(out / LOOK), "tried": _read(out / TRIED)}
        if ended is not None:
            found["ended"] = _tail(out / "log.txt") or f"exit code {ended}"
        return found

    def judge(self, station: Station) -> None:
        """Let the bundle judge one picture; `look` returns the result when it is there."""
        with self._lock:
            held = self._of(station)
            held.asked_s = time.monotonic()
            # Said here, so that no page takes the verdict of an earlier picture for this one.
            (held.out / TRIED).write_bytes(json.dumps({"busy": True, "cameras": []}).encode())
            with suppress(OSError):
                assert held.child.stdin is not None, "started with a pipe"
                held.child.stdin.write("try\n")
                held.child.stdin.flush()

    def picture(self, name: str, kind: int, camera: int) -> bytes | None:
        """Return a picture as JPEG: what the camera sees (0), the one that was tried (1), or its map (2)."""
        with self._lock:
            held = self._held.get(name)
            if held is None:
                return None
            with suppress(OSError):
                return (held.out / _PICTURES[kind].format(camera)).read_bytes()
        return None

    def stop(self, name: str) -> None:
        """End the process of a station, so that the station can open its camera."""
        with self._lock:
            held = self._held.pop(name, None)
        if held is not None:
            _end(held)

    def close(self) -> None:
        """End every process."""
        self._closing.set()
        for name in list(self._held):
            self.stop(name)

    def _of(self, station: Station) -> _Preview:
        """The process of a station; started if there is none, and again if the settings have changed."""
        mark = station.place.toml.stat().st_mtime_ns
        held = self._held.get(station.name)
        if held is not None and held.toml_mark != mark:
            _end(self._held.pop(station.name))
            held = None
        if held is None:
            if len(self._held) >= MOST or self._closing.is_set():
                raise RefusedError(N_("Too many cameras are looked at. Close the pages of other stations first."))
            held = self._held[station.name] = _begin(station, mark)
            self._sweep_from_now_on()
        return held

    def _sweep_from_now_on(self) -> None:
        if self._sweeper is None or not self._sweeper.is_alive():
            self._sweeper = threading.Thread(target=self._sweep, name="previews", daemon=True)
            self._sweeper.start()

    def _sweep(self) -> None:
        while not self._closing.wait(_SWEEP_S):
            with self._lock:
                idle = [name for name, held in self._held.items() if time.monotonic() - held.asked_s > IDLE_S]
                if not self._held:
                    self._sweeper = None
                    return
            for name in idle:
                self.stop(name)


def _begin(station: Station, mark: int) -> _Preview:
    folder = tempfile.TemporaryDirectory(prefix="gonogo-preview-", ignore_cleanup_errors=True)
    command = [sys.executable, "-m", "gonogo.station.preview", str(station.place.toml), folder.name]
    with (Path(folder.name) / "log.txt").open("wb") as log:
        return _Preview(child=start_child(command, log=log), folder=folder, toml_mark=mark)


def _end(held: _Preview) -> None:
    end_child(held.child)
    held.folder.cleanup()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None  # not written yet
    return found


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
