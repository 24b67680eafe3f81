"""Turns a foreign classifier into a graph of gonogo: frame in, defect logit, heat map and feature vector out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino import passes

from gonogo.array_types import Float32
from gonogo.errors import InputError
from gonogo.evidence import PREFIX, describe_classifier
from gonogo.imported.declared import Declaration, bad_outputs, complete, input_shape
from gonogo.imported.heads import DefectLogit, Head, defect_logit, find_head
from gonogo.imported.maps import Explanation, NoMapError, channel_axis, constant_of, explain, has_cells
from gonogo.imported.pixels import prepared_node
from gonogo.imported.reading import OpenedModel
from gonogo.schema import Label


@dataclass(frozen=True, kw_only=True)
class ImportedNet:
    """A foreign classifier with its preprocessing and its defect logit, as nodes of one graph."""

    declared: Declaration
    """Complete: with what the file says."""
    frame: ov.Node
    head: Head
    bad: tuple[int, ...]
    defect: DefectLogit
    layers: tuple[ov.Output, ...]
    """Feature maps that the logits depend on, in order of evaluation."""
    explained: Explanation | None
    why_not: str
    """Why there is no map in closed form; empty if there is one."""

    def layer(self, name: str) -> ov.Output:
        """Look a feature map up by a name of its operation or tensor.

        Raises:
            InputError: there is no such feature map; the message lists the last ones.
        """
        for each in self.layers:
            if name in _names(each):
                return each
        last = ((layer_name(each), " x ".join(map(str, list(each.shape)[1:]))) for each in self.layers[-12:])
        listed = "\n".join(f"  {known}  {shape}" for known, shape in last)
        raise InputError(
            f"--map-layer: no feature map is named {name!r}."
            + (f" The last ones are:\n{listed}" if listed else " The network has none.")
        )

    def pooled(self, layer: ov.Output) -> ov.Model:
        """A graph from a frame to ``features``, the mean of each channel of a feature map, and ``score``."""
        return _named({"features": _means(layer), "score": self.defect.score}, self.frame)

    def maps(self, layer: ov.Output) -> ov.Model:
        """A graph from a frame to ``features``, a feature map with channels first."""
        return _named({"features": _channels_first(layer)}, self.frame)


def imported_net(opened: OpenedModel, declared: Declaration) -> ImportedNet:
    """Add the declared preprocessing to a model, and find its logits, its feature maps and its map.

    Raises:
        InputError: the declaration is incomplete or contradicts the model.
    """
    graph, entry = opened.graph, opened.graph.inputs[0]
    element = entry.get_element_type()
    before = find_head(graph, declared.output)
    known = complete(declared, opened.shape, element.get_type_name(), outputs=before.classes, head=before.kind)
    _fix_shape(opened, known)
    head = find_head(graph, declared.output)
    known = complete(known, opened.shape, element.get_type_name(), outputs=head.classes, head=head.kind)
    if head.classes is None or known.head is None:
        raise InputError(f"{opened.path}: expected an output with one number per class, found one of unknown size.")
    frame = ops.parameter([1, known.frame_wh[1], known.frame_wh[0], 3], np.uint8, name="frame")
    prepared = prepared_node(frame, known, element)
    for target in list(entry.get_node().output(0).get_target_inputs()):
        target.replace_source_output(prepared.output(0))
    bad = bad_outputs(known, head.classes)
    defect = defect_logit(head.logits, known.head, head.classes, bad)
    explained, why_not = _explained(head, defect)
    layers = tuple(value for value in _depending_on(prepared, frame, head.logits) if has_cells(value))
    return ImportedNet(
        declared=known,
        frame=frame,
        head=head,
        bad=bad,
        defect=defect,
        layers=layers,
        explained=explained,
        why_not=why_not,
    )


@dataclass(frozen=True, kw_only=True)
class FittedMap:
    """A linear model of the score on the means of a feature map; its map is a 1 x 1 convolution."""

    layer: ov.Output
    weight: Float32[np.ndarray, " channels"]


def classifier_of(net: ImportedNet, fitted: FittedMap | None) -> ov.Model:
    """Build the classifier of a bundle: ``logits``, ``score``, ``heatmap`` where there is one, ``feature_vector``.

    The mean of the heat map plus a bias is the score. With fixed derivatives the bias is a constant, see `bias_of`;
    otherwise it is 0, and every cell includes the same rest, so that the mean is the score.

    Args:
        net: The model.
        fitted: The map to use; ``None`` uses the one in closed form, if there is one.
    """
    flat = ops.reshape(net.defect.score, ops.constant(np.array([1])), False)
    column = ops.reshape(net.defect.score, ops.constant(np.array([1, 1])), False)
    zero = ops.multiply(column, ops.constant(np.float32(0)))
    outputs = {"logits": ops.concat([zero, column], axis=1), "score": flat}
    if fitted is not None:
        kernel = ops.constant(fitted.weight[None, :, None, None])
        cells = ops.convolution(_channels_first(fitted.layer), kernel, [1, 1], [0, 0], [0, 0], [1, 1])
        outputs["heatmap"] = _lifted(ops.squeeze(cells, ops.constant(np.array([1]))), flat)
    elif net.explained is not None:
        cells = net.explained.cells
        scaled = ops.multiply(cells, ops.constant(np.float32(np.prod(cells.shape))))
        outputs["heatmap"] = scaled if net.explained.linear else _lifted(scaled, flat)
    outputs["feature_vector"] = _feature_vector(net)
    _mark_head(list(outputs.values()), net)
    graph = _named(outputs, net.frame)
    describe_classifier(graph, (Label.GOOD.value, Label.BAD.value))
    return graph


def layer_name(layer: ov.Output) -> str:
    """The name of a feature map that a user knows best: that of its tensor in the framework, or of its operation."""
    names = [name for name in layer.names if not name.isdigit()]
    return min(names, key=len) if names else str(layer.get_node().get_friendly_name())


def _names(layer: ov.Output) -> set[str]:
    return {*layer.names, layer.get_node().get_friendly_name()}


def _fix_shape(opened: OpenedModel, known: Declaration) -> None:
    """Fix the shapes for one picture, and compute what is then constant."""
    try:
        opened.graph.reshape(list(input_shape(known)))
        manager = passes.Manager()
        manager.register_pass(passes.ConstantFolding())
        manager.run_passes(opened.graph)
    except RuntimeError as error:
        width, height = known.size or (0, 0)
        raise InputError(
            f"{opened.path}: the network does not take one picture of {width} x {height} ({error}). Correct --size, or "
            "export the model again for this size."
        ) from error


def _explained(head: Head, defect: DefectLogit) -> tuple[Explanation | None, str]:
    try:
        return explain(head.logits, defect), ""
    except NoMapError as error:
        return None, str(error)


def _depending_on(first: ov.Node, frame: ov.Node, last: ov.Output) -> list[ov.Output]:
    """Outputs of operations between two nodes, in order of evaluation."""
    reached = {first.get_instance_id()}
    found: list[ov.Output] = []
    for node in ov.Model([ops.result(last)], [frame]).get_ordered_ops():
        if any(value.get_node().get_instance_id() in reached for value in node.input_values()):
            reached.add(node.get_instance_id())
            found += [] if node.get_type_name() == "Result" else node.outputs()
    return found


def _named(outputs: Mapping[str, ov.Output | ov.Node], frame: ov.Node) -> ov.Model:
    """A copy of the graph to these outputs, in which only they have names: those of a foreign graph could clash."""
    graph = ov.Model([ops.result(node) for node in outputs.values()], [frame], "gonogo").clone()
    for node in graph.get_ops():
        for value in node.outputs():
            value.get_tensor().set_names(set())
    graph.inputs[0].get_tensor().set_names({"frame"})
    for name, output in zip(outputs, graph.outputs, strict=True):
        output.get_node().input_value(0).get_tensor().set_names({name})
    return graph


def _mark_head(outputs: Sequence[ov.Output | ov.Node], net: ImportedNet) -> None:
    """Give operations after the last feature map the prefix that keeps them in FP32, and all unique names."""
    anchors = net.explained.features if net.explained is not None else (_penultimate(net.head.logits),)
    backbone = {each.get_instance_id() for anchor in anchors for each in _upstream(anchor)}
    used: set[str] = set()
    for node in ov.Model([ops.result(node) for node in outputs], [net.frame], "gonogo").get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_instance_id() not in backbone and not name.startswith(PREFIX):
            name = PREFIX + name
        while name in used:
            name += "_"
        used.add(name)
        node.set_friendly_name(name)


def _upstream(value: ov.Output) -> list[ov.Node]:
    seen: dict[int, ov.Node] = {}
    waiting = [value.get_node()]
    while waiting:
        node = waiting.pop()
        if node.get_instance_id() not in seen:
            seen[node.get_instance_id()] = node
            waiting += [each.get_node() for each in node.input_values()]
    return list(seen.values())


def _penultimate(logits: ov.Output) -> ov.Output:
    """Input of the last dense layer, or the logits if there is none."""
    value = logits
    while value.get_node().get_type_name() in ("Add", "Multiply", "Reshape", "Squeeze", "Convert"):
        variable = [each for each in value.get_node().input_values() if constant_of(each) is None]
        if len(variable) != 1:
            return logits
        value = variable[0]
    return value.get_node().input_value(0) if value.get_node().get_type_name() == "MatMul" else logits


def _feature_vector(net: ImportedNet) -> ov.Node:
    """Means of the last feature maps, or the input of the last dense layer: 1 x channels."""
    if net.explained is not None:
        means = [_means(each) for each in net.explained.features]
        return means[0] if len(means) == 1 else ops.concat(means, axis=1)
    return ops.reshape(_float32(_penultimate(net.head.logits)), ops.constant(np.array([1, -1])), False)


def _means(layer: ov.Output) -> ov.Node:
    axes = [axis for axis in (1, 2, 3) if axis != channel_axis(layer)]
    return ops.reduce_mean(_float32(layer), ops.constant(np.array(axes)), keep_dims=False)


def _channels_first(layer: ov.Output) -> ov.Output | ov.Node:
    value = _float32(layer)
    return value if channel_axis(layer) == 1 else ops.transpose(value, ops.constant(np.array([0, 3, 1, 2])))


def _float32(value: ov.Output) -> ov.Output | ov.Node:
    return value if value.get_element_type() == ov.Type.f32 else ops.convert(value, np.float32)


def _lifted(cells: ov.Node, score: ov.Node) -> ov.Node:
    """Add the same number to all cells, so that their mean is the score."""
    mean = ops.reduce_mean(cells, ops.constant(np.array([1, 2])), keep_dims=True)
    return ops.add(cells, ops.subtract(ops.reshape(score, ops.constant(np.array([1, 1, 1])), False), mean))
