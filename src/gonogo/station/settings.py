"""``station.toml``: the settings of one inspection station, strictly validated."""

from __future__ import annotations

import hashlib
import json
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import Field, ValidationError, field_validator, model_validator

from gonogo.capture import CameraSettings, HealthLimits
from gonogo.capture.settings import Port, require_token
from gonogo.config import Strict
from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, parse_toml, read_text
from gonogo.line.settings import AdapterSettings
from gonogo.results.settings import KINDS, ResultSettings
from gonogo.signing import SignaturePolicy, machine_policy
from gonogo.station.tracking_settings import RejectSettings

Seconds: TypeAlias = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class StationCamera(Strict):
    """``[[cameras]]``: one camera that takes pictures of the part."""

    name: str = Field(default="main", pattern=r"^[A-Za-z0-9_-]{1,40}$")
    camera: CameraSettings
    health: HealthLimits = HealthLimits()
    bundle: Path | None = None
    """Bundle that judges this camera's pictures. Default: the station's bundle."""


class FolderTrigger(Strict):
    """Each picture that appears in a folder is a trigger; the file name is the part's name."""

    kind: Literal["folder"]
    folder: Path
    stable_s: float = Field(default=0.1, ge=0, le=10)
    poll_s: Seconds = 0.05


class TimerTrigger(Strict):
    """A trigger at regular intervals."""

    kind: Literal["timer"]
    every_s: Seconds


class HttpTrigger(Strict):
    """``POST /trigger`` on the station's own port; the response is the answer."""

    kind: Literal["http"]


class StdinTrigger(Strict):
    """Each line of standard input is a trigger: an id, or a JSON object with ``id`` and more; see `parse_trigger`."""

    kind: Literal["stdin"]


TriggerSettings: TypeAlias = Annotated[
    FolderTrigger | TimerTrigger | HttpTrigger | StdinTrigger, Field(discriminator="kind")
]


class StdoutAnswers(Strict):
    """One JSON object per line on standard output."""

    kind: Literal["stdout"]


class FileAnswers(Strict):
    """One JSON object per line, appended to a file."""

    kind: Literal["file"]
    file: Path


class HttpAnswers(Strict):
    """Each answer is posted as JSON; any response other than 2xx counts as not delivered."""

    kind: Literal["http"]
    url: str = Field(pattern="^https?://")
    token_file: Path | None = None
    timeout_s: Seconds = 1.0
    attempts: int = Field(default=3, ge=1, le=10)


AnswerSettings: TypeAlias = Annotated[StdoutAnswers | FileAnswers | HttpAnswers, Field(discriminator="kind")]


class HttpSettings(Strict):
    """``[http]``: the server for status, metrics and HTTP triggers."""

    host: str = "127.0.0.1"
    port: Port
    token_file: Path | None = None
    """File with the token that ``POST /trigger`` requires; metrics and status need no token."""
    allow_without_token: bool = False
    """Accept triggers from every program that can reach the port."""
    hosts: tuple[str, ...] = ()
    """Further host names of this machine, besides its addresses and its own name."""


class WatchdogSettings(Strict):
    """``[watchdog]``: when the worker is restarted."""

    restarts: int = Field(default=5, ge=1)
    """Largest number of restarts within ``within_s``. Beyond it, every part is a fault until a restart is older."""
    within_s: Seconds = 60.0
    stall_s: Seconds = 5.0
    """A busy worker that is silent for this long is killed."""
    start_s: Seconds = 60.0
    """A worker that is not ready after this time is killed."""
    heartbeat_s: Seconds = 1.0
    """Interval of the status, and of the work between parts."""


