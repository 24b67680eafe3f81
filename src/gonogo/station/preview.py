"""What the cameras of a station that does not run see: ``python -m gonogo.station.preview STATION.TOML OUT``.

It writes the latest picture of each camera and its measurements into a folder, several times a second, until its
standard input ends. A line ``try`` lets the station's bundle judge one picture of each camera. Nothing is recorded, no
picture of a folder is moved, and the line gets no answer.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2

from gonogo import bundle as bundles
from gonogo import images
from gonogo.capture import Camera, HealthCheck, measure, open_camera
from gonogo.capture.folder import DONE, FAILED, Stability, waiting_pictures
from gonogo.capture.settings import FakeSettings, FolderSettings, PushSettings
from gonogo.config import Recipe
from gonogo.config import settings as machine_settings
from gonogo.drift import Watch, observe, read_sealed_reference
from gonogo.errors import GonogoError, InputError
from gonogo.heatmap import overlay
from gonogo.images import Photograph
from gonogo.images.health import focus_grid, problem_of
from gonogo.schema import Box, Frame, State, Verdict
from gonogo.station.settings import StationCamera, StationSettings, read_settings, signature_policy

WIDTH_PX = 960
"""Largest width of a picture that is written."""
LOOK, TRIED = "look.json", "tried.json"
PUSHED = "pushed"
EMPTY = "empty"
"""Troubles that a page words itself: pictures are sent to a running station only; the folder is empty."""
_EVERY_S, _SLOW_S = 0.25, 1.0
_TIMEOUT_S = 2.0


class Eye:
    """Looks through one camera without taking its pictures away."""

    def __init__(self, settings: StationCamera, recipe: Recipe) -> None:
        self.settings, self.recipe = settings, recipe
        self.every_s = _SLOW_S if isinstance(settings.camera, FakeSettings) else _EVERY_S
        self._camera: Camera | None = None
        self._number = 0
        self._shown: tuple[Path, int] | None = None
        self.name = ""
        """File name of the latest picture; empty if it was no file."""
        self._stability = Stability(settings.camera.stable_s if isinstance(settings.camera, FolderSettings) else 0.0)

    def take(self, *, again: bool = True) -> Photograph | None:
        """Return a picture; with ``again=False``, ``None`` if it is the one of before.

        Raises:
            InputError: there is none.
            CaptureError: the camera does not respond.
        """
        camera = self.settings.camera
        if isinstance(camera, PushSettings):
            raise InputError(PUSHED)
        if isinstance(camera, FolderSettings):
            return self._newest(camera.folder, again=again)
        if self._camera is None:
            self._camera = open_camera(camera)
        self._number += 1
        trigger = f"preview-{self._number}"
        try:
            photograph = self._camera.acquire(trigger, timeout_s=_TIMEOUT_S).photograph
            self._camera.settle(trigger, stored=False)
        except GonogoError:
            self.close()  # opened again for the next picture
            raise
        return photograph

    def _newest(self, folder: Path, *, again: bool) -> Photograph | None:
        """The newest picture of a folder that has stopped growing, else the newest that a station has judged."""
        waiting = [path for path in waiting_pictures(folder) if self._stability.stable(path)]
        left = [folder / name for name in (DONE, FAILED) if (folder / name).is_dir()]
        judged = [path for each in left for path in waiting_pictures(each)]
        dated = [(path.stat().st_mtime_ns, path) for path in waiting or judged if path.exists()]
        if not dated:
            raise InputError(EMPTY)
        at, path = max(dated)
        if not again and self._shown == (path, at):
            return None
        self._shown, self.name = (path, at), path.name
        return Photograph(images.read_bytes(path), name=path.name)

    def close(self) -> None:
        """Close the camera."""
        camera, self._camera = self._camera, None
        if camera is not None:
            with contextlib.suppress(GonogoError, OSError):
                camera.close()


class Preview:
    """The cameras of one station and the folder that is written to."""

    def __init__(self, settings: StationSettings, out: Path) -> None:
        self.settings, self._out = settings, out
        self._sources = next(iter(settings.sources().values()))
        self._eyes = [Eye(each, _recipe(source)) for each, source in zip(settings.cameras, self._sources, strict=True)]
        self._due_s = [0.0] * len(self._eyes)
        self._looks: list[dict[str, Any]] = [{"trouble": "", "number": 0} for _ in self._eyes]

    def look(self) -> None:
        """Look through every camera that is due, and write what it sees."""
        for number, eye in enumerate(self._eyes):
            if time.monotonic() < self._due_s[number]:
                continue
            self._looks[number] = self._look(number, eye)
            self._due_s[number] = time.monotonic() + eye.every_s
        self._write(LOOK, {"at": datetime.now(UTC).isoformat(), "cameras": self._looks})

    def _look(self, number: int, eye: Eye) -> dict[str, Any]:
        before = self._looks[number]
        found, trouble = _guarded(lambda: eye.take(again=False))
        if trouble:
            return {**before, "trouble": trouble}
        if found is None:
            return before
        facts, trouble = _guarded(lambda: self._measured(number, eye, found))
        if facts is None:
            return {**before, "trouble": trouble}
        return {**facts, "trouble": "", "number": before["number"] + 1}

    def _measured(self, number: int, eye: Eye, photograph: Photograph) -> dict[str, Any]:
        frame = photograph.full(eye.recipe)
        self._write_picture(f"{number}.jpg", frame)
        facts = measure(frame)
        problem = problem_of(facts, eye.settings.health)
        return {
            "name": eye.name,
            "size_wh": [frame.shape[1], frame.shape[0]],
            "facts": asdict(facts),
            "problem": None if problem is None else asdict(problem),
            "grid": asdict(focus_grid(frame)),
        }

    def judge(self) -> None:
        """Let the station's bundle judge one picture of each camera, and write verdicts and maps."""
        self._write(TRIED, {"busy": True, "at": datetime.now(UTC).isoformat(), "cameras": []})
        tried = []
        for number, eye in enumerate(self._eyes):
            found, trouble = _guarded(lambda: self._judged(number, eye))  # noqa: B023  called before the next one
            tried.append({"state": State.FAULT, "reason": trouble, "name": ""} if found is None else found)
        self._write(TRIED, {"busy": False, "at": datetime.now(UTC).isoformat(), "cameras": tried})

    def _judged(self, number: int, eye: Eye) -> dict[str, Any]:
        from gonogo.inspector import Inspector

        machine = machine_settings()
        if self.settings.device is not None:
            machine = machine.model_copy(update={"device": self.settings.device})
        place = _place(self._sources[number])
        judge = Inspector.load(place, machine=machine, policy=signature_policy(self.settings))
        if self.settings.bundle_sha256 not in (None, judge.bundle_sha256):
            raise InputError(f"expected bundle {self.settings.bundle_sha256}, found {judge.bundle_sha256}.")
        photograph = eye.take()
        assert photograph is not None, "asked for any picture"
        frame = photograph.full(judge.recipe)
        limits = eye.settings.health.model_copy(update={"frozen": False})
        self._write_picture(f"tried-{number}.jpg", frame)
        shown = {"name": eye.name, "bundle": place.name, "facts": asdict(measure(frame))}
        try:
            HealthCheck(limits).require(frame)
        except GonogoError as error:
            return {**shown, "state": State.FAULT, "reason": str(error), "map": False}
        verdict = judge.inspect(photograph)
        small, factor = _small(frame)
        region = _scaled(verdict, factor)
        self._write_picture(f"tried-{number}-map.jpg", overlay(small, region, judge.heat_scale, judge.recipe.zones))
        point = judge.operating_point
        return {
            **shown,
            "state": verdict.state,
            "reason": verdict.reason,
            "score": verdict.score,
            "go_below": None if point is None or not math.isfinite(point.go_below) else point.go_below,
            "no_go_above": None if point is None or not math.isfinite(point.no_go_above) else point.no_go_above,
            "map": verdict.heatmap is not None,
            "box": None if verdict.box is None else [*_shares(verdict.box, frame)],
            "ms": verdict.timings_ms.get("total"),
            "drift": _drifted(judge.bundle, photograph, verdict, judge.recipe),
        }

    def _write_picture(self, name: str, frame: Frame) -> None:
        self._write(name, images.encode_jpeg(_small(frame)[0], quality=80))

    def _write(self, name: str, content: bytes | dict[str, Any]) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        partial = self._out / f".{name}"
        partial.write_bytes(data)
        partial.replace(self._out / name)

    def close(self) -> None:
        """Close the cameras."""
        for eye in self._eyes:
            eye.close()


