"""A graph in INT8: NNCF's post-training quantization, with the worst layers left as they are where it drifts."""

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
from gonogo.runtime import Picture
from gonogo.schema import Scores

Preset = Literal["performance", "mixed"]
"""Activations on a symmetric scale, or on one with an offset; the latter suits activations that go below zero."""

MOST_DRIFT = 0.05
"""Mean drift of a score that is let pass, see `drift`."""
_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")


@dataclass(frozen=True, kw_only=True)
class Int8:
    """A quantized graph and what became of its layers."""

    model: ov.Model
    int8_layers: int
    float_layers: int
    """The one that draws the defect map is always among them."""
    nncf: str
    """Version."""


def to_int8(
    model: ov.Model,
    pictures: Sequence[Picture],
    *,
    steer_by: Sequence[Picture] = (),
    preset: Preset = "performance",
) -> Int8:
    """Quantize weights and activations of a classifier to INT8.

    What follows the last feature map stays as it is: it costs next to nothing, and the score hangs on it (NNCF would
    round the exponentials that the score is the logarithm of, to 256 steps). The ranges reach as far as the numbers of
    any picture, where NNCF would take the mean reach of all: a defect is what few pictures show.

    Args:
        model: The graph of full precision; left as it is.
        pictures: What the graph is fed on the line; the ranges of the INT8 numbers are taken from them.
        steer_by: Layers are put back one by one, the most harmful first, while the scores of these pictures drift by
            more than `MOST_DRIFT`; none are put back without.
        preset: See `Preset`.

    Raises:
        UnfitError: NNCF cannot quantize the graph.
    """
    with _quiet():
        nncf = _load_nncf()
        items = list(enumerate(pictures))
        calibration = nncf.Dataset(items, lambda item: item[1][None])
        asked: dict[str, Any] = {
            "preset": nncf.QuantizationPreset(preset),
            "target_device": nncf.TargetDevice.CPU,
            "subset_size": len(items),
            "ignored_scope": nncf.IgnoredScope(names=_head(model), validate=False),
        }
        reach = nncf.AdvancedQuantizationParameters(activations_range_estimator_params=_extremes(nncf))
        try:
            if steer_by:
                steering = nncf.Dataset(list(enumerate(steer_by)), lambda item: item[1][None])
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
    """The measure that NNCF steers by: 1 less the mean drift of a score, in standard deviations of the scores.

    Drift is what the best straight line from the old scores to the new ones leaves over: a shift or a stretch that all
    pictures share changes no verdict, because the thresholds are certified on the new scores.
    """

    def __init__(self, model: ov.Model, pictures: Sequence[Picture]) -> None:
        compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._expected = np.array([_score(compiled, picture) for picture in track(pictures, "scores before")])

    def __call__(self, compiled: ov.CompiledModel, items: Iterable[tuple[int, Picture]]) -> tuple[float, list[float]]:
        """Of some of the pictures, with their numbers: the mean, and each one's."""
        numbered = list(items)
        found = np.array([_score(compiled, picture) for _, picture in numbered])
        kept = 1 - drift(self._expected[[i for i, _ in numbered]], found)
        return float(kept.mean()), kept.tolist()


def drift(before: Scores, after: Scores) -> Scores:
    """How far each score is from the best straight line over the old ones, in standard deviations of those on it."""
    first, second = before - before.mean(), after - after.mean()
    variance = float(first @ first)
    if variance == 0:
        return np.asarray(np.abs(second))
    slope = max(float(first @ second) / variance, 0.0)  # one that turns the order round absorbs nothing
    # In units of the new scores: a graph that gives one score for all has lost everything.
    spread = max(slope * float(first.std()), 1e-9)
    return np.asarray(np.abs(second - slope * first) / spread)


def _score(compiled: ov.CompiledModel, picture: Picture) -> float:
    return float(compiled(picture[None])["score"][0])


def _head(model: ov.Model) -> list[str]:
    """What follows the feature maps: all of the evidence, or the defect map's convolutions, the context, the pooling.

    The operations of an evidence graph say by their names whether they belong to it.
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
    """What the map is drawn from: each cut enters by a convolution, and by a mean where there is a context."""
    found, waiting = [], [model.output("heatmap").get_node()]
    while waiting:
        node = waiting.pop()
        if node.get_type_name() in ("Convolution", "ReduceMean"):
            found.append(node.input_value(0).get_node())
        else:
            waiting += [value.get_node() for value in node.input_values()]
    if not found:
        raise UnfitError("expected a convolution that draws the defect map, found none: train the bundle again.")
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
    """Whether its activations pass a quantizer; operations that hand numbers on unchanged may lie between."""
    before = node.input_value(0).get_node()
    while before.get_type_name() in ("MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Concat"):
        before = before.input_value(0).get_node()
    return bool(before.get_type_name() == "FakeQuantize")


def _extremes(nncf: ModuleType) -> object:
    return nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX


def _load_nncf() -> ModuleType:
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"  # read once, on import: the one way to keep it from reporting its use
    try:
        import nncf
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
    return nncf  # type: ignore[no-any-return]


@contextmanager
def _quiet() -> Iterator[None]:
    """Its bars on standard error, and only on a terminal, as all of ours; standard output is for results."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(sys.stderr if console.is_terminal else nowhere):
            yield
    finally:
        logging.disable(before)
