"""torchvision networks, and the gradient methods: feature maps, class-activation map, Grad-CAM and LayerCAM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import get_graph_node_names

from gonogo.errors import WeightsError
from gonogo.look.maps import CellMap, class_map, grad_cam, layer_cam
from gonogo.look.seen import PlaceMap, Seen, Stage, activation_places, likeliest
from gonogo.model import FeatureNetwork, FeatureStack, Normalisation, architecture, load_backbone, strided_cuts
from gonogo.model.lite import build_lite_classifier
from gonogo.schema import Frame

LITE_LAYER = "stride_32.0.convs.0.2"
"""The last maps of stride 16 in EfficientNet-Lite that follow a ReLU, as Grad-CAM and LayerCAM expect."""
_TOLERANCE = 1e-3


def look_with_torch(
    name: str,
    picture: Frame,
    *,
    weights: str,
    normalisation: Normalisation | None = None,
    wanted: int | None = None,
    seed: int = 0,
) -> Seen:
    """Show what a torchvision network sees.

    Args:
        name: A key of `gonogo.model.ARCHITECTURES`.
        picture: uint8 RGB.
        weights: As for `gonogo.model.load_backbone`. A file that ends early gives the stages that it has.
        normalisation: Of the input; by default torchvision's.
        wanted: The ImageNet class to look for; ``None`` for the likeliest.
        seed: Of random weights.

    Raises:
        InputError: There is no such backbone.
        WeightsError: The file is missing, or is for another architecture.
    """
    chosen = architecture(name)
    nodes = get_graph_node_names(chosen.build(weights=None).eval())[1]
    wanted_nodes = (*strided_cuts(name, (2, 4), chosen.side), *chosen.fine, chosen.last)
    cuts = tuple(dict.fromkeys(_last_node(nodes, each) for each in wanted_nodes))
    ends = (_last_node(nodes, chosen.fine[-1]), _last_node(nodes, chosen.last), nodes[-1])
    stack, whole = _opened(name, weights, cuts, ends, seed)
    network = FeatureNetwork(stack.eval(), normalisation or chosen.normalisation).eval()
    values = network.maps(torch.from_numpy(picture[None]))
    notes = [] if whole else [f"{Path(weights).name} has no classifier, so there is no class-activation map."]
    answer: str | None = None
    places: tuple[PlaceMap, ...] = ()
    if whole:
        found = dict(zip(stack.cuts, values, strict=True))
        answer, places, more = _places(stack, [found[end] for end in ends], picture.shape[0], wanted)
        notes += more
    if weights == "none":
        notes.append(f"The weights are random (seed {seed}): its classes mean nothing. Pass --weights FILE.")
    return Seen(
        network=name,
        weights={"none": "random weights", "imagenet": "ImageNet weights"}.get(weights, Path(weights).name),
        picture=picture,
        answer=answer,
        stages=tuple(
            _stage(number, cut, value, picture.shape[0])
            for number, (cut, value) in enumerate(zip(stack.cuts, values, strict=True), start=1)
            if cut in cuts
        ),
        places=places,
        notes=tuple(notes),
    )


def lite_gradient_places(name: str, picture: Frame, chosen: int) -> tuple[PlaceMap, ...]:
    """Grad-CAM and LayerCAM of a class of a published EfficientNet-Lite."""
    stack = FeatureStack(build_lite_classifier(name).eval(), (LITE_LAYER, "classifier"))
    network = FeatureNetwork(stack, architecture(name).normalisation).eval()
    layer, logits = network.maps(torch.from_numpy(picture[None]))
    return gradient_places(layer, logits, chosen, stride=round(picture.shape[0] / layer.shape[2]))


def gradient_places(layer: Tensor, logits: Tensor, chosen: int, *, stride: int) -> tuple[PlaceMap, ...]:
    """Grad-CAM and LayerCAM of a class, from the maps of a layer and the logits of the same forward pass."""
    (gradient,) = torch.autograd.grad(logits[0, chosen], [layer], retain_graph=True)
    features, gradients = layer[0].detach().numpy(), gradient[0].numpy()
    methods = {"Grad-CAM": grad_cam, "LayerCAM": layer_cam}
    return tuple(
        PlaceMap(title=f"{method}, stride {stride}", cells=work(features, gradients))
        for method, work in methods.items()
    )


def class_name(chosen: int) -> str:
    """The name of an ImageNet class."""
    name: str = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"][chosen]
    return name


def _last_node(nodes: Sequence[str], name: str) -> str:
    """The last operation of a module, so that two names of one map become one."""
    return [node for node in nodes if node == name or node.startswith(f"{name}.")][-1]


def _opened(
    name: str, weights: str, cuts: tuple[str, ...], ends: tuple[str, ...], seed: int
) -> tuple[FeatureStack, bool]:
    """The network with its classifier, or as many of its stages as the file has; and whether it is whole."""
    try:
        return load_backbone(name, weights=weights, cuts=(*dict.fromkeys((*cuts, *ends)),), seed=seed), True
    except WeightsError as error:
        if weights in ("none", "imagenet") or not Path(weights).is_file():
            raise
        for count in range(len(cuts), 0, -1):
            try:
                return load_backbone(name, weights=weights, cuts=cuts[:count], seed=seed), False
            except WeightsError:
                continue
        raise error from None


def _places(
    stack: FeatureStack, ends: Sequence[Tensor], height: int, wanted: int | None
) -> tuple[str, tuple[PlaceMap, ...], list[str]]:
    """What the network says, where it looks, and what cannot be shown."""
    layer, last, logits = ends
    chosen, share = likeliest(logits[0].detach().numpy(), wanted)
    answer = f"class {chosen} ({class_name(chosen)}), probability {share:.0%}"
    by_gradient = gradient_places(layer, logits, chosen, stride=round(height / layer.shape[2]))
    activation = _class_activation(stack, last, logits, chosen)
    if activation is None:
        return answer, by_gradient, ["It does not end in pooling and one dense layer: no class-activation map."]
    return answer, (*activation_places(*activation), *by_gradient), []


def _class_activation(stack: FeatureStack, last: Tensor, logits: Tensor, chosen: int) -> tuple[CellMap, float] | None:
    """The map of a class and the bias; ``None`` unless its mean plus the bias is the logit of the same pass."""
    features = last[0].detach().numpy()
    wanted = (logits.shape[1], len(features))
    for module in stack.body.modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d)) or module.weight.shape[:2] != wanted or module.bias is None:
            continue
        if module.weight[0, 0].numel() != 1:
            continue
        weight, bias = module.weight[chosen].detach().numpy().ravel(), float(module.bias[chosen].detach())
        cells = class_map(features, weight)
        if isinstance(module, nn.Conv2d):  # SqueezeNet: a ReLU follows, so the bias belongs to every cell
            cells, bias = np.maximum(cells + np.float32(bias), 0), 0.0
        logit = float(logits[0, chosen].detach())
        if abs(float(cells.mean()) + bias - logit) < _TOLERANCE * max(1.0, abs(logit)):
            return cells, bias
    return None


def _stage(number: int, cut: str, value: Tensor, height: int) -> Stage:
    maps = value[0].detach().numpy()
    return Stage(name=f"stage {number} ({cut})", stride=round(height / maps.shape[1]), maps=maps)
