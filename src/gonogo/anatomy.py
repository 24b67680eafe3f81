"""The operations of a bundle's graph, and how OpenVINO executes them on this machine.

Each operation stored in ``classifier.xml`` is either *executed* as a separate layer, *fused* into another layer, or
*gone*: folded into constants, absorbed by a neighbour, or without effect.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import openvino as ov

from gonogo.bundle import Bundle
from gonogo.config import settings
from gonogo.devices import device_name, missing, options_of
from gonogo.errors import BundleError
from gonogo.progress import track

_PASSIVE = {"Constant", "Parameter", "Result", "Const", "Input", "Output"}
"""Operations that store or pass values without computing anything, by their names in the graph and in the runtime."""
_HEAVY = {"Convolution", "FullyConnected", "MatMul", "Deconvolution"}
_RENAMED = re.compile(r"(_original|_\d)+$")
"""Suffix that OpenVINO appends to the name of an operation that it rewrites."""


@dataclass(frozen=True, kw_only=True)
class Fate:
    """How the operations of one kind are executed."""

    kind: str
    stored: int
    """Number of operations in ``classifier.xml``."""
    executed: int
    fused: int
    gone: int


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Executed layers of one kind and one precision."""

    kind: str
    """OpenVINO's layer type. A ``Subgraph`` is several small operations compiled into one; a ``Reorder`` changes the
    memory layout or the precision between two layers."""
    precision: str
    """Precision of the input; ``u8`` and ``i8`` are INT8 arithmetic."""
    count: int
    time_us: float | None = None
    """Median time of all these layers together, in microseconds; ``None`` if nothing was timed."""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A bundle's graph on disk and compiled."""

    bundle_sha256: str
    xml_bytes: int
    bin_bytes: int
    fates: tuple[Fate, ...]
    """Most frequent kind first."""
    layers: tuple[Layers, ...]
    """Slowest first if they were timed, otherwise most frequent first."""
    run_us: float | None = None
    """Median duration of a whole inference, in microseconds."""

    @property
    def stored(self) -> int:
        """Number of operations in ``classifier.xml``."""
        return sum(fate.stored for fate in self.fates)

    @property
    def executed(self) -> int:
        """Number of layers of the compiled graph."""
        return sum(each.count for each in self.layers)

    @property
    def heavy(self) -> int:
        """Number of convolutions and matrix products, which do nearly all of the arithmetic."""
        return sum(each.count for each in self.layers if each.kind in _HEAVY)

    @property
    def heavy_int8(self) -> int:
        """Number of convolutions and matrix products in INT8."""
        return sum(each.count for each in self.layers if each.kind in _HEAVY and each.precision in ("u8", "i8"))

    def to_json(self) -> dict[str, Any]:
        """All fields and properties, ready for ``json.dumps``."""
        figures = {name: getattr(self, name) for name in ("stored", "executed", "heavy", "heavy_int8")}
        return {**asdict(self), **figures}


def dissect(opened: Bundle, *, runs: int = 0) -> Anatomy:
    """Compile a bundle's graph as an inspector does, and list its layers.

    Args:
        opened: The bundle.
        runs: Number of timed inferences on random noise; 0 times nothing. Profiling slows each run down slightly.

    Raises:
        BundleError: OpenVINO cannot compile the graph on the device of this machine's settings.
        InputError: There is no device of that name.
    """
    machine = settings()
    device = device_name(machine.device)
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": runs > 0,
        **options_of(device, precision=opened.manifest.precision, threads=machine.threads),
    }
    core = ov.Core()
    stored = core.read_model(opened.classifier)
    try:
        compiled = core.compile_model(stored, device, options)
    except RuntimeError as error:
        why = missing(device) or str(error).strip().splitlines()[-1]
        raise BundleError(f"{opened.root}: OpenVINO cannot compile its graph on {device}: {why}.") from error
    executed = [
        node for node in compiled.get_runtime_model().get_ordered_ops() if _rt_info(node, "layerType") not in _PASSIVE
    ]
    times_us, run_us = _time(compiled, runs) if runs else ({}, None)
    return Anatomy(
        bundle_sha256=opened.sha256,
        xml_bytes=opened.classifier.stat().st_size,
        bin_bytes=opened.classifier.with_suffix(".bin").stat().st_size,
        fates=_fates(stored, executed),
        layers=_layers(executed, times_us, timed=runs > 0),
        run_us=run_us,
    )


def _fates(stored: ov.Model, executed: list[ov.Node]) -> tuple[Fate, ...]:
    own = {_RENAMED.sub("", node.get_friendly_name()) for node in executed}
    taken = {_RENAMED.sub("", name) for node in executed for name in _rt_info(node, "originalLayersNames").split(",")}
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for node in stored.get_ordered_ops():
        kind, name = node.get_type_name(), _RENAMED.sub("", node.get_friendly_name())
        if kind not in _PASSIVE:
            counts[kind]["executed" if name in own else "fused" if name in taken else "gone"] += 1
    fates = (
        Fate(kind=kind, stored=each.total(), executed=each["executed"], fused=each["fused"], gone=each["gone"])
        for kind, each in counts.items()
    )
    return tuple(sorted(fates, key=lambda fate: (-fate.stored, fate.kind)))


def _layers(executed: list[ov.Node], times_us: Mapping[str, float], *, timed: bool) -> tuple[Layers, ...]:
    groups: defaultdict[tuple[str, str], list[ov.Node]] = defaultdict(list)
    for node in executed:
        groups[_rt_info(node, "layerType"), _rt_info(node, "runtimePrecision")].append(node)
    layers = (
        Layers(
            kind=kind,
            precision=precision,
            count=len(nodes),
            time_us=sum(times_us.get(node.get_friendly_name(), 0.0) for node in nodes) if timed else None,
        )
        for (kind, precision), nodes in groups.items()
    )
    return tuple(sorted(layers, key=lambda each: (-(each.time_us or 0.0), -each.count, each.kind)))


def _time(compiled: ov.CompiledModel, runs: int) -> tuple[dict[str, float], float]:
    """Median time of each layer by name, and of a whole inference, in microseconds."""
    picture = np.random.default_rng(0).integers(0, 256, tuple(compiled.inputs[0].shape), dtype=np.uint8)
    request = compiled.create_infer_request()
    request.infer({0: picture})  # the first run also allocates memory
    layers: defaultdict[str, list[float]] = defaultdict(list)
    whole = []
    for _ in track(range(runs), "timing layers"):
        start = time.perf_counter()
        request.infer({0: picture})
        whole.append((time.perf_counter() - start) * 1e6)
        for info in request.get_profiling_info():
            layers[info.node_name].append(info.real_time.total_seconds() * 1e6)
    return {name: float(np.median(times)) for name, times in layers.items()}, float(np.median(whole))


def _rt_info(node: ov.Node, name: str) -> str:
    facts = node.get_rt_info()
    return str(facts[name].value) if name in facts else ""
