"""Compile a graph for one device at the precision it was proven in, and run it."""

from __future__ import annotations

import os
import platform
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import UInt8

from gonogo.errors import BundleError
from gonogo.lean import ov

Precision = Literal["f32", "bf16"]
"""What the arithmetic is done in; an INT8 graph runs its quantised layers in INT8 and the rest in this."""

Picture = UInt8[np.ndarray, "height width 3"]

_streamed: deque[ov.CompiledModel] = deque(maxlen=2)
"""Kept a little longer than they are used: OpenVINO ends the process where one of its threads, still on its way out of
the last request, is the one to let go of a graph ("Resource deadlock avoided": a thread that waits for itself)."""

# One thread pool: OpenCV's would fight OpenVINO's for the same cores.
cv2.setNumThreads(1)


class Graph:
    """A compiled graph: one uint8 picture in, named arrays out."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
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
    model: ov.Model | Path,
    *,
    device: str = "CPU",
    precision: Precision = "f32",
    threads: int = 0,
    cache_dir: Path | None = None,
    many: bool = False,
) -> Graph:
    """Compile a graph.

    The precision is always set: left alone, OpenVINO runs FP32 graphs in BF16 on CPUs that can.

    Args:
        model: A graph, or the path of its ``.xml``.
        device: OpenVINO device name.
        precision: What the bundle's thresholds were proven in.
        threads: Inference threads; 0 leaves it to OpenVINO.
        cache_dir: Where compiled graphs are kept between starts.
        many: Optimise for many pictures in flight rather than for the delay of one.

    Raises:
        BundleError: OpenVINO cannot read or compile the graph on this device.
    """
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "THROUGHPUT" if many else "LATENCY",
    }
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    if cache_dir is not None:
        cache_dir.mkdir(parents=True, exist_ok=True)
        options["CACHE_DIR"] = str(cache_dir)
    try:
        return Graph(ov.Core().compile_model(model, device, options))
    except RuntimeError as error:
        raise BundleError(f"OpenVINO cannot compile {model} on {device}: {_last_line(error)}") from error


def environment(*, device: str = "CPU", threads: int = 0) -> dict[str, str]:
    """What bit-equal results depend on: processor, OpenVINO build, device and thread count."""
    return {
        "processor": _processor(),
        "openvino": ov.get_version(),
        "device": device,
        "threads": str(threads or len(os.sched_getaffinity(0))),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]
