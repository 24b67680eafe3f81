"""Reads the classifiers of other frameworks as OpenVINO graphs, each with a way to run it in its own framework."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import openvino as ov

from gonogo.array_types import Float32
from gonogo.errors import InputError, MissingExtraError
from gonogo.files import plain_files
from gonogo.imported.guards import require_plain_program, tensors_only
from gonogo.openvino_import import no_telemetry

Framework: TypeAlias = Literal["keras", "tensorflow", "onnx", "torch", "openvino"]
Run: TypeAlias = Callable[[Float32[np.ndarray, "1 _ _ _"]], Sequence[np.ndarray]]
"""Maps one prepared picture to the outputs of the model, in the order of the graph's outputs."""

KINDS = (
    "a .keras file, the folder of a TensorFlow SavedModel, an .onnx file, a .pt2 file (torch.export.save) or an "
    "OpenVINO .xml file"
)


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A classifier of another framework."""

    path: Path
    framework: Framework
    sha256: str
    """Of the file; of a folder or a file with others beside it, of all their names and hashes."""
    graph: ov.Model
    shape: tuple[int | None, ...]
    """Shape of the picture input in the file, with four axes; ``None`` for sides that it leaves open."""
    run: Run
    runner: str
    """What ``run`` uses, with its version."""


def open_model(path: Path) -> OpenedModel:
    """Read a model file; which framework made it follows from its name.

    Raises:
        InputError: the file is missing or of another kind, cannot be read, or does not take one picture.
        MissingExtraError: the framework that must read it is not installed.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file. Expected {KINDS}.")
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise InputError(f"{path}: expected {KINDS}, found a folder without saved_model.pb.")
        return _opened(path, "tensorflow", _converted(path), _tensorflow(path))
    match path.suffix.lower():
        case ".keras":
            return _open_keras(path)
        case ".h5" | ".hdf5":
            raise InputError(
                f"{path}: expected a .keras file, found HDF5, from which Keras may run code. Where the model was made, "
                f"run: model.save('{path.stem}.keras')"
            )
        case ".onnx":
            return _opened(path, "onnx", _converted(path), _onnx(path))
        case ".pt2":
            return _open_torch(path)
        case ".xml":
            return _opened(path, "openvino", _read_ir(path), None)
        case ".pt" | ".pth" | ".safetensors":
            raise InputError(
                f"{path}: expected a program, found weights or a pickled module. Where its class is known, run: "
                "torch.export.save(torch.export.export(model.eval(), (torch.zeros(1, 3, 224, 224),)), 'model.pt2')"
            )
    raise InputError(f"{path}: expected {KINDS}.")


def _opened(path: Path, framework: Framework, graph: ov.Model, run: tuple[Run, str] | None) -> OpenedModel:
    shape = _picture_shape(path, graph)
    run = run or _in_openvino(graph.clone())
    return OpenedModel(
        path=path, framework=framework, sha256=_sha256(path), graph=graph, shape=shape, run=run[0], runner=run[1]
    )


def _picture_shape(path: Path, graph: ov.Model) -> tuple[int | None, ...]:
    inputs = [f"{each.any_name if each.names else '?'} {each.partial_shape}" for each in graph.inputs]
    if len(graph.inputs) != 1 or graph.inputs[0].partial_shape.rank != ov.Dimension(4):
        raise InputError(
            f"{path}: expected one input, a picture with four axes, found {len(inputs)}: {', '.join(inputs)}. "
            "Export the classifier alone."
        )
    sides = graph.inputs[0].partial_shape
    return tuple(side.get_length() if side.is_static else None for side in sides)


def _converted(source: Any, name: Path | None = None) -> ov.Model:
    path = name or source
    try:
        with no_telemetry(), contextlib.redirect_stdout(sys.stderr):
            return ov.convert_model(source)
    except Exception as error:  # BLE001: a frontend may raise anything; raised again as InputError
        raise InputError(f"{path}: OpenVINO cannot read this model ({_first_line(error)}).") from error


def _read_ir(path: Path) -> ov.Model:
    if not path.with_suffix(".bin").is_file():
        raise InputError(f"{path}: expected {path.with_suffix('.bin').name} beside it, found none. Copy both files.")
    try:
        return ov.Core().read_model(path)
    except RuntimeError as error:
        raise InputError(f"{path}: OpenVINO cannot read this model ({_first_line(error)}).") from error


def _in_openvino(graph: ov.Model) -> tuple[Run, str]:
    """Run the unchanged graph, where its framework is not installed."""
    compiled: list[ov.CompiledModel] = []

    def run(batch: Float32[np.ndarray, "1 _ _ _"]) -> Sequence[np.ndarray]:
        if not compiled:
            graph.reshape(batch.shape)
            compiled.append(ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))
        found = compiled[0](batch.astype(graph.inputs[0].element_type.to_dtype()))
        return [np.array(found[number]) for number in range(len(graph.outputs))]

    return run, f"the unchanged model in OpenVINO {version('openvino')}"


