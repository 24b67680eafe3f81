"""``station.toml``: one inspection position, strictly read."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import Field, ValidationError, field_validator, model_validator

from gonogo.capture import CameraSettings, HealthLimits
from gonogo.capture.settings import Port, require_token
from gonogo.config import Strict
from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, parse_toml, read_text

Seconds: TypeAlias = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class StationCamera(Strict):
    """``[[views]]``: one camera looking at the part."""

    name: str = Field(default="main", pattern=r"^[A-Za-z0-9_-]{1,40}$")
    camera: CameraSettings
    health: HealthLimits = HealthLimits()
    bundle: Path | None = None
    """What judges this view; the station's bundle where omitted."""


class FolderTrigger(Strict):
    """A picture that appears in a folder is a trigger; its name is the part's."""

    kind: Literal["folder"]
    folder: Path
    stable_s: float = Field(default=0.1, ge=0, le=10)
    poll_s: Seconds = 0.05


class TimerTrigger(Strict):
    """A trigger every so often."""

    kind: Literal["timer"]
    every_s: Seconds


class HttpTrigger(Strict):
    """``POST /trigger`` on the station's own port; the response is the answer."""

    kind: Literal["http"]


class StdinTrigger(Strict):
    """A line on standard input: a trigger id, or a JSON object: ``id``, perhaps ``part``, ``lot``, ``product``."""

    kind: Literal["stdin"]


TriggerSettings: TypeAlias = Annotated[
    FolderTrigger | TimerTrigger | HttpTrigger | StdinTrigger, Field(discriminator="kind")
]


class StdoutAnswers(Strict):
    """One JSON object a line on standard output."""

    kind: Literal["stdout"]


class FileAnswers(Strict):
    """One JSON object a line, appended to a file."""

    kind: Literal["file"]
    file: Path


class HttpAnswers(Strict):
    """Each answer is posted as JSON; anything but a 2xx reply counts as not delivered."""

    kind: Literal["http"]
    url: str = Field(pattern="^https?://")
    token_file: Path | None = None
    timeout_s: Seconds = 1.0
    attempts: int = Field(default=3, ge=1, le=10)


AnswerSettings: TypeAlias = Annotated[StdoutAnswers | FileAnswers | HttpAnswers, Field(discriminator="kind")]


class HttpSettings(Strict):
    """``[http]``: where status, metrics and HTTP triggers are served."""

    host: str = "127.0.0.1"
    port: Port
    token_file: Path | None = None
    """Asked of ``POST /trigger``; metrics and status are free to read."""
    allow_without_token: bool = False
    """Take triggers from every program that can reach the port."""
    hosts: tuple[str, ...] = ()
    """Names under which this machine is reached, besides its addresses and its own name."""


class WatchdogSettings(Strict):
    """``[watchdog]``: when the worker is restarted."""

    restarts: int = Field(default=5, ge=1)
    """At most so many ..."""
    within_s: Seconds = 60.0
    """... within this time; then every part is a fault until the oldest restart has passed out of it."""
    stall_s: Seconds = 5.0
    """A worker that is silent for so long with work in hand is killed."""
    start_s: Seconds = 60.0
    """A worker that is not ready by then is killed."""
    heartbeat_s: Seconds = 1.0
    """How often an idle worker must show that it lives."""


class ChallengeSettings(Strict):
    """``[challenge]``: known bad parts that must be rejected, over and over."""

    every_s: Seconds = 3600.0
    grace_s: Seconds = 600.0
    """How long a test may be overdue before nothing passes any more."""
    parts: tuple[str, ...] = ()
    """Part names, ``*`` for any letters, of real challenge parts that people put on the line."""
    pictures: Path | None = None
    """A folder of pictures of known bad parts; the station judges one of them by itself whenever a test is due. Tests
    bundle and thresholds, not the camera."""
    must_be: tuple[Literal["no_go", "review"], ...] = ("no_go",)
    """Which verdicts pass the test."""

    @model_validator(mode="after")
    def _has_something_to_test_with(self) -> ChallengeSettings:
        if not self.parts and self.pictures is None:
            raise ValueError("expected parts or pictures, found neither")
        if not self.must_be:
            raise ValueError("must_be: expected no_go, review or both, found neither")
        return self


