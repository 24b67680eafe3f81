"""Industrial cameras (GigE Vision, USB3 Vision) through Aravis, if it is installed on the system."""

from __future__ import annotations

import importlib
from typing import Any

import cv2
import numpy as np

from gonogo.array_types import UInt8, UInt16
from gonogo.capture.camera import Acquired, CaptureError, Trouble, capture_time
from gonogo.errors import InputError
from gonogo.images import Photograph
from gonogo.schema import Frame

_BUFFERS = 4

_BAYER = {
    # GenICam names the pattern by the first two pixels of row 1, OpenCV by pixels 2 and 3 of row 2.
    "BayerRG8": cv2.COLOR_BayerBG2RGB,
    "BayerBG8": cv2.COLOR_BayerRG2RGB,
    "BayerGR8": cv2.COLOR_BayerGB2RGB,
    "BayerGB8": cv2.COLOR_BayerGR2RGB,
}
_DEEP = ("Mono10", "Mono12", "Mono14", "Mono16")
"""Counts in 16 bits each, little endian."""
FORMATS = ("Mono8", *_DEEP, "RGB8", "BGR8", *_BAYER)
"""Supported pixel formats, by their GenICam names."""


def _aravis() -> Any:
    try:
        importlib.import_module("gi").require_version("Aravis", "0.8")
        return importlib.import_module("gi.repository.Aravis")
    except (ImportError, ValueError) as error:
        raise InputError(
            f"a GenICam camera needs Aravis and its Python binding, found {error}. Install them with the system's "
            "packages (Debian: gir1.2-aravis-0.8 python3-gi) and create the environment with --system-site-packages."
        ) from error


class GenicamCamera:
    """A GenICam camera, exposed by a software trigger for each acquisition.

    Exposure, gain and lighting are not set here: store them in the camera (user set).
    """

    def __init__(self, name: str | None = None, *, pixel_format: str = "Mono8", aravis: Any = None) -> None:
        """Open the camera and start its acquisition.

        Args:
            name: The camera's id as listed by ``arv-tool-0.8``. Default: the first camera found.
            pixel_format: One of `FORMATS`.
            aravis: The Python binding; replaced in tests.

        Raises:
            InputError: Aravis is missing, or the pixel format is not supported.
            CaptureError: the camera cannot be opened.
        """
        if pixel_format not in FORMATS:
            raise InputError(f"pixel_format: expected one of {', '.join(FORMATS)}, found {pixel_format!r}.")
        self._aravis = aravis or _aravis()
        self._name = name or "the first GenICam camera"
        self._pixel_format = pixel_format
        # Aravis raises GLib.Error, a RuntimeError, for every failure, and TypeError if there is no camera.
        try:
            self._camera = self._aravis.Camera.new(name)
            self._camera.set_pixel_format_from_string(pixel_format)
            self._camera.set_trigger("Software")
            self._stream = self._camera.create_stream(None, None)
            payload = self._camera.get_payload()
            for _ in range(_BUFFERS):
                self._stream.push_buffer(self._aravis.Buffer.new_allocate(payload))
            self._camera.start_acquisition()
        except (RuntimeError, TypeError) as error:
            raise CaptureError(Trouble.CAMERA_LOST, f"{self._name}: cannot be opened ({error})") from error

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Acquired:
        """Expose and return the frame; see `Camera.acquire`."""
        try:
            self._drain()
            self._camera.software_trigger()
            buffer = self._stream.timeout_pop_buffer(round(timeout_s * 1e6))
        except RuntimeError as error:
            raise CaptureError(Trouble.CAMERA_LOST, f"{self._name}: {error}") from error
        if buffer is None:
            raise CaptureError(Trouble.NO_FRAME, f"{self._name}: no frame in {timeout_s:.2f} s")
        try:
            if buffer.get_status() != self._aravis.BufferStatus.SUCCESS:
                raise CaptureError(Trouble.NO_FRAME, f"{self._name}: incomplete frame ({buffer.get_status()})")
            size_wh = buffer.get_image_width(), buffer.get_image_height()
            data = np.frombuffer(buffer.get_data(), np.uint8)
            deep = self._pixel_format in _DEEP
            frame = to_counts(data, size_wh) if deep else to_rgb(data, size_wh, self._pixel_format)
        finally:
            self._stream.push_buffer(buffer)
        return Acquired(photograph=Photograph(frame), at=capture_time())

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Stop the acquisition."""
        self._camera.stop_acquisition()

    def _drain(self) -> None:
        """Drop late frames of earlier triggers, which belong to other parts."""
        while (late := self._stream.try_pop_buffer()) is not None:
            self._stream.push_buffer(late)


def to_counts(data: UInt8[np.ndarray, " bytes"], size_wh: tuple[int, int]) -> UInt16[np.ndarray, "height width"]:
    """Copy the buffer of a camera with more than 8 bits per pixel.

    Raises:
        CaptureError: the buffer has too few bytes.
    """
    width, height = size_wh
    if data.size < 2 * width * height:
        raise CaptureError(Trouble.UNREADABLE, f"expected {2 * width * height} bytes, found {data.size}")
    return data[: 2 * width * height].view("<u2").reshape(height, width).astype(np.uint16)


def to_rgb(data: UInt8[np.ndarray, " bytes"], size_wh: tuple[int, int], pixel_format: str) -> Frame:
    """Convert a camera's buffer to a new RGB frame.

    Raises:
        CaptureError: the buffer has too few bytes.
    """
    width, height = size_wh
    channels = 3 if pixel_format in ("RGB8", "BGR8") else 1
    if data.size < width * height * channels:
        raise CaptureError(Trouble.UNREADABLE, f"expected {width * height * channels} bytes, found {data.size}")
    picture = data[: width * height * channels].reshape(height, width, channels)
    if pixel_format == "RGB8":
        return picture.copy()
    if pixel_format == "BGR8":
        return np.ascontiguousarray(picture[..., ::-1])
    return np.asarray(cv2.cvtColor(picture, _BAYER.get(pixel_format, cv2.COLOR_GRAY2RGB)), dtype=np.uint8)