def _guarded(work: Callable[[], Any]) -> tuple[Any, str]:
    """Do something with a camera; return what it gave, and why it failed."""
    try:
        return work(), ""
    except (GonogoError, OSError) as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001  a driver may raise anything; the page shows it
        return None, f"{type(error).__name__}: {error}"


def _place(source: Path) -> Path:
    """The bundle's folder: the source itself, or the folder that a text file names."""
    return (source.parent / source.read_text(encoding="utf-8").strip()) if source.is_file() else source


def _recipe(source: Path) -> Recipe:
    """How pictures are decoded for a bundle; the usual way without one."""
    recipe, _ = _guarded(lambda: bundles.read_bundle(_place(source)).manifest.recipe)
    return recipe if isinstance(recipe, Recipe) else Recipe()


def _drifted(opened: bundles.Bundle, photograph: Photograph, verdict: Verdict, recipe: Recipe) -> list[str] | None:
    """In what the picture is unlike those of calibration; ``None`` if the bundle cannot tell."""
    reference, _ = _guarded(lambda: read_sealed_reference(opened))
    if reference is None or not reference.watches:
        return None
    signs = observe(photograph, verdict, reference.features, recipe)
    if signs is None:
        return None
    farthest: dict[tuple[str, bool], Watch] = {}
    for watch in reference.watches:  # a part beyond a narrow limit is nothing unusual
        known = farthest.get((watch.sign, watch.above))
        if known is None or (watch.limit > known.limit) == watch.above:
            farthest[watch.sign, watch.above] = watch
    return sorted({watch.meaning for watch in farthest.values() if watch.strange(signs)})