class ChallengeSettings(Strict):
    """``[challenge]``: regular tests with known bad parts that must be rejected."""

    every_s: Seconds = 3600.0
    grace_s: Seconds = 600.0
    """How long a test may be overdue before no part passes any more."""
    parts: tuple[str, ...] = ()
    """Part names of real challenge parts that people put on the line; ``*`` matches any characters."""
    pictures: Path | None = None
    """Folder with pictures of known bad parts. The station judges one of them whenever a test is due. This tests bundle
    and thresholds, but not the camera."""
    must_be: tuple[Literal["no_go", "review"], ...] = ("no_go",)
    """Verdicts that pass the test."""

    @model_validator(mode="after")
    def _has_something_to_test_with(self) -> ChallengeSettings:
        if not self.parts and self.pictures is None:
            raise ValueError("expected parts or pictures, found neither")
        if not self.must_be:
            raise ValueError("must_be: expected no_go, review or both, found neither")
        return self


class FleetSettings(Strict):
    """``[fleet]``: the bundles come from the release server. Signatures are then always required."""

    channel: str = Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")
    """The channel whose releases this station follows."""
    folder: Path | None = None
    """Folder with the releases, such as a mounted share."""
    url: str | None = Field(default=None, pattern="^https?://")
    """Address of that folder on a web server."""
    token_file: Path | None = None
    """File with the bearer token for ``url``."""
    every_s: Seconds = 30.0
    """Interval at which the release server is asked."""
    keep: int = Field(default=8, ge=1, le=1000)
    """Largest number of parts that wait for the silent judge; older ones are dropped and counted."""

    @model_validator(mode="after")
    def _has_one_source(self) -> FleetSettings:
        if (self.folder is None) == (self.url is None):
            raise ValueError("expected either folder or url")
        return self


class CentreSettings(Strict):
    """``[centre]``: where the ledger is forwarded to, by a process of its own."""

    url_file: Path
    """File with the centre's URL, ``postgresql://user:password@host/database``, which only this user may open."""
    frames: str | None = Field(default=None, pattern=r"^[a-z0-9+]+://[^@]+$")
    """Store for the frames: ``s3://bucket/folder`` or ``file:///folder``. Without, only rows are forwarded."""
    chain: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,60}$")
    """Name at the centre. Default: the station's name."""
    every_s: Seconds = 1.0
    """Interval between two looks for new rows."""
    alarm_after_s: Seconds = 600.0
    """Age of the oldest row that is not forwarded at which the station raises an alarm."""


ProductName: TypeAlias = Annotated[str, Field(pattern=r"^[^\W_]([\w .-]{0,58}\w)?$")]
"""Name of a product: it is also the name of a folder."""


class ExpirySettings(Strict):
    """``[expiry]``: what happens when the certificate of the bundle has expired."""

    after: Literal["warn", "review"] = "warn"
    """``warn``: an alarm. ``review``: also, no part passes without a person."""


