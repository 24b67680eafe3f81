"""Export of a trained torch network to an OpenVINO graph, and the parity gate that compares both."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from torch import Tensor, nn

from gonogo.array_types import Float32
from gonogo.errors import ParityError
from gonogo.evidence import describe_classifier, measure_shift
from gonogo.images import crop_resize
from gonogo.model import (
    FeatureNetwork,
    FeatureStack,
    Locator,
    Network,
    Normalisation,
    OwnStack,
    Pixels,
    Sightings,
    join_maps,
    mean_vector,
)
from gonogo.model.network import normalised
from gonogo.openvino_import import no_telemetry
from gonogo.runtime import Graph, Picture, difference
from gonogo.schema import Box, Frame

PARITY_TOLERANCE = 1e-3
"""Largest allowed `difference` between torch and the exported graph."""


def to_graph(module: nn.Module, size_wh: tuple[int, int]) -> ov.Model:
    """Trace a module that takes uint8 NHWC pictures, and convert it for batches of one picture of a fixed size."""
    width, height = size_wh
    example = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8)
    graph = _convert(module, (example,), [[1, height, width, 3]])
    graph.inputs[0].get_tensor().set_names({"frame"})
    return graph


def _convert(module: nn.Module, example: tuple[Tensor, ...], shapes: list[list[int]]) -> ov.Model:
    with no_telemetry(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing fixes the shapes, as intended
        return ov.convert_model(module.eval(), example_input=example, input=[ov.PartialShape(each) for each in shapes])


class ConvertedStack:
    """The feature maps of a frozen backbone in OpenVINO: traced and converted once, then copied for every use.

    A stack of torchvision is converted for any size of picture. A user's own network may compute with the size that it
    was traced at, so it is converted once for each size.
    """

    def __init__(self, stack: FeatureStack | OwnStack | Pixels) -> None:
        """Remember the stack, whose weights must not change before its last use here."""
        self._stack = stack
        self._models: dict[tuple[int, int] | None, ov.Model] = {}

    def copy(self, size_wh: tuple[int, int]) -> ov.Model:
        """A graph of a picture, mean and deviation to one map per cut, then the joined maps and their means."""
        key = size_wh if isinstance(self._stack, OwnStack) else None
        (width, height), one = size_wh, torch.ones(1, 3, 1, 1)
        picture = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        if key not in self._models:
            shapes = [[1, height, width, 3] if key else [1, -1, -1, 3], [1, 3, 1, 1], [1, 3, 1, 1]]
            self._models[key] = _convert(_Everything(self._stack), (picture, one, one), shapes)
        copied = self._models[key].clone()
        copied.reshape({copied.inputs[0]: [*picture.shape]})
        return copied


@dataclass(frozen=True, kw_only=True)
class FrozenNetwork:
    """A backbone with one input normalisation, as graphs for every use of its features."""

    features: FeatureNetwork
    stack: ConvertedStack

    def maps(self, size_wh: tuple[int, int]) -> ov.Model:
        """One output per cut in order, ``map 0`` and so on, each on its own grid: 1 x channels x rows x columns."""
        return self._graph(size_wh, lambda outputs: {f"map {number}": each for number, each in enumerate(outputs[:-2])})

    def joined(self, size_wh: tuple[int, int]) -> ov.Model:
        """One output ``features``: the joined maps, 1 x channels x rows x columns."""
        return self._graph(size_wh, lambda outputs: {"features": outputs[-2]})

    def pooled(self, size_wh: tuple[int, int]) -> ov.Model:
        """One output ``features``: the mean over each map, 1 x channels."""
        return self._graph(size_wh, lambda outputs: {"features": outputs[-1]})

    def _graph(
        self, size_wh: tuple[int, int], chosen: Callable[[Sequence[ov.Output]], dict[str, ov.Output]]
    ) -> ov.Model:
        """Put the normalisation before a copy of the stack, and keep some of its outputs."""
        model, normalise = self.stack.copy(size_wh), self.features.normalise
        frame, *numbers = model.get_parameters()
        for parameter, values in zip(numbers, (normalise.mean, normalise.std), strict=True):
            parameter.output(0).replace(ops.constant(values.numpy()).output(0))
        frame.output(0).get_tensor().set_names({"frame"})
        results = []
        for name, output in chosen([each.get_node().input_value(0) for each in model.outputs]).items():
            results.append(ops.result(output))
            results[-1].output(0).get_tensor().set_names({name})
        return ov.Model(results, [frame], "features")


def frozen_networks(
    stack: FeatureStack | OwnStack | Pixels, normalisations: Sequence[Normalisation]
) -> list[FrozenNetwork]:
    """A frozen backbone with each of some input normalisations, converted once for all of them."""
    stack = stack.eval()
    converted = ConvertedStack(stack)
    return [FrozenNetwork(features=FeatureNetwork(stack, each).eval(), stack=converted) for each in normalisations]


def export_classifier(network: Network, size_wh: tuple[int, int], *, labels: tuple[str, str]) -> ov.Model:
    """Export the whole classifier: uint8 NHWC in, ``score``, ``heatmap`` and ``feature_vector`` out.

    With inspect zones, ``zones`` holds their scores.

    A further output, ``logits``, holds ``(0, score)``, and ``rt_info`` describes a two-class classifier, so that tools
    built on OpenVINO's Model API can load the graph as a classifier.
    """
    graph = to_graph(network, size_wh)
    for output, name in zip(graph.outputs, ("score", "heatmap", "feature_vector", "zones"), strict=False):
        output.get_tensor().set_names({name})
    score = ops.unsqueeze(graph.output("score").get_node().input_value(0), ops.constant(1))
    logits = ops.concat([ops.multiply(score, ops.constant(np.float32(0))), score], axis=1)
    logits.output(0).get_tensor().set_names({"logits"})
    # First, because Model API reads the classes from the first output.
    results = [ops.result(logits), *graph.get_results()]
    whole = ov.Model(results, graph.get_parameters(), "gonogo")
    describe_classifier(whole, labels)
    return whole


def export_locator(locator: Locator, size_wh: tuple[int, int]) -> ov.Model:
    """Export the whole locator: uint8 NHWC in; ``box``, ``corners`` (as shares of the picture) and ``presence`` out."""
    graph = to_graph(locator, size_wh)
    for output, name in zip(graph.outputs, Sightings._fields, strict=True):
        output.get_tensor().set_names({name})
    return graph


def check_locator_parity(locator: Locator, graph: Graph, frames: Iterable[Frame]) -> float:
    """Compare torch and the compiled graph on whole pictures.

    Returns:
        The largest `difference` in a position, as a share of the picture, or in the probability of presence.

    Raises:
        ParityError: it exceeds `PARITY_TOLERANCE`.
    """
    worst = 0.0
    _, height, width, _ = graph.input_shape
    for frame in frames:
        picture = crop_resize(frame, Box.whole(frame), (width, height))
        with torch.no_grad():
            expected = locator(torch.from_numpy(picture[None]))
        found = graph(picture)
        expected = expected._replace(presence=expected.presence.sigmoid())
        found["presence"] = 1 / (1 + np.exp(-found["presence"]))
        for name, value in expected._asdict().items():
            # np.maximum propagates NaN, max() would drop it.
            worst = float(np.maximum(worst, difference(value[0].numpy(), found[name][0])))
    if not worst <= PARITY_TOLERANCE:
        raise ParityError(
            f"the exported locator differs from the trained one by {worst:.2e}, more than the "
            f"{PARITY_TOLERANCE:.0e} allowed. The conversion is faulty: try another backbone or OpenVINO version."
        )
    return worst


def check_parity(network: Network, graph: Graph, pictures: Iterable[Picture]) -> float:
    """Compare torch and the compiled graph picture by picture.

    Returns:
        The largest `difference` in score.

    Raises:
        ParityError: it exceeds `PARITY_TOLERANCE`.
    """
    worst = 0.0
    network.eval()
    for picture in pictures:
        with torch.no_grad():
            expected = float(network(torch.from_numpy(picture[None]))[0][0])
        worst = float(np.maximum(worst, difference(expected, graph(picture)["score"][0])))  # propagates NaN
    if not worst <= PARITY_TOLERANCE:
        raise ParityError(
            f"the exported graph differs from the trained network by {worst:.2e} in score, more than the "
            f"{PARITY_TOLERANCE:.0e} allowed. The conversion is faulty: try another backbone or OpenVINO version."
        )
    return worst


def traced_operations(network: nn.Module, size_wh: tuple[int, int]) -> dict[str, int]:
    """Count the operations that torch runs for one picture, by torch's names, the most frequent first."""
    width, height = size_wh
    example = torch.zeros((1, height, width, 3), dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing fixes the shapes, as intended
        traced = torch.jit.trace(network.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
        nodes = traced.inlined_graph.nodes()
    kinds = Counter(node.kind().removeprefix("aten::") for node in nodes if node.kind().startswith("aten::"))
    return dict(kinds.most_common())


def network_shift(features: FeatureNetwork, size_wh: tuple[int, int]) -> tuple[float, float]:
    """Measure the offset of the cells of a network's finest feature map, see `gonogo.evidence.measure_shift`."""

    def maps(picture: Picture) -> Float32[np.ndarray, "channels rows columns"]:
        with torch.no_grad():
            found: Float32[np.ndarray, "channels rows columns"] = features(torch.from_numpy(picture[None]))[0].numpy()
        return found

    return measure_shift(maps, size_wh)


class _Everything(nn.Module):
    """All that is computed on frozen features: the maps of the cuts, the joined maps, and the means."""

    def __init__(self, stack: FeatureStack | OwnStack | Pixels) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, pictures: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, ...]:
        maps = self.stack.maps(normalised(pictures, mean, std))
        return *maps, join_maps(maps), mean_vector(maps)
