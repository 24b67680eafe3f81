"""The form of a station: fields to TOML and back. What it writes is read by the classes that the command line uses."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tomli_w

from gonogo.capture import HealthLimits
from gonogo.files import parse_toml
from gonogo.server.language import N_, RefusedError
from gonogo.station.settings import StationSettings

Values = dict[str, str]
"""The fields of the form as text; an empty text is a field that was left out."""
TOKEN_FILE = "station.token"
USUAL_STALL_S = 5.0

_NUMBERS: Mapping[str, type[int] | type[float]] = {
    "window_s": float,
    "camera_timeout_s": float,
    "queue": int,
    "min_free_mb": int,
    "darkest": float,
    "saturated": float,
    "sharpness": float,
    "contrast": float,
    "every_s": float,
    "http_port": int,
    "push_port": int,
    "width": int,
    "height": int,
}
_HEALTH = ("darkest", "saturated", "sharpness", "contrast")
_TOP = ("window_s", "camera_timeout_s", "queue", "min_free_mb")
CAMERA_KINDS = {
    "folder": N_("A folder that another program writes pictures into"),
    "rtsp": N_("A network camera (RTSP)"),
    "v4l2": N_("A camera on this computer (USB, Video4Linux)"),
    "genicam": N_("An industrial camera (GigE or USB3 Vision)"),
    "push": N_("A program that sends pictures over HTTP"),
    "video_file": N_("A video file"),
    "fake": N_("For trials: pictures of a folder, again and again"),
}
TRIGGER_KINDS = {
    "folder": N_("A new picture in a folder"),
    "timer": N_("A clock: at regular intervals"),
    "http": N_("A request over HTTP; its response is the verdict"),
    "none": N_("The line, through an adapter (see further settings)"),
}
ANSWER_KINDS = {
    "none": N_("To the program or PLC that sent the trigger"),
    "file": N_("A file, one line for each part"),
    "http": N_("A program, over HTTP"),
}
PIXEL_FORMATS = ("Mono8", "Mono12", "Mono16", "RGB8", "BGR8", "BayerRG8", "BayerBG8", "BayerGR8", "BayerGB8")

EXAMPLES: Mapping[str, str] = {
    "tcp": """\
[[adapters]]
kind = "tcp"                 # the PLC connects to this port: a line for each part
host = "0.0.0.0"
port = 9100
token_file = "station.token" # its first line; without: allow_without_token = true
""",
    "tcp_client": """\
[[adapters]]
kind = "tcp_client"          # the PLC listens
host = "192.168.0.10"
port = 9100
""",
    "modbus_server": """\
[[adapters]]
kind = "modbus_server"       # the PLC connects
host = "0.0.0.0"
port = 502
allow = ["192.168.0.10"]
""",
    "modbus_client": """\
[[adapters]]
kind = "modbus_client"       # the PLC is the server
host = "192.168.0.10"
port = 502
""",
    "ethernet_ip": """\
[[adapters]]
kind = "ethernet_ip"         # a Logix controller: address and slot
path = "192.168.0.10/0"
""",
    "opcua_server": """\
[[adapters]]
kind = "opcua_server"        # machine vision as in OPC 40100-1
host = "0.0.0.0"
port = 4840
""",
    "opcua_client": """\
[[adapters]]
kind = "opcua_client"        # the tags of a PLC
url = "opc.tcp://192.168.0.10:4840"
allow_without_security = true
tags.trigger = 'ns=3;s="Vision"."Trigger"'
tags.ready = 'ns=3;s="Vision"."Ready"'
tags.valid = 'ns=3;s="Vision"."Valid"'
tags.verdict = 'ns=3;s="Vision"."Verdict"'
""",
    "mqtt": """\
[[adapters]]
kind = "mqtt"
host = "127.0.0.1"
allow_without_password = true
""",
    "reject": """\
[reject]                     # follow each part to the gate
track = "encoder"
distance = 4000              # camera to gate, in counts
tolerance = 60
confirm_within_s = 1.0
""",
    "challenge": """\