def _onnx(path: Path) -> tuple[Run, str] | None:
    if not _installed("onnxruntime"):
        return None
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()[:1]
    dtype = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8}.get(entry.type, np.float32)
    return lambda batch: session.run(None, {entry.name: batch.astype(dtype)}), f"onnxruntime {version('onnxruntime')}"


def _open_torch(path: Path) -> OpenedModel:
    if not _installed("torch"):
        raise MissingExtraError(f"{path}: reading it needs torch. Install it: pip install 'gonogo[finetune]'")
    import torch

    require_plain_program(path)
    try:
        with tensors_only():
            program = torch.export.load(path)
    except Exception as error:  # BLE001: torch may raise anything; raised again as InputError
        raise InputError(
            f"{path}: expected a program of torch.export.save, which torch {torch.__version__} cannot read "
            f"({_first_line(error)}). Export it again with this version of torch."
        ) from error
    graph, module = _converted(program, path), program.module()

    def run(batch: Float32[np.ndarray, "1 _ _ _"]) -> Sequence[np.ndarray]:
        with torch.no_grad():
            found = module(torch.from_numpy(batch))
        return [each.numpy() for each in ([found] if isinstance(found, torch.Tensor) else found)]

    opened = _opened(path, "torch", graph, (run, f"torch {torch.__version__}"))
    (name,) = program.graph_signature.user_inputs[:1]
    sides = next(node.meta["val"].shape for node in program.graph.nodes if node.name == name)
    # The converter forgets the sides that the program was exported for.
    shape = tuple(side if isinstance(side, int) else None for side in sides)
    return OpenedModel(**{**vars(opened), "shape": shape})


def _tensorflow(path: Path) -> tuple[Run, str] | None:
    if not _installed("tensorflow"):
        return None
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow

    loaded = tensorflow.saved_model.load(str(path))
    if "serving_default" not in loaded.signatures:
        return None
    serve = loaded.signatures["serving_default"]
    (name, spec), *_ = serve.structured_input_signature[1].items()

    def run(batch: Float32[np.ndarray, "1 _ _ _"], kept: Any = loaded) -> Sequence[np.ndarray]:
        found = serve(**{name: tensorflow.cast(batch, spec.dtype)})
        return [found[each].numpy() for each in sorted(found)]

    return run, f"TensorFlow {version_of('tensorflow', 'tensorflow-cpu')}"


def _open_keras(path: Path) -> OpenedModel:
    if not _installed("keras"):
        raise MissingExtraError(
            f"{path}: reading it needs Keras, which is not installed. Install it (pip install keras), or run where it "
            f"is: keras.saving.load_model('{path.name}').export('{path.stem}', format='tf_saved_model') and import "
            f"the folder {path.stem}, which needs neither Keras nor TensorFlow."
        )
    if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ:
        backends = (name for name in ("tensorflow", "torch", "jax") if _installed(name))
        os.environ["KERAS_BACKEND"] = next(backends, "openvino")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # BLE001: Keras may raise anything; raised again as InputError
        raise InputError(f"{path}: Keras {keras.__version__} cannot read this model ({_first_line(error)}).") from error

    def run(batch: Float32[np.ndarray, "1 _ _ _"]) -> Sequence[np.ndarray]:
        found = model(batch, training=False)
        flat = keras.tree.flatten(found)
        return [np.asarray(keras.ops.convert_to_numpy(each)) for each in flat]

    backend = keras.backend.backend()
    return _opened(path, "keras", _keras_graph(model, path), (run, f"Keras {keras.__version__} on {backend}"))


def _keras_graph(model: Any, path: Path) -> ov.Model:
    """Convert with Keras' own export to OpenVINO, or through a SavedModel where Keras is too old for it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        with no_telemetry(), contextlib.redirect_stdout(sys.stderr):
            try:
                model.export(str(file), format="openvino", verbose=False)
            except (ValueError, NotImplementedError):
                model.export(folder, format="tf_saved_model", verbose=False)
                return _converted(Path(folder), path)
        # From memory, as the folder is deleted.
        return ov.Core().read_model(file.read_bytes(), file.with_suffix(".bin").read_bytes())


def version_of(*packages: str) -> str:
    """Version of the first of some distributions that is installed."""
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return version(package)
    return "of unknown version"


def _installed(module: str) -> bool:
    return module in sys.modules or importlib.util.find_spec(module) is not None


def _sha256(path: Path) -> str:
    """Hash of a model with all its files: a folder, the weights of an IR, or the external data of an ONNX file."""
    if path.is_dir():
        files = [path / name for name in plain_files(path)]
    else:
        beside = (
            (path.with_suffix(".bin"),) if path.suffix.lower() == ".xml" else (path.with_name(f"{path.name}.data"),)
        )
        files = [path, *(each for each in beside if each.is_file())]
    digests = []
    for each in files:
        with each.open("rb") as file:
            digests.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {each.name}\n")
    return digests[0].split()[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
