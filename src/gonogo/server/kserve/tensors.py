"""Models and tensors of the protocol: the names of its data types, what a network takes and gives, and running it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import numpy as np

import gonogo
from gonogo.evidence.graph import classifier_info
from gonogo.inspector import Inspector
from gonogo.other_tools import LABELS
from gonogo.server.api.judges import Judge, Judges
from gonogo.server.api.problems import ApiError

VERSION = "1"
PLATFORM = "openvino"
CLASSIFIER = ".classifier"
"""Ending of a model's name: its network as Model API reads it."""
_SEEN = {"saliency_map": "heatmap", "feature_vector": "feature_vector"}
EXTENSIONS = ("binary_tensor_data",)
_BY_OPENVINO = {
    "u8": "UINT8", "i8": "INT8", "i32": "INT32", "i64": "INT64", "f16": "FP16", "f32": "FP32", "f64": "FP64",
    "boolean": "BOOL",
}  # fmt: skip
DTYPES: Mapping[str, Any] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16,
    "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
"""NumPy types of the protocol's data types that a network of ours has."""


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """Name, data type and shape of an input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as the protocol writes it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Served:
    """The network of an inspector."""

    judge: Judge
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    classifier: bool = False
    """Whether it is seen as Model API's classifier: ``logits``, ``saliency_map`` and ``feature_vector``."""

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.judge.name + (CLASSIFIER if self.classifier else "")

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata; ``rt_info`` is where Model API's adapter for model servers looks."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": PLATFORM,
            "inputs": [each.to_json() for each in self.inputs],
            "outputs": [each.to_json() for each in self.outputs],
            "rt_info": {"model_info": classifier_info(LABELS) if self.classifier else dict(self.judge.model_info)},
        }


def server_metadata() -> dict[str, Any]:
    """Return name, version and extensions of this server."""
    return {"name": "gonogo", "version": gonogo.__version__, "extensions": list(EXTENSIONS)}


def served(judges: Judges, name: str, version: str) -> Served:
    """Return a model.

    Raises:
        ApiError: there is none of this name and version, or it has more than one network or input.
    """
    if version not in ("", VERSION):
        shown = version[:40].encode(errors="backslashreplace").decode()
        raise ApiError(HTTPStatus.NOT_FOUND, f"expected version {VERSION} of the model, found {shown!r}.")
    judge = judges.of(name.removesuffix(CLASSIFIER))
    graph = judge.inspector.graph
    if judge.inspector.cascade is not None or len(graph.inputs) != 1:
        raise ApiError(
            HTTPStatus.CONFLICT,
            f"{name}: expected a bundle with one network and one input, found a cascade or a network that judges "
            "windows with zones. Use POST /api/inspect.",
        )
    inputs, outputs = _facts(graph.inputs), _facts(graph.outputs)
    if not name.endswith(CLASSIFIER):
        return Served(judge=judge, inputs=inputs, outputs=outputs)
    known = {output.name: output for output in outputs}
    renamed = [TensorFacts(name="logits", datatype="FP32", shape=(1, 2))]
    renamed += [replace(known[own], name=seen) for seen, own in _SEEN.items() if own in known]
    return Served(judge=judge, inputs=inputs, outputs=tuple(renamed), classifier=True)


def _facts(found: Mapping[str, tuple[str, tuple[int, ...]]]) -> tuple[TensorFacts, ...]:
    return tuple(
        TensorFacts(name=name, datatype=_BY_OPENVINO.get(kind, kind.upper()), shape=shape)
        for name, (kind, shape) in found.items()
    )


def require_input(model: Served, name: str, datatype: str, shape: tuple[int, ...]) -> TensorFacts:
    """Return the input of a model that a request names.

    Raises:
        ApiError: name, data type or shape differ from what the network takes.
    """
    wanted = model.inputs[0]
    if (name, datatype, shape) != (wanted.name, wanted.datatype, wanted.shape):
        found = f"{name[:60]!r} {datatype[:20]} {list(shape[:8])}".encode(errors="backslashreplace").decode()
        raise _wrong(f"expected the input {wanted.name!r} {wanted.datatype} {list(wanted.shape)}, found {found}.")
    return wanted


def from_bytes(facts: TensorFacts, data: bytes | memoryview) -> np.ndarray:
    """Return the tensor of raw little-endian bytes.

    Raises:
        ApiError: there are more or fewer bytes than the shape needs.
    """
    kind = np.dtype(DTYPES[facts.datatype])
    size = math.prod(facts.shape) * kind.itemsize
    if len(data) != size:
        raise _wrong(f"{facts.name}: expected {size:,} bytes, found {len(data):,}.")
    return np.frombuffer(data, kind.newbyteorder("<")).astype(kind).reshape(facts.shape)


def from_numbers(facts: TensorFacts, numbers: Any) -> np.ndarray:
    """Return the tensor of numbers, flat or nested.

    Raises:
        ApiError: they are no numbers of the data type, or too many or too few.
    """
    try:
        found = np.asarray(numbers)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _wrong(f"{facts.name}: expected numbers, found other data.") from error
    kind, count = np.dtype(DTYPES[facts.datatype]), math.prod(facts.shape)
    if found.size != count or found.dtype.kind not in "iu":
        raise _wrong(f"{facts.name}: expected {count:,} whole numbers, found {found.size:,} of {found.dtype}.")
    if int(found.min()) < np.iinfo(kind).min or int(found.max()) > np.iinfo(kind).max:
        raise _wrong(f"{facts.name}: expected numbers that fit {facts.datatype}, found larger ones.")
    return found.astype(kind).reshape(facts.shape)


def wanted_outputs(model: Served, names: list[str]) -> list[TensorFacts]:
    """Return the outputs that a request asks for; all of them if it names none.

    Raises:
        ApiError: the network has no output of this name, or one is named twice.
    """
    by_name = {each.name: each for each in model.outputs}
    for name in names:
        if name not in by_name or names.count(name) > 1:
            shown = name[:60].encode(errors="backslashreplace").decode()
            raise _wrong(f"outputs: expected some of {', '.join(by_name)}, each once, found {shown!r}.")
    return [by_name[name] for name in names] if names else list(model.outputs)


def infer(model: Served, tensor: np.ndarray) -> dict[str, np.ndarray]:
    """Run the network on one picture.

    Args:
        model: The model.
        tensor: uint8, 1 x height x width x 3, RGB.
    """
    with model.judge.lock:
        inspector: Inspector = model.judge.inspector
        found = inspector.graph(np.ascontiguousarray(tensor[0]))
    if not model.classifier:
        return found
    half = found["score"].reshape(1, 1).astype(np.float32) / 2  # as `gonogo.other_tools.as_classifier`
    return {"logits": np.hstack([-half, half]), **{seen: found[own] for seen, own in _SEEN.items() if own in found}}


def _wrong(text: str) -> ApiError:
    return ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, text)
