"""What a bundle's graph is made of, and what OpenVINO made of it on this machine: fused, removed, in INT8, how long.

An operation of the graph (as stored in ``classifier.xml``) ends in one of three ways. It is *executed* as a layer of
its own, *fused* into another layer, or *gone*: folded into constants, absorbed by a neighbour, or without effect.
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
from gonogo.progress import track

_PLACES = {"Constant", "Parameter", "Result", "Const", "Input", "Output"}
"""What holds or hands over numbers rather than computing them, in the graph's words and in the runtime's."""
_HEAVY = {"Convolution", "FullyConnected", "MatMul", "Deconvolution"}
_RENAMED = re.compile(r"(_original|_\d)+$")
"""What OpenVINO appends to the name of an operation that it rewrites."""


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What became of the operations of one kind."""

    kind: str
    stored: int
    """In ``classifier.xml``."""
    executed: int
    fused: int
    gone: int


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Executed layers of one kind and one arithmetic."""

    kind: str
    """In OpenVINO's words; a ``Subgraph`` is several small operations compiled into one, a ``Reorder`` changes the
    layout or arithmetic of numbers between two layers."""
    precision: str
    """What goes in: ``u8`` and ``i8`` are INT8 arithmetic."""
    count: int
    time_us: float | None = None
    """Of all of them together, the median over the runs; ``None`` where nothing was timed."""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A bundle's graph on disk and compiled."""

    bundle_sha256: str
    xml_bytes: int
    bin_bytes: int
    fates: tuple[Fate, ...]
    """The most frequent kind first."""
    layers: tuple[Layers, ...]
    """The slowest first where they were timed, else the most frequent."""
    run_us: float | None = None
    """Median duration of a whole run, as the caller sees it."""

    @property
    def stored(self) -> int:
        """Operations in ``classifier.xml``."""
        return sum(fate.stored for fate in self.fates)

    @property
    def executed(self) -> int:
        """Layers of the compiled graph."""
        return sum(each.count for each in self.layers)

    @property
    def heavy(self) -> int:
        """Convolutions and matrix products among them: where nearly all arithmetic is."""
        return sum(each.count for each in self.layers if each.kind in _HEAVY)

    @property
    def heavy_int8(self) -> int:
        """Those that compute in INT8."""
        return sum(each.count for each in self.layers if each.kind in _HEAVY and each.precision in ("u8", "i8"))

    def to_json(self) -> dict[str, Any]:
        """Every field and figure."""
        figures = {name: getattr(self, name) for name in ("stored", "executed", "heavy", "heavy_int8")}
        return {**asdict(self), **figures}


def dissect(opened: Bundle, *, runs: int = 0) -> Anatomy:
    """Compile a bundle's graph as an inspector does and look inside.

    Args:
        opened: The bundle.
        runs: Time the layers over so many runs on grey noise; none where 0. Timing itself takes a little time.
    """
    machine = settings()
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": opened.manifest.precision,
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": runs > 0,
    }
    if machine.threads:
        options["INFERENCE_NUM_THREADS"] = machine.threads
    core = ov.Core()
    stored = core.read_model(opened.classifier)
    compiled = core.compile_model(stored, machine.device, options)
    executed = [
        node for node in compiled.get_runtime_model().get_ordered_ops() if _fact(node, "layerType") not in _PLACES
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
    taken = {_RENAMED.sub("", name) for node in executed for name in _fact(node, "originalLayersNames").split(",")}
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for node in stored.get_ordered_ops():
        kind, name = node.get_type_name(), _RENAMED.sub("", node.get_friendly_name())
        if kind not in _PLACES:
            counts[kind]["executed" if name in own else "fused" if name in taken else "gone"] += 1
    fates = (
        Fate(kind=kind, stored=each.total(), executed=each["executed"], fused=each["fused"], gone=each["gone"])
        for kind, each in counts.items()
    )
    return tuple(sorted(fates, key=lambda fate: (-fate.stored, fate.kind)))


def _layers(executed: list[ov.Node], times_us: Mapping[str, float], *, timed: bool) -> tuple[Layers, ...]:
    groups: defaultdict[tuple[str, str], list[ov.Node]] = defaultdict(list)
    for node in executed:
        groups[_fact(node, "layerType"), _fact(node, "runtimePrecision")].append(node)
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
    """Median time of each layer by its name, and of a whole run, in microseconds."""
    picture = np.random.default_rng(0).integers(0, 256, tuple(compiled.inputs[0].shape), dtype=np.uint8)
    request = compiled.create_infer_request()
    request.infer({0: picture})  # the first run also lays out memory
    layers: defaultdict[str, list[float]] = defaultdict(list)
    whole = []
    for _ in track(range(runs), "timing layers"):
        start = time.perf_counter()
        request.infer({0: picture})
        whole.append((time.perf_counter() - start) * 1e6)
        for info in request.get_profiling_info():
            layers[info.node_name].append(info.real_time.total_seconds() * 1e6)
    return {name: float(np.median(times)) for name, times in layers.items()}, float(np.median(whole))


def _fact(node: ov.Node, name: str) -> str:
    facts = node.get_rt_info()
    return str(facts[name].value) if name in facts else ""
