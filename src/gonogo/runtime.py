"""Compile a graph for one device at the precision it was proven in, and run it."""

from __future__ import annotations

import hashlib
import os
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from gonogo.array_types import UInt8
from gonogo.compiled import Binding, CompiledCache
from gonogo.errors import BundleError
from gonogo.openvino_import import ov

Precision = Literal["f32", "bf16"]
"""What the arithmetic is done in; an INT8 graph runs its quantized layers in INT8 and the rest in this."""

Picture = UInt8[np.ndarray, "_height _width 3"]

_streamed: deque[ov.CompiledModel] = deque(maxlen=2)
"""Kept a little longer than they are used: OpenVINO ends the process where one of its threads, still on its way out of
the last request, is the one to let go of a graph ("Resource deadlock avoided": a thread that waits for itself)."""

# One thread pool: OpenCV's would fight OpenVINO's for the same cores.
cv2.setNumThreads(1)


class Graph:
    """A compiled graph: one uint8 picture in, named arrays out."""

    def __init__(self, compiled: ov.CompiledModel, *, kept: bool = False) -> None:
        self.kept = kept
        """Whether it was compiled at an earlier start."""
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._names = [output.any_name for output in compiled.outputs]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Batch, height, width and channels of what goes in."""
        return tuple(self._compiled.inputs[0].shape)

    def __call__(self, picture: Picture) -> dict[str, np.ndarray]:
        """Judge one picture, height x width x 3; the arrays returned are the caller's own."""
        self._request.infer({0: ov.Tensor(picture[None], shared_memory=True)})
        return {name: self._request.get_output_tensor(i).data.copy() for i, name in enumerate(self._names)}

    def stream(self, pictures: Iterable[Picture]) -> Iterator[dict[str, np.ndarray]]:
        """Judge many pictures with several requests in flight; results come in order."""
        done: dict[int, dict[str, np.ndarray]] = {}
        _streamed.append(self._compiled)
        queue = ov.AsyncInferQueue(self._compiled)

        def keep(request: ov.InferRequest, index: int) -> None:
            done[index] = {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(self._names)}

        queue.set_callback(keep)
        following = 0
        for index, picture in enumerate(pictures):
            queue.start_async({0: picture[None]}, index)
            while following in done:
                yield done.pop(following)
                following += 1
        queue.wait_all()
        while following in done:
            yield done.pop(following)
            following += 1


def compile_graph(
    model: ov.Model | Path | tuple[bytes, bytes],
    *,
    device: str = "CPU",
    precision: Precision = "f32",
    threads: int = 0,
    many: bool = False,
) -> Graph:
    """Compile a graph.

    The precision is always set: left alone, OpenVINO runs FP32 graphs in BF16 on CPUs that can.

    Args:
        model: A graph, the path of its ``.xml``, or the bytes of its ``.xml`` and ``.bin``.
        device: OpenVINO device name.
        precision: What the bundle's thresholds were proven in.
        threads: Inference threads; 0 leaves it to OpenVINO.
        many: Optimise for many pictures in flight rather than for the delay of one.

    Raises:
        BundleError: OpenVINO cannot read or compile the graph on this device.
    """
    return Graph(_compile(model, device, _options(precision, threads, many=many)))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a sealed graph comes from, and where it is kept once it is compiled."""

    name: str
    """The path of its ``.xml``; names it in the cache, too."""
    bundle_sha256: str
    sealed: Callable[[], tuple[bytes, bytes]]
    """Gives the bytes of its ``.xml`` and ``.bin``, checked against the seal."""
    cache: CompiledCache | None = None
    """``None`` neither looks for a compiled graph nor keeps one."""


def open_graph(place: Place, *, device: str = "CPU", precision: Precision = "f32", threads: int = 0) -> Graph:
    """The graph of a bundle: the one kept from an earlier start, or compiled from the sealed bytes and kept.

    Args:
        place: Which graph of which bundle.
        device: OpenVINO device name.
        precision: What the bundle's thresholds were proven in.
        threads: Inference threads; 0 leaves it to OpenVINO. Not part of what is kept: one file serves any number.

    Raises:
        BundleError: OpenVINO cannot read or compile the graph on this device, or its files are not the sealed ones.
    """
    options = _options(precision, threads)
    binding = {
        "bundle": place.bundle_sha256,
        "graph": Path(place.name).name,
        "openvino": ov.get_version(),
        "processor": _processor(),
        "features": _processor_features(),
        "device": device,
        "precision": precision,
    }
    if place.cache is not None and (blob := place.cache.read(place.name, binding)) is not None:
        try:
            return Graph(ov.Core().import_model(blob, device, options), kept=True)
        except RuntimeError:  # made here and for this, yet OpenVINO will not have it: the sealed file decides
            place.cache.discard(place.name)
    compiled = _compile(place.sealed(), device, options, name=place.name)
    if place.cache is not None:
        _keep(compiled, place.cache, place.name, binding)
    return Graph(compiled)


def _keep(compiled: ov.CompiledModel, cache: CompiledCache, name: str, binding: Binding) -> None:
    try:
        blob = compiled.export_model().getvalue()
    except RuntimeError:  # a device that cannot export
        return
    cache.write(name, binding, blob)


def _options(precision: Precision, threads: int, *, many: bool = False) -> dict[str, Any]:
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "THROUGHPUT" if many else "LATENCY",
    }
    return options | ({"INFERENCE_NUM_THREADS": threads} if threads else {})


def _compile(
    model: ov.Model | Path | tuple[bytes, bytes], device: str, options: dict[str, Any], *, name: object = None
) -> ov.CompiledModel:
    core = ov.Core()
    try:
        if isinstance(model, tuple):
            model = core.read_model(*model)
        return core.compile_model(model, device, options)
    except RuntimeError as error:
        raise BundleError(f"OpenVINO cannot compile {name or model} on {device}: {_last_line(error)}") from error


def runtime_environment(*, device: str = "CPU", threads: int = 0) -> dict[str, str]:
    """What bit-equal results depend on: processor, OpenVINO build, device and thread count."""
    return {
        "processor": _processor(),
        "openvino": ov.get_version(),
        "device": device,
        "threads": str(threads or len(os.sched_getaffinity(0))),
    }


def _processor() -> str:
    return _cpuinfo("model name") or platform.machine()


def _processor_features() -> str:
    """The instruction sets: a virtual machine may show fewer under the same name after a move."""
    return hashlib.sha256(_cpuinfo("flags").encode()).hexdigest()


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]
