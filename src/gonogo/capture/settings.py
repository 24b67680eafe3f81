"""``[cameras.camera]``: settings of all kinds of cameras, and opening one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from gonogo.capture.camera import Camera
from gonogo.capture.deliveries import Matching
from gonogo.capture.folder import FolderCamera
from gonogo.capture.push import PushCamera
from gonogo.capture.repeating import RepeatingCamera
from gonogo.capture.video import VideoFile, rtsp, v4l2
from gonogo.config import PictureLimits, Strict
from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, read_text

Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]


class FolderSettings(Matching):
    """Pictures that another program writes into a folder."""

    kind: Literal["folder"]
    folder: Path
    mtime_is_capture_time: bool = False
    """The modification time of each file is the capture time of the picture."""
    keep: bool = False
    """Leave the pictures in place; otherwise they move to ``done/`` and ``failed/``."""
    stable_s: float = Field(default=0.1, ge=0, le=10)
    """How long a file must stay unchanged before it is read."""


class PushSettings(Matching):
    """Pictures that another program sends over HTTP."""

    kind: Literal["push"]
    host: str = "127.0.0.1"
    port: Port
    token_file: Path | None = None
    """A file whose first line is the bearer token."""
    allow_without_token: bool = False
    """Accept pictures from every program that can reach the port."""
    hosts: tuple[str, ...] = ()
    """Further host names of this machine, besides its addresses and its own name."""

    @model_validator(mode="after")
    def _asks_for_a_token(self) -> PushSettings:
        require_token("POST /frames", self.token_file, allowed_without=self.allow_without_token)
        return self


class VideoFileSettings(Strict):
    """The frames of a video file, one for each trigger."""

    kind: Literal["video_file"]
    file: Path
    loop: bool = False


class RtspSettings(Strict):
    """A network camera."""

    kind: Literal["rtsp"]
    url: str = Field(pattern="^rtsps?://")


class V4l2Settings(Strict):
    """A Video4Linux camera, ``/dev/video*``."""

    kind: Literal["v4l2"]
    device: str = Field(pattern="^/dev/")
    size_wh: tuple[int, int] | None = None
    rate_hz: int | None = Field(default=None, gt=0)


class GenicamSettings(Strict):
    """An industrial camera through Aravis."""

    kind: Literal["genicam"]
    name: str | None = None
    """The camera's id as listed by ``arv-tool-0.8``. Default: the first camera found."""
    pixel_format: Literal[
        "Mono8", "Mono10", "Mono12", "Mono14", "Mono16", "RGB8", "BGR8", "BayerRG8", "BayerBG8", "BayerGR8", "BayerGB8"
    ] = "Mono8"


class FakeSettings(Strict):
    """No camera: cycle through the pictures of a folder, for trials without a line."""

    kind: Literal["fake"]
    pictures: Path


CameraSettings: TypeAlias = Annotated[
    FolderSettings | PushSettings | VideoFileSettings | RtspSettings | V4l2Settings | GenicamSettings | FakeSettings,
    Field(discriminator="kind"),
]


def open_camera(settings: CameraSettings, *, limits: PictureLimits | None = None) -> Camera:
    """Open the camera that the settings describe.

    Raises:
        InputError: the camera cannot be used on this machine; the message says what is missing.
        CaptureError: the camera does not respond.
    """
    match settings:
        case FolderSettings():
            return FolderCamera(
                settings.folder,
                matching=settings,
                mtime_is_capture_time=settings.mtime_is_capture_time,
                keep=settings.keep,
                stable_s=settings.stable_s,
                limits=limits,
            )
        case PushSettings():
            return PushCamera(
                host=settings.host,
                port=settings.port,
                token=read_token(settings.token_file),
                hosts=settings.hosts,
                matching=settings,
                limits=limits,
            ).start()
        case VideoFileSettings():
            return VideoFile(str(settings.file), loop=settings.loop, limits=limits)
        case RtspSettings():
            return rtsp(settings.url, limits=limits).start()
        case V4l2Settings():
            return v4l2(settings.device, size_wh=settings.size_wh, rate_hz=settings.rate_hz, limits=limits).start()
        case GenicamSettings():
            from gonogo.capture.genicam import GenicamCamera

            return GenicamCamera(settings.name, pixel_format=settings.pixel_format)
        case FakeSettings():
            return RepeatingCamera(settings.pictures)


def require_token(what: str, file: Path | None, *, allowed_without: bool) -> None:
    """Require a token file for a port that accepts requests, or explicit permission to go without.

    Raises:
        ValueError: the settings have neither.
    """
    if file is None and not allowed_without:
        raise ValueError(
            f"{what} needs a token: expected token_file, a file with a secret that clients must send "
            "(create one with: openssl rand -hex 32), or allow_without_token = true"
        )


def read_token(path: Path | None) -> str | None:
    """Read the first line of a token file; ``None`` if there is no file.

    Raises:
        InputError: the file is unreadable or empty.
    """
    if path is None:
        return None
    try:
        lines = read_text(path, most_bytes=MOST_SETTINGS_BYTES).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a file with a token, found one that cannot be read ({error}).") from error
    if not lines[0].strip():
        raise InputError(f"{path}: expected a token in the first line, found an empty one.")
    return lines[0].strip()