[challenge]                  # regular tests with known bad parts
every_s = 3600.0
parts = ["CHALLENGE-*"]
""",
}
"""Further settings to start from, by what they are for."""


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What the workspace decides, and no field."""

    name: str
    ledger: str
    """Path of the workspace's ledger from the station's folder."""
    bundles: str
    """Path of the workspace from there; bundles and ``active`` are named by it."""


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A file as the form shows it."""

    values: Values
    reason: str = ""
    """Why the form cannot save this file without losing something, marked for translation; empty if it can."""
    detail: str = ""
    """What would be lost."""


def usual_values(name: str = "") -> Values:
    """Return the fields of a new station."""
    settings, health = StationSettings.model_fields, HealthLimits.model_fields
    usual = {key: settings[key].default for key in _TOP} | {key: health[key].default for key in _HEALTH}
    return {
        "name": name,
        "bundle": "active",
        "camera_name": "main",
        "camera_kind": "folder",
        "camera_folder": "incoming",
        "pixel_format": "Mono8",
        "frozen": "yes",
        "trigger_kind": "folder",
        "trigger_folder": "incoming",
        "every_s": "2",
        "answer_kind": "file",
        "answer_file": "answers.jsonl",
        "more": "",
        **{key: f"{value:g}" for key, value in usual.items()},
    }


def to_content(values: Values, fixed: Fixed) -> dict[str, Any]:
    """Return the content of ``station.toml``.

    Raises:
        RefusedError: a number is none, or the further settings are not TOML or name a key of the form.
    """
    number = _reader(values)
    window_s = number("window_s")
    content: dict[str, Any] = {
        "station": fixed.name,
        "bundle": _bundle_path(values.get("bundle", "active"), fixed),
        "ledger": fixed.ledger,
        "state_dir": "state",
        **_given({key: number(key) for key in _TOP}),
        "cameras": [
            {
                "name": values.get("camera_name") or "main",
                "camera": _camera(values, number),
                "health": {"frozen": values.get("frozen") == "yes"} | _given({key: number(key) for key in _HEALTH}),
            }
        ],
    }
    content |= _exchange(values, number)
    if window_s is not None and window_s >= USUAL_STALL_S:  # a worker may be silent for as long as a part may take
        content["watchdog"] = {"stall_s": 2 * window_s}
    return _with_more(content, values.get("more", ""))


def _exchange(values: Values, number: Callable[[str], Any]) -> dict[str, Any]:
    """Triggers, answers and the port."""
    content: dict[str, Any] = {}
    kind = values.get("trigger_kind", "folder")
    if kind == "folder":
        content["trigger"] = {"kind": kind, "folder": values.get("trigger_folder", "")}
    elif kind == "timer":
        content["trigger"] = {"kind": kind, "every_s": number("every_s")}
    elif kind == "http":
        content["trigger"] = {"kind": kind}
    kind = values.get("answer_kind", "none")
    if kind == "file":
        content["answer"] = {"kind": kind, "file": values.get("answer_file", "")}
    elif kind == "http":
        content["answer"] = {"kind": kind, "url": values.get("answer_url", "")}
    port = number("http_port")
    if port is not None:
        content["http"] = {"port": port, "token_file": TOKEN_FILE}
    return content


def _camera(values: Values, number: Callable[[str], Any]) -> dict[str, Any]:
    kind = values.get("camera_kind", "folder")
    camera: dict[str, Any] = {"kind": kind}
    if kind == "folder":
        camera |= {"folder": values.get("camera_folder", "")} | ({"keep": True} if values.get("keep") else {})
    elif kind == "fake":
        camera["pictures"] = values.get("camera_folder", "")
    elif kind == "video_file":
        camera |= {"file": values.get("video_file", "")} | ({"loop": True} if values.get("loop") else {})
    elif kind == "rtsp":
        camera["url"] = values.get("rtsp_url", "")
    elif kind == "v4l2":
        camera["device"] = values.get("device_file", "")
        if number("width") is not None or number("height") is not None:
            camera["size_wh"] = [number("width"), number("height")]
    elif kind == "genicam":
        camera |= {"name": values["genicam_name"]} if values.get("genicam_name") else {}
        camera["pixel_format"] = values.get("pixel_format", "Mono8")
    elif kind == "push":
        camera |= {"port": number("push_port"), "token_file": TOKEN_FILE}
    return camera


def _with_more(content: dict[str, Any], text: str) -> dict[str, Any]:
    try:
        more = parse_toml(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise RefusedError(N_("The further settings are not TOML: %(why)s."), why=str(error)) from error
    doubled = sorted(set(more) & (set(content) | {"cameras", "trigger", "answer", "http"}))
    if doubled:
        raise RefusedError(N_("Set %(keys)s in the form, not in the further settings."), keys=", ".join(doubled))
    return content | more


def from_content(content: Mapping[str, Any], text: str, fixed: Fixed) -> Filled:
    """Return the fields of a file, and why the form could not write the same file again.

    Args:
        content: The parsed file.
        text: The file.
        fixed: What the workspace decides.
    """
    values = _values(content, fixed)
    rest = {key: value for key, value in content.items() if key not in _OWN}
    if "watchdog" in rest and rest["watchdog"] == _watchdog(content):
        del rest["watchdog"]
    values["more"] = tomli_w.dumps(rest) if rest else ""
    try:
        again = to_content(values, fixed)
    except RefusedError:
        again = {}
    if again != content:
        differing = [key for key in {**content, **again} if content.get(key) != again.get(key)]
        reason = N_("The form has no fields for some of its settings: %(detail)s. Edit the file instead.")
        return Filled(values=values, reason=reason, detail=", ".join(differing))
    if "#" in text and text != tomli_w.dumps(content):
        reason = N_("It was written by hand and has comments, which the form would lose. Edit the file instead.")
        return Filled(values=values, reason=reason)
    return Filled(values=values)


_OWN = frozenset(
    ("station", "bundle", "ledger", "state_dir", "cameras", "trigger", "answer", "http", *_TOP)
)  # the keys of the form


def _watchdog(content: Mapping[str, Any]) -> dict[str, Any] | None:
    window_s = content.get("window_s")
    long = isinstance(window_s, int | float) and window_s >= USUAL_STALL_S
    return {"stall_s": 2 * float(window_s)} if long and window_s is not None else None


def _values(content: Mapping[str, Any], fixed: Fixed) -> Values:
    """The fields, as far as the file has them."""
    cameras = content.get("cameras")
    first = cameras[0] if isinstance(cameras, list) and cameras and isinstance(cameras[0], dict) else {}
    camera, health, trigger, answer, http = (
        found if isinstance(found, dict) else {}
        for found in (
            first.get("camera"),
            first.get("health"),
            content.get("trigger"),
            content.get("answer"),
            content.get("http"),
        )
    )
    size_wh = camera.get("size_wh") or ("", "")
    kind = str(camera.get("kind", "folder"))
    found: dict[str, Any] = {
        "name": fixed.name,
        "bundle": _bundle_name(str(content.get("bundle", "")), fixed),
        **{key: content.get(key) for key in _TOP},
        "camera_name": first.get("name", "main"),
        "camera_kind": kind,
        "camera_folder": camera.get("pictures" if kind == "fake" else "folder"),
        "keep": "yes" if camera.get("keep") else "",
        "video_file": camera.get("file"),
        "loop": "yes" if camera.get("loop") else "",
        "rtsp_url": camera.get("url"),
        "device_file": camera.get("device"),
        "width": size_wh[0],
        "height": size_wh[-1],
        "genicam_name": camera.get("name"),
        "pixel_format": camera.get("pixel_format", "Mono8"),
        "push_port": camera.get("port"),
        "frozen": "yes" if health.get("frozen", True) else "",
        **{key: health.get(key) for key in _HEALTH},
        "trigger_kind": trigger.get("kind", "none"),
        "trigger_folder": trigger.get("folder"),
        "every_s": trigger.get("every_s"),
        "answer_kind": answer.get("kind", "none"),
        "answer_file": answer.get("file"),
        "answer_url": answer.get("url"),
        "http_port": http.get("port"),
    }
    return {key: "" if value is None else _text(value) for key, value in found.items()}


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _bundle_path(name: str, fixed: Fixed) -> str:
    return f"{fixed.bundles}/active" if name == "active" else f"{fixed.bundles}/bundles/{name}"


def _bundle_name(path: str, fixed: Fixed) -> str:
    return path.removeprefix(f"{fixed.bundles}/").removeprefix("bundles/")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _reader(values: Values) -> Callable[[str], Any]:
    """A function that reads a number; ``None`` for an empty field."""

    def read(key: str) -> int | float | None:
        text = values.get(key, "").strip().replace(",", ".")
        if not text:
            return None
        try:
            return _NUMBERS[key](text)
        except ValueError:
            raise RefusedError(
                N_("%(field)s: expected a number, found %(found)s."), field=key, found=text[:40]
            ) from None

    return read