def _shares(box: Box, frame: Frame) -> tuple[float, ...]:
    height, width = frame.shape[:2]
    return tuple(round(value, 4) for value in (box.x1 / width, box.y1 / height, box.x2 / width, box.y2 / height))


def _small(frame: Frame) -> tuple[Frame, float]:
    factor = min(1.0, WIDTH_PX / frame.shape[1])
    if factor == 1.0:
        return frame, 1.0
    size_wh = (WIDTH_PX, max(1, round(frame.shape[0] * factor)))
    return cv2.resize(frame, size_wh, interpolation=cv2.INTER_AREA), factor


def _scaled(verdict: Verdict, factor: float) -> Verdict:
    region = verdict.region
    if region is None:
        return verdict
    if isinstance(region, Box):
        scaled = Box(x1=region.x1 * factor, y1=region.y1 * factor, x2=region.x2 * factor, y2=region.y2 * factor)
        return replace(verdict, region=scaled)
    first, second, third, fourth = ((x * factor, y * factor) for x, y in region)
    return replace(verdict, region=(first, second, third, fourth))


def main(toml: Path, out: Path) -> None:
    """Look until standard input ends; judge when it says so."""
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            asked.put(line.strip())
        os._exit(0)  # the server no longer wants pictures, or has ended; a camera that hangs must not stay

    threading.Thread(target=listen, name="server", daemon=True).start()
    preview = Preview(read_settings(toml), out)
    while True:
        preview.look()
        try:
            said = asked.get(timeout=_EVERY_S)
        except queue.Empty:
            continue
        if said == "try":
            preview.judge()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