class StationSettings(Strict):
    """All of ``station.toml``. Relative paths are counted from its folder."""

    station: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")
    bundle: Path
    """The bundle's folder, a link to it, or a text file with its path. Watched: what it leads to is loaded anew."""
    bundle_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """The only bundle that may judge here; ``None`` takes any that reproduces its golden frames."""
    ledger: Path
    state_dir: Path
    """Status, metrics, unrecorded faults and copies of the bundles in use."""
    window_s: float = Field(default=1.5, gt=0, le=60)
    """How long after its trigger a part must be answered; later is a fault."""
    camera_timeout_s: Seconds = 0.8
    queue: int = Field(default=8, ge=1, le=1000)
    """How many parts may wait; one more is a fault."""
    min_free_mb: int = Field(default=500, ge=0)
    """With less space left for the ledger, every part is a fault."""
    views: tuple[StationCamera, ...] = Field(min_length=1)
    trigger: TriggerSettings
    answer: AnswerSettings
    http: HttpSettings | None = None
    watchdog: WatchdogSettings = WatchdogSettings()
    challenge: ChallengeSettings | None = None

    @field_validator("views")
    @classmethod
    def _have_names_of_their_own(cls, value: tuple[StationCamera, ...]) -> tuple[StationCamera, ...]:
        names = [view.name for view in value]
        if len(set(names)) < len(names):
            raise ValueError(f"expected a different name for every view, found {', '.join(names)}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> StationSettings:
        if self.camera_timeout_s >= self.window_s:
            raise ValueError(
                f"camera_timeout_s: expected less than window_s ({self.window_s:g}), found {self.camera_timeout_s:g}"
            )
        if self.watchdog.stall_s <= self.window_s:
            raise ValueError(
                f"watchdog.stall_s: expected more than window_s ({self.window_s:g}), found {self.watchdog.stall_s:g}"
            )
        if isinstance(self.trigger, HttpTrigger) and self.http is None:
            raise ValueError("trigger: an HTTP trigger needs [http] with a port")
        if isinstance(self.trigger, HttpTrigger) and self.http is not None:
            without = self.http.allow_without_token
            require_token("http: POST /trigger", self.http.token_file, allowed_without=without)
        return self


def read_settings(path: str | Path) -> StationSettings:
    """Read ``station.toml``.

    Raises:
        InputError: missing, not TOML, an unknown key, or a value outside its range; names the key, what was found and
            what was expected.
    """
    path = Path(path)
    try:
        text = read_text(path, most_bytes=MOST_SETTINGS_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: expected a station's settings in TOML, found a file that cannot be read ({error}). "
            "Start from: gonogo station example"
        ) from error
    return parse_settings(text, name=str(path), folder=path.parent)


def parse_settings(text: str, *, name: str = "station.toml", folder: Path = Path()) -> StationSettings:
    """Settings out of TOML text; see `read_settings`."""
    try:
        # By way of JSON: strict reading then takes a path or a pair from the text or list that stands for it.
        found = StationSettings.model_validate_json(json.dumps(parse_toml(text), default=str))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name}: expected TOML ({error}). Correct the line.") from error
    except ValidationError as error:
        raise InputError(f"{name}: {_first(error)}. Correct the settings.") from error
    return cast("StationSettings", _anchored(found, folder.resolve()))


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(each) for each in first["loc"] if each not in _KINDS) or "the settings"
    shown = first["input"]
    found = "" if isinstance(shown, dict | list | tuple) or first["type"] == "missing" else f", found {shown!r}"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}{found}"


_KINDS = frozenset(
    ("folder", "timer", "http", "stdin", "stdout", "file", "push", "video_file", "rtsp", "v4l2", "genicam", "fake")
)


def _anchored(model: Any, folder: Path) -> Any:
    """Every relative path in the settings, from their folder on."""
    changed: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Path):
            changed[name] = folder / value
        elif isinstance(value, Strict):
            changed[name] = _anchored(value, folder)
        elif isinstance(value, tuple) and value and isinstance(value[0], Strict):
            changed[name] = tuple(_anchored(each, folder) for each in value)
    return model.model_copy(update=changed)


EXAMPLE = """\
# One inspection position. Paths are counted from this file's folder.
station = "chip-line-1"
bundle = "chip.inspector"          # a bundle, a link to one, or a text file with its path; watched while running
ledger = "chip-line-1.ledger"      # the record; its frames lie beside it
state_dir = "state"                # status.json, metrics.prom, copies of the bundles in use
# bundle_sha256 = "..."            # the only bundle that may judge here
window_s = 1.5                     # a part that is not answered by then is a fault
camera_timeout_s = 0.8
queue = 8                          # parts that may wait; one more is a fault
min_free_mb = 500                  # with less disk left, every part is a fault

[[views]]                          # one for each camera; the worst view decides
name = "top"

[views.camera]                     # folder, push, video_file, rtsp, v4l2, genicam or fake
kind = "folder"
folder = "incoming"

[views.health]                     # gonogo station limits PHOTOS measures these on good pictures
frozen = true
darkest = 40.0
saturated = 0.25
sharpness = 0.1
# size_wh = [640, 480]

[trigger]                          # folder, timer, http or stdin
kind = "folder"
folder = "incoming"

[answer]                           # stdout, file or http
kind = "stdout"

[http]                             # GET /status, /metrics, /health; POST /trigger
port = 8791
# token_file = "station.token"       # needed where [trigger] is http

[watchdog]
restarts = 5
within_s = 60.0
stall_s = 5.0

# [challenge]                      # known bad parts that must be rejected
# every_s = 3600.0
# grace_s = 600.0
# parts = ["CHALLENGE-*"]          # real ones, known by their names
# pictures = "challenge"           # or pictures of them
# must_be = ["no_go"]
"""
"""What ``gonogo station example`` prints."""
