"""The thread of one camera of a station: acquire a picture, then check and store it while it is judged."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from gonogo.capture import (
    Acquired,
    Camera,
    CaptureError,
    HealthCheck,
    HealthLimits,
    MatchingCamera,
    PictureMatcher,
    Trouble,
    measure,
)
from gonogo.config import Recipe
from gonogo.errors import GonogoError
from gonogo.ledger import FrameStore
from gonogo.schema import Frame
from gonogo.station.models import ModelSlot

_ANY_FRAME = np.zeros((256, 256, 3), np.uint8)


@dataclass(frozen=True, kw_only=True)
class CameraParts:
    """What a station needs to open one camera; it is opened in the camera's thread."""

    name: str
    open_camera: Callable[[], Camera]
    health: HealthLimits
    slot: ModelSlot | None = None
    """The bundle that judges its pictures; ``None`` at a station for several products."""


@dataclass(kw_only=True)
class CameraPicture:
    """State of one exposure. Written by the camera's thread; read each field only after its event is set."""

    trigger_id: str
    timeout_s: float
    came_s: float
    window_s: float
    recipe: Recipe
    taken: threading.Event = field(default_factory=threading.Event)
    """Set once ``acquired`` is known, or the ``problem`` that there is no picture."""
    kept: threading.Event = field(default_factory=threading.Event)
    """Set once ``frame_sha256`` or ``store_error``, and any ``problem`` of the picture, are known."""
    acquired: Acquired | None = None
    unpacked: Frame | None = None
    """The pixels for the health check: as they are judged, or the raw frame."""
    problem: CaptureError | None = None
    """Why the picture cannot be judged. A picture may exist nevertheless."""
    frame_sha256: str | None = None
    store_error: Exception | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    abandoned: bool = False
    """The station no longer waits for it."""


