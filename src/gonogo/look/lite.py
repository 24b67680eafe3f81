"""EfficientNet-Lite with its ImageNet classes in OpenVINO: feature maps and the class-activation map in one pass."""

from __future__ import annotations

import importlib.util

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from gonogo import runtime
from gonogo.backbone import (
    EfficientNetLite,
    ImagenetHead,
    block_nodes,
    conv_node,
    efficientnet_lite,
    frame_input,
    imagenet_head,
)
from gonogo.look.maps import class_map
from gonogo.look.seen import PlaceMap, Seen, Stage, activation_places, likeliest
from gonogo.schema import Frame

_HEAD = "head"


def look_with_lite(name: str, picture: Frame, *, wanted: int | None = None) -> Seen:
    """Show what a pretrained EfficientNet-Lite sees; Grad-CAM and LayerCAM need torch and are left out without it.

    Args:
        name: A key of `gonogo.backbone.PACKAGES`.
        picture: uint8 RGB; both sides are multiples of 32.
        wanted: The ImageNet class to look for; ``None`` for the likeliest.

    Raises:
        InputError: The package with the weights is not installed, or a side is not a multiple of 32.
    """
    network, head = efficientnet_lite(name), imagenet_head(name)
    height, width = picture.shape[:2]
    outputs = runtime.compile_graph(_graph(network, head, (width, height)))(picture)
    features = outputs[_HEAD][0]
    logits = head.weight @ features.mean((1, 2)) + head.bias
    chosen, share = likeliest(logits, wanted)
    places = activation_places(class_map(features, head.weight[chosen]), float(head.bias[chosen]))
    by_gradient, notes = _by_gradient(name, picture, chosen)
    return Seen(
        network=name,
        weights="ImageNet weights from the installed package",
        picture=picture,
        answer=f"class {chosen}{_name_of(chosen)}, probability {share:.0%}",
        stages=_stages(outputs, height),
        places=(*places, *by_gradient),
        notes=notes,
    )


def _graph(network: EfficientNetLite, head: ImagenetHead, size_wh: tuple[int, int]) -> ov.Model:
    """The last map of each stride, and the map that is pooled, in one graph."""
    frame = frame_input(size_wh)
    nodes = block_nodes(network, frame)
    last = {size_wh[1] // int(node.shape[2]): node for node in nodes}  # later blocks of a stride replace earlier ones
    named = {f"stride_{stride}": node for stride, node in last.items()} | {_HEAD: conv_node(head.conv, nodes[-1])}
    results = []
    for name, node in named.items():
        node.output(0).get_tensor().set_names({name})
        results.append(ops.result(node))
    return ov.Model(results, [frame], network.name)


def _stages(outputs: dict[str, np.ndarray], height: int) -> tuple[Stage, ...]:
    names = [name for name in outputs if name != _HEAD]
    stages = [
        Stage(name=f"stage {number}", stride=height // outputs[name].shape[2], maps=outputs[name][0])
        for number, name in enumerate(names, start=1)
    ]
    return (*stages, Stage(name="last convolution", stride=stages[-1].stride, maps=outputs[_HEAD][0]))


def _by_gradient(name: str, picture: Frame, chosen: int) -> tuple[tuple[PlaceMap, ...], tuple[str, ...]]:
    if importlib.util.find_spec("torch") is None:
        return (), ("Grad-CAM and LayerCAM need torch: pip install 'gonogo[finetune]'.",)
    from gonogo.look.torch_network import lite_gradient_places  # torch

    return lite_gradient_places(name, picture, chosen), ()


def _name_of(chosen: int) -> str:
    """The name of an ImageNet class where torchvision, which has the list, is installed."""
    if importlib.util.find_spec("torchvision") is None:
        return ""
    from gonogo.look.torch_network import class_name  # torch

    return f" ({class_name(chosen)})"