class StationSettings(Strict):
    """The contents of ``station.toml``. Paths are relative to its folder."""

    station: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")
    bundle: Path | None = None
    """The bundle's folder, a link to it, or a text file with its path. A changed bundle is loaded automatically."""
    products: Mapping[ProductName, Path | Mapping[str, Path]] = Field(default_factory=dict, max_length=200)
    """``[products]``, instead of ``bundle``: the bundle of each product, or one bundle for each camera by its name."""
    memory_mb: int | None = Field(default=None, ge=1)
    """Memory budget of the worker with ``[products]``: beyond it, the bundles that were not needed for longest are
    unloaded. ``None`` keeps all of them loaded."""
    bundle_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """The only bundle that may judge; ``None`` accepts any that reproduces its golden frames."""
    require_signature: bool = False
    """Judge only with bundles that are signed with a key in the trust store."""
    trust_store: Path | None = None
    """File with the trusted keys. Default: that of the machine, see ``gonogo bundle keys``."""
    ledger: Path
    state_dir: Path
    """Folder for status, metrics, unrecorded faults and copies of the bundles in use."""
    device: str | None = None
    """Device to judge on, such as ``GPU``; ``None`` takes the one of ``GONOGO_DEVICE``, otherwise the CPU."""
    window_s: float = Field(default=1.5, gt=0, le=60)
    """Time limit for the answer, from the trigger on; a later answer is a fault."""
    camera_timeout_s: Seconds = 0.8
    queue: int = Field(default=8, ge=1, le=1000)
    """Largest number of waiting parts; a further part is a fault."""
    min_free_mb: int = Field(default=500, ge=0)
    """With less free disk space for the ledger, every part is a fault."""
    cameras: tuple[StationCamera, ...] = Field(min_length=1)
    trigger: TriggerSettings | None = None
    answer: AnswerSettings | None = None
    adapters: tuple[AdapterSettings, ...] = Field(default=(), max_length=20)
    """``[[adapters]]``: protocols that bring triggers and take their answers, beside ``[trigger]`` and ``[answer]``."""
    http: HttpSettings | None = None
    watchdog: WatchdogSettings = WatchdogSettings()
    challenge: ChallengeSettings | None = None
    fleet: FleetSettings | None = None
    centre: CentreSettings | None = None
    results: tuple[ResultSettings, ...] = Field(default=(), max_length=20)
    """``[[results]]``: where results are delivered to, by a process of its own."""
    expiry: ExpirySettings = ExpirySettings()
    reject: RejectSettings | None = None

    @field_validator("cameras", "results")
    @classmethod
    def _have_unique_names(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [each.name for each in value]
        if len(set(names)) < len(names):
            raise ValueError(f"expected a different name for each, found {', '.join(names)}")
        return value

    def on_device(self, device: str | None = None) -> StationSettings:
        """Return these settings with another device, if one is given."""
        return self if device is None else self.model_copy(update={"device": device})

    @property
    def only_bundle(self) -> Path:
        """The bundle of a station without ``[products]``."""
        assert self.bundle is not None, "settings without products have a bundle"
        return self.bundle

    def sources(self) -> dict[str | None, tuple[Path, ...]]:
        """Return the bundle of every camera for each product; ``None`` stands for the only product of a station."""
        if not self.products:
            return {None: tuple(each.bundle or self.only_bundle for each in self.cameras)}
        return {
            name: (places,) * len(self.cameras)
            if isinstance(places, Path)
            else tuple(places[each.name] for each in self.cameras)
            for name, places in self.products.items()
        }

    @model_validator(mode="after")
    def _has_a_bundle_or_products(self) -> StationSettings:
        if (self.bundle is None) != bool(self.products):
            raise ValueError(f"expected either bundle or [products], found {'both' if self.products else 'neither'}")
        if not self.products:
            if self.memory_mb is not None:
                raise ValueError("memory_mb: expected [products], found none: a single bundle is never unloaded")
            return self
        for key, given in {
            "bundle_sha256": self.bundle_sha256,
            "fleet": self.fleet,
            "cameras.bundle": next((each.bundle for each in self.cameras if each.bundle is not None), None),
        }.items():
            if given is not None:
                raise ValueError(f"{key}: expected none with [products], which names the bundles, found one")
        names = {each.name for each in self.cameras}
        for product, places in self.products.items():
            if not isinstance(places, Path) and set(places) != names:
                raise ValueError(
                    f"products.{product}: expected one bundle for each camera ({', '.join(sorted(names))}), "
                    f"found {', '.join(sorted(places)) or 'none'}"
                )
        return self

    @model_validator(mode="after")
    def _has_triggers_and_answers(self) -> StationSettings:
        names = [each.name for each in self.adapters]
        if len(set(names)) < len(names):
            raise ValueError(f"adapters: expected a different name for each, found {', '.join(names)}")
        if self.trigger is None and not self.adapters:
            raise ValueError("expected [trigger] or [[adapters]], found neither")
        if self.trigger is not None and self.answer is None and not isinstance(self.trigger, HttpTrigger):
            raise ValueError("expected [answer] for the answers to the triggers of [trigger], found none")
        return self

    @model_validator(mode="after")
    def _has_one_source_of_bundles(self) -> StationSettings:
        if self.fleet is not None and self.bundle_sha256 is not None:
            raise ValueError("fleet: expected no bundle_sha256, because the releases name the bundle, found both")
        if self.fleet is not None and any(each.bundle is not None for each in self.cameras):
            raise ValueError("fleet: expected one bundle for all cameras, found a camera with its own")
        return self

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
        if self.reject is not None:
            if self.http is None:
                raise ValueError("reject: the line reports its belt over HTTP: expected [http] with a port")
            require_token("http: POST /line", self.http.token_file, allowed_without=self.http.allow_without_token)
        return self


def cameras_digest(settings: StationSettings) -> str:
    """Return a SHA-256 over what decides how pictures are taken: it changes when a camera or its limits change."""
    text = json.dumps([each.model_dump(mode="json") for each in settings.cameras], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def signature_policy(settings: StationSettings) -> SignaturePolicy:
    """Return the signature policy of a station: required if the station, its fleet or the machine says so."""
    machine = machine_policy()
    return SignaturePolicy(
        required=settings.require_signature or settings.fleet is not None or machine.required,
        trust_store=settings.trust_store or machine.trust_store,
    )


def read_settings(path: str | Path) -> StationSettings:
    """Read ``station.toml``.

    Raises:
        InputError: the file is missing or not TOML, or has an unknown key or a value out of range; the message names
            the key, the found and the expected value.
    """
    path = Path(path)
    try:
        text = read_text(path, most_bytes=MOST_SETTINGS_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: expected the settings of a station in TOML, found a file that cannot be read ({error}). "
            "Print an example with: gonogo station example"
        ) from error
    return parse_settings(text, name=str(path), folder=path.parent)


def parse_settings(text: str, *, name: str = "station.toml", folder: Path = Path()) -> StationSettings:
    """Parse settings from TOML text; see `read_settings`."""
    try:
        content = _with_cameras(parse_toml(text), name)
        # Strict mode accepts strings for paths and lists for tuples only from JSON.
        found = StationSettings.model_validate_json(json.dumps(content, default=str))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name}: expected TOML ({error}). Correct the line.") from error
    except ValidationError as error:
        raise InputError(f"{name}: {_first(error)}. Correct the settings.") from error
    return cast("StationSettings", _anchored(found, folder.resolve()))


def _with_cameras(content: dict[str, Any], name: str) -> dict[str, Any]:
    """Accept the section ``views`` of version 0.1.0, now ``cameras``, with a warning.

    Raises:
        InputError: both sections are there.
    """
    if "views" not in content:
        return content
    advice = "Rename [[views]] to [[cameras]], [views.camera] to [cameras.camera], [views.health] to [cameras.health]."
    if "cameras" in content:
        raise InputError(f"{name}: expected [[cameras]], found [[views]] as well. {advice}")
    warnings.warn(f"{name}: [[views]] is now called [[cameras]]. {advice}", FutureWarning, stacklevel=3)
    return {key: value for key, value in content.items() if key != "views"} | {"cameras": content["views"]}


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(each) for each in first["loc"] if each not in _KINDS) or "the settings"
    shown = first["input"]
    found = "" if isinstance(shown, dict | list | tuple) or first["type"] == "missing" else f", found {shown!r}"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}{found}"


_KINDS = KINDS | frozenset(
    ("folder", "timer", "http", "stdin", "stdout", "file", "push", "video_file", "rtsp", "v4l2", "genicam", "fake")
)


def _anchored(model: Any, folder: Path) -> Any:
    """Resolve every relative path against the folder of the settings."""
    changed: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Path):
            changed[name] = folder / value
        elif isinstance(value, Strict):
            changed[name] = _anchored(value, folder)
        elif isinstance(value, tuple) and value and isinstance(value[0], Strict):
            changed[name] = tuple(_anchored(each, folder) for each in value)
        elif isinstance(value, Mapping):
            changed[name] = _paths_anchored(value, folder)
    return model.model_copy(update=changed)


def _paths_anchored(value: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return {
        key: _paths_anchored(each, folder) if isinstance(each, Mapping) else folder / each
        for key, each in value.items()
    }
