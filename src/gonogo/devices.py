"""The devices that OpenVINO sees on this machine: their names, what they can do, and which of them are there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gonogo.errors import InputError
from gonogo.names import readable
from gonogo.openvino_import import ov

CPU = "CPU"
KNOWN = (CPU, "GPU", "NPU")
"""Devices that OpenVINO has a plugin for, whether this machine has one or not."""
GROUPS = ("AUTO", "HETERO")
"""``AUTO`` chooses one device, ``HETERO`` divides the operations of a network among several."""
_MEMBER = re.compile(r"([A-Za-z]\w*)(\.\d+)*", re.ASCII)
_SPREADING = ("MULTI", "BATCH")
_LONGEST_SHOWN = 60


def own_cores() -> list[int]:
    """Return the numbers of the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device of this machine."""

    name: str
    """As in ``--device``, for example ``GPU.0``."""
    full_name: str
    capabilities: tuple[str, ...]
    """OpenVINO's optimisation capabilities, for example ``FP32`` and ``INT8``."""

    @property
    def default(self) -> bool:
        """Whether gonogo uses this device if none is named."""
        return self.name == CPU


@dataclass(frozen=True, kw_only=True)
class DeviceUse:
    """The device that an inspector runs on."""

    asked: str = CPU
    """The device that was asked for."""
    used: str = CPU
    """The device that reproduced the golden frames."""
    reason: str = ""
    """Why another device is used than the one that was asked for; empty if it is the same."""
    chosen: str = ""
    """The devices that ``AUTO`` or ``HETERO`` chose, as OpenVINO names them; empty for a single device."""

    @property
    def fell_back(self) -> bool:
        """Whether the inspector runs on another device than the one that was asked for."""
        return self.asked != self.used

    def __str__(self) -> str:
        if self.fell_back:
            return f"{self.used} instead of {self.asked}: {self.reason}"
        return f"{self.used} ({self.chosen})" if self.chosen else self.used


def available() -> tuple[str, ...]:
    """Return the names of the devices that OpenVINO sees, in its order."""
    return tuple(ov.Core().available_devices)


def find_devices() -> tuple[Device, ...]:
    """Return the devices that OpenVINO sees."""
    return tuple(
        Device(
            name=name,
            full_name=str(_property(name, "FULL_DEVICE_NAME", name)).strip(),
            capabilities=tuple(map(str, _property(name, "OPTIMIZATION_CAPABILITIES", ()))),
        )
        for name in available()
    )


def device_name(text: str) -> str:
    """Check a device name and return it as OpenVINO spells it; the device need not be there.

    Args:
        text: ``CPU``, ``GPU``, ``GPU.1``, ``NPU``, ``AUTO``, ``AUTO:GPU,CPU``, ``HETERO:GPU,CPU``, or another
            device that OpenVINO lists on this machine.

    Raises:
        InputError: there is no such device; the message lists those that exist.
    """
    group, colon, rest = text.strip().partition(":")
    group = group.strip().upper()
    if group in _SPREADING:
        raise InputError(
            f"device {group}: its requests alternate between devices, so golden frames cannot prove each of them. "
            "Name one device, or AUTO, or HETERO:FIRST,SECOND."
        )
    if group not in GROUPS:
        return _member(text.strip(), text)
    if not colon and group == "AUTO":
        return group
    members = [_member(each.strip(), text) for each in rest.split(",")]
    if len(set(members)) < len(members):
        raise _unknown(text, "every device once")
    if group == "AUTO" and len(members) == 1:
        return members[0]
    return f"{group}:{','.join(members)}"


def missing(name: str) -> str:
    """Say which devices of a checked name this machine lacks; empty if they are all there."""
    seen = available()
    absent = [each for each in members_of(name) if not _is_there(each, seen)]
    if not absent:
        return ""
    return f"OpenVINO does not see {' and '.join(absent)} here (it sees {', '.join(seen) or 'no device'})"


def is_group(name: str) -> bool:
    """Whether a checked name is ``AUTO`` or ``HETERO`` instead of a single device."""
    return name.partition(":")[0] in GROUPS


def members_of(name: str) -> tuple[str, ...]:
    """Return the single devices of a checked name; none for a bare ``AUTO``."""
    _, colon, rest = name.partition(":")
    return tuple(rest.split(",")) if colon else () if is_group(name) else (name,)


def arithmetic(name: str, precision: str) -> str:
    """Return the precision to compute in: that of the bundle, but FP16 on a device that has no FP32, such as an NPU.

    Args:
        name: A checked device name.
        precision: The bundle's precision, for example ``f32``.
    """
    able = () if name == CPU or is_group(name) else _property(name, "OPTIMIZATION_CAPABILITIES", ())
    return "f16" if "FP16" in able and "FP32" not in able else precision


def options_of(name: str, *, precision: str, threads: int) -> dict[str, Any]:
    """Return OpenVINO's options for a checked device name.

    ``AUTO`` would start on the CPU and move to another device later, or answer from the CPU when that device fails: the
    golden frames would prove one device and another one would judge. Both are switched off.

    Args:
        name: A checked device name.
        precision: The bundle's precision.
        threads: Number of inference threads of the CPU; 0 lets OpenVINO choose.
    """
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": arithmetic(name, precision)}
    if name.partition(":")[0] == "AUTO":
        options |= {"ENABLE_STARTUP_FALLBACK": False, "ENABLE_RUNTIME_FALLBACK": False}
    if threads and name == CPU:
        options["INFERENCE_NUM_THREADS"] = threads
    return options


def hardware(name: str) -> Mapping[str, str]:
    """Return what a graph compiled for a checked device name depends on, besides the processor."""
    facts = ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE", "GPU_DRIVER_VERSION", "NPU_DRIVER_VERSION")
    return {
        f"{each} {fact}": str(_property(each, fact, "")) for each in members_of(name) for fact in facts if each != CPU
    }


def _member(text: str, whole: str) -> str:
    found = _MEMBER.fullmatch(text)
    if found is not None:
        seen = available() if text.upper().partition(".")[0] not in KNOWN else ()
        for name in (text, text.upper()):
            if name.partition(".")[0] in KNOWN or _is_there(name, seen):
                return name
    raise _unknown(whole, f"{', '.join(KNOWN)}, AUTO, AUTO:GPU,CPU or HETERO:GPU,CPU")


def _is_there(name: str, seen: tuple[str, ...]) -> bool:
    return any(each in (name, name.removesuffix(".0")) or each.startswith(f"{name}.") for each in seen)


def _unknown(text: str, expected: str) -> InputError:
    shown = readable(text)
    shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
    return InputError(
        f"device: expected {expected}, found {shown!r}. On this machine OpenVINO sees {', '.join(available())}; list "
        "what they can do with: gonogo devices"
    )


def _property(name: str, fact: str, otherwise: Any) -> Any:
    """Return a property of a device, or a substitute if its plugin or this device does not know it."""
    try:
        return ov.Core().get_property(name, fact)
    except RuntimeError:
        return otherwise
