"""Video cameras through FFmpeg: a file, an RTSP stream, or a Video4Linux device."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any, Self

import numpy as np

from gonogo.capture.camera import Acquired, CaptureError, Trouble, capture_time
from gonogo.config import PictureLimits
from gonogo.errors import InputError
from gonogo.images import Photograph
from gonogo.schema import Frame

_RETRY_S = 1.0


def _pyav() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise InputError("a video camera needs PyAV. Install it: pip install 'gonogo[video]'") from error
    return av


class VideoFile:
    """Returns the next frame of a video file for each trigger; with ``loop`` it restarts at the end."""

    def __init__(self, path: str, *, loop: bool = False, limits: PictureLimits | None = None) -> None:
        self._path = path
        self._loop = loop
        self._limits = limits or PictureLimits()
        self._frames = _decode(path, "", {}, self._limits, timeout_s=5.0)

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Acquired:
        """Return the next frame; see `Camera.acquire`."""
        frame = self._next()
        if frame is None and self._loop:
            self._frames = _decode(self._path, "", {}, self._limits, timeout_s=5.0)
            frame = self._next()
        if frame is None:
            raise CaptureError(Trouble.NO_FRAME, f"{self._path}: the video has ended")
        return Acquired(photograph=Photograph(frame), at=capture_time())

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Close the file."""
        self._frames.close()

    def _next(self) -> Frame | None:
        try:
            return next(self._frames, None)
        except (OSError, ValueError) as error:
            raise CaptureError(Trouble.CAMERA_LOST, f"{self._path}: cannot be read ({error})") from error


class LiveVideo:
    """Reads a live stream in a background thread and returns the first frame that arrives after the trigger.

    A broken stream is reopened every second; meanwhile every trigger gets ``camera_lost``.
    """

    def __init__(
        self,
        url: str,
        *,
        format: str = "",
        options: Mapping[str, str] | None = None,
        stall_s: float = 3.0,
        limits: PictureLimits | None = None,
    ) -> None:
        """Store the arguments; `start` opens the stream.

        Args:
            url: ``rtsp://...`` or ``/dev/video0``.
            format: FFmpeg's input format, if the URL does not determine it, for example ``v4l2``.
            options: Options for FFmpeg.
            stall_s: A stream that is silent for this long is reopened.
            limits: Limits on the size of a frame.
        """
        _pyav()
        self._open = (url, format, dict(options or {}), limits or PictureLimits())
        self._stall_s = stall_s
        self._changed = threading.Condition()
        self._newest: tuple[int, Frame] | None = None
        self._trouble = "not connected yet"
        self._stopped = threading.Event()

    def start(self) -> Self:
        """Start to read the stream."""
        threading.Thread(target=self._follow, name="live-video", daemon=True).start()
        return self

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Acquired:
        """Return the first frame that arrives after the call; see `Camera.acquire`."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            before = self._newest[0] if self._newest else 0
            while self._newest is None or self._newest[0] <= before:
                left = deadline - time.monotonic()
                if left <= 0:
                    trouble = Trouble.CAMERA_LOST if self._trouble else Trouble.NO_FRAME
                    raise CaptureError(trouble, f"{self._open[0]}: {self._trouble or f'no frame in {timeout_s:.2f} s'}")
                self._changed.wait(left)
            return Acquired(photograph=Photograph(self._newest[1]), at=capture_time())

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Stop reading the stream."""
        self._stopped.set()

    def _follow(self) -> None:
        number = 0
        while not self._stopped.is_set():
            try:
                with closing(_decode(*self._open, timeout_s=self._stall_s)) as frames:
                    for frame in frames:
                        if self._stopped.is_set():
                            return
                        number += 1
                        self._update(number, frame, "")
                self._update(0, None, "the stream ended")
            except (OSError, ValueError, CaptureError) as error:
                self._update(0, None, f"cannot be read ({error})")
            self._stopped.wait(_RETRY_S)

    def _update(self, number: int, frame: Frame | None, trouble: str) -> None:
        with self._changed:
            self._trouble = trouble
            if frame is not None:
                self._newest = (number, frame)
            self._changed.notify_all()


def rtsp(url: str, *, stall_s: float = 3.0, limits: PictureLimits | None = None) -> LiveVideo:
    """Create an RTSP camera over TCP, so that a lost packet cannot corrupt a picture."""
    options = {"rtsp_transport": "tcp", "fflags": "nobuffer", "max_delay": "100000"}
    return LiveVideo(url, options=options, stall_s=stall_s, limits=limits)


def v4l2(
    device: str,
    *,
    size_wh: tuple[int, int] | None = None,
    rate_hz: int | None = None,
    limits: PictureLimits | None = None,
) -> LiveVideo:
    """Create a Video4Linux camera."""
    options = {} if size_wh is None else {"video_size": f"{size_wh[0]}x{size_wh[1]}"}
    options |= {} if rate_hz is None else {"framerate": str(rate_hz)}
    return LiveVideo(device, format="v4l2", options=options, limits=limits)


def _decode(
    url: str, format: str, options: Mapping[str, str], limits: PictureLimits, *, timeout_s: float
) -> Generator[Frame, None, None]:
    av = _pyav()
    # PyAV's errors derive from OSError or ValueError.
    with av.open(url, format=format or None, options=dict(options), timeout=timeout_s) as container:
        if not container.streams.video:
            raise CaptureError(Trouble.CAMERA_LOST, f"{url}: expected video, found none")
        stream = container.streams.video[0]
        if stream.width * stream.height > limits.max_pixels:
            raise CaptureError(
                Trouble.WRONG_SIZE,
                f"{url}: {stream.width} x {stream.height} pixels, more than the {limits.max_pixels:,} allowed",
            )
        stream.thread_type = "SLICE"  # frame threading would delay several frames
        for frame in container.decode(stream):
            yield np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
