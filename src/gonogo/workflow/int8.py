"""Quantizes a graph to INT8 with NNCF, keeping layers in floating point if scores drift too much."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import openvino as ov

from gonogo.errors import UnfitError
from gonogo.evidence import PREFIX
from gonogo.progress import console, track
from gonogo.runtime import Cells, Picture
from gonogo.schema import Scores

Preset = Literal["performance", "mixed"]
"""``performance`` quantizes activations symmetrically, ``mixed`` asymmetrically, which suits negative activations."""

MOST_DRIFT = 0.05
"""Largest accepted mean drift of a score, see `drift`."""
_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")


@dataclass(frozen=True, kw_only=True)
class Int8:
    """A quantized graph and the numbers of its layers."""

    model: ov.Model
    int8_layers: int
    float_layers: int
    """Includes the layer that computes the defect map."""
    nncf: str
    """Version of NNCF."""


def to_int8(
    model: ov.Model,
    pictures: Sequence[Picture],
    *,
    steer_by: Sequence[Picture] = (),
    preset: Preset = "performance",
) -> Int8:
    """Quantize weights and activations of a classifier to INT8.

    Everything after the last feature map stays in floating point: it costs little, and the score depends on it (NNCF
    would round the exponentials inside the log-sum-exp to 256 steps). Activation ranges cover the extremes of all
    pictures, not their mean as in NNCF's default, because only few pictures show defects.

    Args:
        model: The full-precision graph; not modified.
        pictures: Network inputs to calibrate the activation ranges on.
        steer_by: While the scores of these pictures drift by more than `MOST_DRIFT`, layers are restored to floating
            point one at a time, the most harmful first. If empty, no layers are restored.
        preset: See `Preset`.

    Raises:
        UnfitError: NNCF cannot quantize the graph.
    """
    with _quiet():
        nncf = _load_nncf()
        items = list(enumerate(pictures))
        cells = _all_cells(model)
        calibration = nncf.Dataset(items, lambda item: _inputs(item[1], cells))
        asked: dict[str, Any] = {
            "preset": nncf.QuantizationPreset(preset),
            "target_device": nncf.TargetDevice.CPU,
            "subset_size": len(items),
            "ignored_scope": nncf.IgnoredScope(names=_head(model), validate=False),
        }
        reach = nncf.AdvancedQuantizationParameters(activations_range_estimator_params=_extremes(nncf))
        try:
            if steer_by:
                steering = nncf.Dataset(list(enumerate(steer_by)), lambda item: _inputs(item[1], cells))
                made = nncf.quantize_with_accuracy_control(
                    model,
                    calibration,
                    steering,
                    _Drift(model, steer_by),
                    max_drop=MOST_DRIFT,
                    advanced_quantization_parameters=reach,
                    **asked,
                )
            else:
                made = nncf.quantize(model, calibration, advanced_parameters=reach, **asked)
        except (RuntimeError, nncf.ValidationError, nncf.UnsupportedModelError) as error:
            raise UnfitError(f"NNCF {nncf.__version__} cannot quantize this graph: {error}") from error
        int8 = sum(_is_int8(node) for node in _weighted(made))
        return Int8(model=made, int8_layers=int8, float_layers=len(_weighted(made)) - int8, nncf=nncf.__version__)


class _Drift:
    """Accuracy metric for NNCF: 1 minus the mean drift of the scores, in standard deviations.

    Drift is the residual of the best linear fit from the old to the new scores: a common shift or scale changes no
    verdict, because the thresholds are certified on the new scores.
    """

    def __init__(self, model: ov.Model, pictures: Sequence[Picture]) -> None:
        compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._expected = np.array([_score(compiled, picture) for picture in track(pictures, "scores before")])

    def __call__(self, compiled: ov.CompiledModel, items: Iterable[tuple[int, Picture]]) -> tuple[float, list[float]]:
        """Return the mean and the individual values for some numbered pictures."""
        numbered = list(items)
        found = np.array([_score(compiled, picture) for _, picture in numbered])
        kept = 1 - drift(self._expected[[i for i, _ in numbered]], found)
        return float(kept.mean()), kept.tolist()


def drift(before: Scores, after: Scores) -> Scores:
    """Residual of each score from the best linear fit on the old scores, in standard deviations of the fitted ones."""
    first, second = before - before.mean(), after - after.mean()
    variance = float(first @ first)
    if variance == 0:
        return np.asarray(np.abs(second))
    slope = max(float(first @ second) / variance, 0.0)  # a negative slope would reverse the order
    # In units of the new scores, so that a graph with constant scores has an infinite drift.
    spread = max(slope * float(first.std()), 1e-9)
    return np.asarray(np.abs(second - slope * first) / spread)


def _score(compiled: ov.CompiledModel, picture: Picture) -> float:
    return float(compiled(_inputs(picture, _all_cells(compiled)))["score"][0])


def _all_cells(model: ov.Model | ov.CompiledModel) -> Cells | None:
    """For a graph that gets the zone of every cell of a window: all in the first zone, which any window may have.

    The zones come after the layers that are quantized, so they change no activation range.
    """
    if len(model.inputs) == 1:
        return None
    cells: Cells = np.ones([int(side) for side in model.inputs[1].shape][1:], np.uint8)
    return cells


def _inputs(picture: Picture, cells: Cells | None) -> Any:
    return picture[None] if cells is None else [picture[None], cells[None]]


def _head(model: ov.Model) -> list[str]:
    """Names of the operations after the feature maps: the evidence, or convolutions, context and pooling of the head.

    Operations of the evidence are recognised by the prefix of their names.
    """
    computing = [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() not in ("Constant", "Parameter", "Result")
    ]
    evidence = [name for name in computing if name.startswith(PREFIX)]
    if evidence:
        return evidence
    backbone = {node.get_friendly_name() for node in _with_all_before(_feature_maps(model))}
    return [name for name in computing if name not in backbone]


def _feature_maps(model: ov.Model) -> list[ov.Node]:
    """The feature maps that the defect map is computed from: inputs of its convolutions and means."""
    found, waiting = [], [model.output("heatmap").get_node()]
    while waiting:
        node = waiting.pop()
        if node.get_type_name() in ("Convolution", "ReduceMean"):
            found.append(node.input_value(0).get_node())
        else:
            waiting += [value.get_node() for value in node.input_values()]
    if not found:
        raise UnfitError("Expected a convolution that computes the defect map, found none. Train the bundle again.")
    return found


def _with_all_before(nodes: Sequence[ov.Node]) -> list[ov.Node]:
    seen: dict[str, ov.Node] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() not in seen:
            seen[node.get_friendly_name()] = node
            waiting += [value.get_node() for value in node.input_values()]
    return list(seen.values())


def _weighted(model: ov.Model) -> list[ov.Node]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() in _WEIGHTED]


def _is_int8(node: ov.Node) -> bool:
    """Whether the activations pass a quantizer, possibly followed by operations that do not change values."""
    before = node.input_value(0).get_node()
    while before.get_type_name() in ("MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Concat"):
        before = before.input_value(0).get_node()
    return bool(before.get_type_name() == "FakeQuantize")


def _extremes(nncf: ModuleType) -> object:
    return nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX


def _load_nncf() -> ModuleType:
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"  # read once, on import: disables telemetry
    try:
        import nncf
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
    return nncf  # type: ignore[no-any-return]


@contextmanager
def _quiet() -> Iterator[None]:
    """Send progress bars of NNCF to standard error, and only on a terminal; standard output is for results."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(sys.stderr if console.is_terminal else nowhere):
            yield
    finally:
        logging.disable(before)