class CameraThread:
    """Owns a camera. A camera that hangs blocks only this thread; ``stuck_s`` is the time it has been hanging."""

    def __init__(self, name: str, opener: Callable[[], Camera], limits: HealthLimits, frames: FrameStore) -> None:
        self.name = name
        self._opener = opener
        self.frames = frames
        self._check = HealthCheck(limits)
        self._camera: Camera | None = None
        self._jobs: queue.SimpleQueue[CameraPicture | tuple[str, bool] | Literal["open"] | None] = queue.SimpleQueue()
        self._counted: Counter[str] = Counter()
        """Leftover pictures counted before the camera was last reopened."""
        self._busy_since: float | None = None
        self.last_error = ""

    @property
    def stuck_s(self) -> float:
        """Time in seconds that the camera has been busy with the present exposure."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def follow(self, frame: Frame) -> None:
        """Set the last picture of an earlier run, for the check for frozen pictures; call before `start`."""
        self._check.before = frame

    @property
    def matcher(self) -> PictureMatcher[Any] | None:
        """The picture matcher, if the camera delivers pictures without being asked; otherwise ``None``."""
        camera = self._camera
        return camera.matcher if isinstance(camera, MatchingCamera) else None

    def start(self) -> None:
        """Start the thread and open the camera in it; a failed opening is retried for each part."""
        self._jobs.put("open")
        threading.Thread(target=self._run, name=f"camera {self.name}", daemon=True).start()

    def expect(self, trigger_id: str, came_s: float, window_s: float) -> None:
        """Announce a trigger whose picture may already be on its way; may be called from any thread."""
        if (matcher := self.matcher) is not None:
            matcher.expect(trigger_id, came_s=came_s, window_s=window_s)

    def faulted(self, at_s: float) -> None:
        """Announce that a part was answered ``fault``, so its picture may be left over; call from any thread."""
        if (matcher := self.matcher) is not None:
            matcher.faulted(at_s)

    def pictures(self) -> dict[str, int]:
        """Return the number of leftover pictures by reason and of waiting ones; empty without a matcher."""
        counts = {} if (matcher := self.matcher) is None else matcher.counts()
        names = {**self._counted, **counts}
        return {name: self._counted[name] + counts.get(name, 0) for name in names}

    def shoot(
        self, trigger_id: str, *, timeout_s: float, came_s: float, window_s: float, recipe: Recipe
    ) -> CameraPicture:
        """Request a picture; returns at once.

        Args:
            trigger_id: Id of the part's trigger.
            timeout_s: Longest wait for the picture.
            came_s: Monotonic time of the trigger.
            window_s: Time after the trigger within which the picture may be taken.
            recipe: How the picture is decoded, once for both the health check and the verdict.
        """
        shot = CameraPicture(
            trigger_id=trigger_id, timeout_s=timeout_s, came_s=came_s, window_s=window_s, recipe=recipe
        )
        self._jobs.put(shot)
        return shot

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Tell the camera whether the verdict on the trigger's picture was recorded."""
        self._jobs.put((trigger_id, stored))

    def close(self) -> None:
        """Close the camera after its present job."""
        self._jobs.put(None)

    def _run(self) -> None:
        measure(_ANY_FRAME)  # the first call is slow; it must not delay the first part
        while (job := self._jobs.get()) is not None:
            if isinstance(job, CameraPicture):
                if job.abandoned:
                    continue
                self._busy_since = time.monotonic()
                self._shoot(job)
                self._busy_since = None
            elif job == "open":
                self._open()
            elif self._camera is not None:
                try:
                    self._camera.settle(job[0], stored=job[1])
                except Exception as error:  # noqa: BLE001  a driver may raise anything; the thread must go on
                    self.last_error = f"{type(error).__name__}: {error}"
        if self._camera is not None:
            self._camera.close()

    def _open(self) -> None:
        try:
            self._camera = self._camera or self._opener()
        except Exception as error:  # noqa: BLE001  a driver may raise anything; the first part reports the error
            self.last_error = f"{type(error).__name__}: {error}"

    def _shoot(self, shot: CameraPicture) -> None:
        start = time.perf_counter()
        with self._problems_of(shot):
            if self._camera is None:
                self._camera = self._opener()
            self.expect(shot.trigger_id, shot.came_s, shot.window_s)
            acquired = self._camera.acquire(shot.trigger_id, timeout_s=shot.timeout_s)
            shot.unpacked = acquired.unpacked(shot.recipe)
            shot.acquired = acquired
            shot.timings_ms["acquire"] = (time.perf_counter() - start) * 1e3
        shot.taken.set()
        if shot.acquired is not None and shot.unpacked is not None:
            start = time.perf_counter()
            with self._problems_of(shot):
                self._check.require(shot.unpacked, size_wh=shot.acquired.photograph.size_wh)
            shot.timings_ms["health"] = (time.perf_counter() - start) * 1e3
        if not shot.abandoned:
            self._keep(shot)
        shot.kept.set()

    @contextmanager
    def _problems_of(self, shot: CameraPicture) -> Iterator[None]:
        """Turn every error of the camera or the picture into the shot's ``problem``."""
        try:
            yield
        except CaptureError as error:
            shot.problem = error
            if error.trouble is Trouble.CAMERA_LOST:
                self._reopen_next_time()
        except Exception as error:  # noqa: BLE001  a driver may raise anything; the part becomes a fault
            shot.problem = CaptureError(Trouble.CAMERA_LOST, f"the camera failed ({type(error).__name__}: {error})")
            self._reopen_next_time()

    def _keep(self, shot: CameraPicture) -> None:
        if shot.acquired is None:
            return
        start = time.perf_counter()
        try:
            photograph = shot.acquired.photograph
            data = photograph.data
            raw = photograph.raw
            shot.frame_sha256 = self.frames.put(data or b"") if raw is None else self.frames.put_frame(raw)
        except (GonogoError, OSError) as error:
            shot.store_error = error
        shot.timings_ms["store"] = (time.perf_counter() - start) * 1e3

    def _reopen_next_time(self) -> None:
        self._counted = Counter({name: count for name, count in self.pictures().items() if name != "waiting"})
        camera, self._camera = self._camera, None
        if camera is not None:
            try:
                camera.close()
            except Exception as error:  # noqa: BLE001  the camera is lost anyway; it will be reopened
                self.last_error = f"{type(error).__name__}: {error}"
