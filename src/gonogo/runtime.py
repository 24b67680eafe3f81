"""Compile a graph for one device, at the precision it was certified in, and run it."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from gonogo import devices
from gonogo.array_types import UInt8
from gonogo.compiled import Binding, CompiledCache
from gonogo.errors import BundleError
from gonogo.openvino_import import ov

Precision = Literal["f32", "bf16"]
"""Precision of the arithmetic; an INT8 graph runs its quantized layers in INT8 and the others in this precision."""

Picture = UInt8[np.ndarray, "_height _width 3"]
Cells = UInt8[np.ndarray, "_rows _columns"]

_streamed: deque[ov.CompiledModel] = deque(maxlen=2)
"""Graphs that are kept alive slightly longer than needed. If an OpenVINO thread that is still finishing the last
request drops the last reference to a graph, it joins itself and the process dies ("Resource deadlock avoided")."""

# OpenCV's thread pool would compete with OpenVINO's for the same cores.
cv2.setNumThreads(1)


class Graph:
    """A compiled graph: one uint8 picture in, named arrays out."""

    def __init__(self, compiled: ov.CompiledModel, core: ov.Core | None = None, *, kept: bool = False) -> None:
        self.kept = kept
        """Whether the graph came from the cache."""
        self._core = core
        """Kept alive: a graph divided among devices (``HETERO``) crashes the process without it."""
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._names = [output.any_name for output in compiled.outputs]

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that execute the graph, such as the one that ``AUTO`` chose."""
        return tuple(self._compiled.get_property("EXECUTION_DEVICES"))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Batch, height, width and channels of the input."""
        return tuple(self._compiled.inputs[0].shape)

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """OpenVINO element type and shape of each input, by name."""
        return {each.any_name: (each.element_type.to_string(), tuple(each.shape)) for each in self._compiled.inputs}

    @property
    def outputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """OpenVINO element type and shape of each output, by name, in the order of the graph; -1 if a size varies."""
        found = {}
        for output in self._compiled.outputs:
            shape = tuple(each.get_length() if each.is_static else -1 for each in output.partial_shape)
            found[output.any_name] = output.element_type.to_string(), shape
        return found

    def __call__(self, picture: Picture, cells: Cells | None = None) -> dict[str, np.ndarray]:
        """Run the graph on one picture, height x width x 3; the returned arrays are copies.

        Args:
            picture: The picture.
            cells: The zone of every cell, for a graph that judges windows of a part with zones.
        """
        fed = {0: ov.Tensor(picture[None], shared_memory=True)}
        self._request.infer(fed if cells is None else {**fed, 1: ov.Tensor(cells[None], shared_memory=True)})
        return {name: self._request.get_output_tensor(i).data.copy() for i, name in enumerate(self._names)}

    def stream(self, pictures: Iterable[Picture]) -> Iterator[dict[str, np.ndarray]]:
        """Run the graph on many pictures with several requests in flight; results are yielded in order."""
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


def difference(expected: npt.ArrayLike, found: npt.ArrayLike) -> float:
    """Return the largest difference of two results of a network: absolute, but relative where a value exceeds 1.

    Scores have no upper limit, and float32 holds seven digits.

    Returns:
        The difference; NaN if any value is NaN.
    """
    wanted = np.asarray(expected, np.float64)
    return float((np.abs(wanted - np.asarray(found)) / np.maximum(1.0, np.abs(wanted))).max(initial=0.0))


def compile_graph(
    model: ov.Model | Path | tuple[bytes, bytes],
    *,
    device: str = "CPU",
    precision: Precision = "f32",
    threads: int = 0,
    many: bool = False,
) -> Graph:
    """Compile a graph.

    The precision is always set explicitly: by default OpenVINO runs FP32 graphs in BF16 on CPUs that support it.

    Args:
        model: A graph, the path of its ``.xml``, or the bytes of its ``.xml`` and ``.bin``.
        device: Device name, as `gonogo.devices.device_name` returns it.
        precision: Precision in which the bundle's thresholds were certified.
        threads: Number of inference threads of the CPU; 0 lets OpenVINO choose.
        many: Optimise for throughput instead of latency.

    Raises:
        BundleError: OpenVINO cannot read or compile the graph on this device.
    """
    core = ov.Core()
    compiled = _compile(core, model, device, _options(device, precision, threads, many=many))
    with _explained(model, device):
        return Graph(compiled, core)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Source of a sealed graph, and the cache for its compiled form."""

    name: str
    """Path of the ``.xml``; with the device its key in the cache, see `cache_key`."""
    bundle_sha256: str
    sealed: Callable[[], tuple[bytes, bytes]]
    """Returns the bytes of the ``.xml`` and the ``.bin``, verified against the seal."""
    cache: CompiledCache | None = None
    """Cache to use; ``None`` disables caching."""


def open_graph(place: Place, *, device: str = "CPU", precision: Precision = "f32", threads: int = 0) -> Graph:
    """Open a graph of a bundle: from the cache, or compiled from the sealed bytes and then cached.

    Args:
        place: The graph.
        device: Device name, as `gonogo.devices.device_name` returns it.
        precision: Precision in which the bundle's thresholds were certified.
        threads: Number of inference threads of the CPU; 0 lets OpenVINO choose. A cached graph works with any number.

    Raises:
        BundleError: OpenVINO cannot read or compile the graph on this device, or its files do not match the seal.
    """
    options = _options(device, precision, threads)
    binding = {
        "bundle": place.bundle_sha256,
        "graph": Path(place.name).name,
        "openvino": ov.get_version(),
        "processor": _processor(),
        "features": _processor_features(),
        "device": device,
        "precision": precision,
        **devices.hardware(device),
    }
    core, key = ov.Core(), cache_key(place, device)
    cache = None if devices.is_group(device) else place.cache  # AUTO cannot export a graph
    if cache is not None and (blob := cache.read(key, binding)) is not None:
        try:
            return Graph(core.import_model(blob, device, options), core, kept=True)
        except RuntimeError:  # authentic, but OpenVINO rejects it: compile the sealed graph
            cache.discard(key)
    compiled = _compile(core, place.sealed(), device, options, name=place.name)
    if cache is not None:
        _keep(compiled, cache, key, binding)
    with _explained(place.name, device):
        return Graph(compiled, core)


def cache_key(place: Place, device: str) -> str:
    """Return the key of a graph in its cache: each device keeps a compiled graph of its own."""
    return place.name if device == devices.CPU else f"{place.name} on {device}"


def _keep(compiled: ov.CompiledModel, cache: CompiledCache, name: str, binding: Binding) -> None:
    try:
        blob = compiled.export_model().getvalue()
    except RuntimeError:  # the device cannot export compiled graphs
        return
    cache.write(name, binding, blob)


def _options(device: str, precision: Precision, threads: int, *, many: bool = False) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "THROUGHPUT" if many else "LATENCY",
        **devices.options_of(device, precision=precision, threads=threads),
    }


def _compile(
    core: ov.Core,
    model: ov.Model | Path | tuple[bytes, bytes],
    device: str,
    options: dict[str, Any],
    *,
    name: object = None,
) -> ov.CompiledModel:
    with _explained(name or model, device):
        if isinstance(model, tuple):
            model = core.read_model(*model)
        return core.compile_model(model, device, options)


@contextlib.contextmanager
def _explained(name: object, device: str) -> Iterator[None]:
    """Turn an error of OpenVINO into a `BundleError` that names the graph and the device."""
    try:
        yield
    except RuntimeError as error:
        raise BundleError(f"OpenVINO cannot compile {name} on {device}: {_last_line(error)}") from error


def runtime_environment(*, device: str = "CPU", threads: int = 0) -> dict[str, str]:
    """Return what bit-equal results depend on: processor, OpenVINO build, device and thread count."""
    return {
        "processor": _processor(),
        "openvino": ov.get_version(),
        "device": device,
        "threads": str(threads or len(devices.own_cores())),
    }


def _processor() -> str:
    return _cpuinfo("model name") or platform.machine()


def _processor_features() -> str:
    """Instruction sets; a virtual machine may report fewer under the same processor name after a migration."""
    return hashlib.sha256(_cpuinfo("flags").encode()).hexdigest()


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]
