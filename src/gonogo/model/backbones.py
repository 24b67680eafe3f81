"""torchvision backbones by name, cut at their last or an earlier feature map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from gonogo.array_types import Float
from gonogo.errors import InputError
from gonogo.model.lite import NAMES as LITE_NAMES
from gonogo.model.lite import build_lite


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Input normalisation of a backbone's weights: ``(pixel - mean) / std`` on 0..255 RGB."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""torchvision's default normalisation."""
LITE = Normalisation(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
"""EfficientNet-Lite's."""
SYMMETRIC = Normalisation(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
"""Normalisation to [-1, 1], as in TensorFlow's and Keras' MobileNets and Inception."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How torchvision builds a network, and the nodes of its feature maps."""

    build: Callable[..., nn.Module]
    last: str
    """The node whose output is the last feature map."""
    fine: tuple[str, ...]
    """Nodes whose maps have strides 8 and 16, with many channels.

    They are joined with the last map if the head is trained on masks.
    """
    side: int = 224
    """Picture side for which the network was designed, in pixels."""
    normalisation: Normalisation = IMAGENET
    packaged: bool = False
    """Whether the ImageNet weights come from an installed package instead of torchvision's download."""


def _lite(name: str) -> Callable[..., nn.Module]:
    return lambda weights=None: build_lite(name, random=weights is None)


def _inception_v3(weights: object = None) -> nn.Module:
    # The published weights include an auxiliary head; the input transform is done by Normalisation here.
    network: nn.Module = torchvision.models.inception_v3(
        weights=weights, transform_input=False, init_weights=False, aux_logits=weights is not None
    )
    return network


ARCHITECTURES = {
    "densenet121": Architecture(
        build=torchvision.models.densenet121, last="relu", fine=("features.denseblock2", "features.denseblock3")
    ),
    "efficientnet_b0": Architecture(
        build=torchvision.models.efficientnet_b0,
        last="features",
        fine=("features.4.0.block.0", "features.6.0.block.0"),
    ),
    **{
        name: Architecture(
            build=_lite(name), last="stride_32", fine=("stride_8", "stride_16"), normalisation=LITE, packaged=True
        )
        for name in LITE_NAMES
    },
    "inception_v3": Architecture(
        build=_inception_v3, last="Mixed_7c", fine=("Mixed_5d", "Mixed_6e"), side=299, normalisation=SYMMETRIC
    ),
    "mobilenet_v2": Architecture(
        build=torchvision.models.mobilenet_v2, last="features", fine=("features.7.conv.0", "features.14.conv.0")
    ),
    "mobilenet_v3_large": Architecture(
        build=torchvision.models.mobilenet_v3_large, last="features", fine=("features.7.block.0", "features.13.block.0")
    ),
    "mobilenet_v3_small": Architecture(
        build=torchvision.models.mobilenet_v3_small, last="features", fine=("features.4.block.0", "features.9.block.0")
    ),
    "resnet18": Architecture(build=torchvision.models.resnet18, last="layer4", fine=("layer2", "layer3")),
    "resnet34": Architecture(build=torchvision.models.resnet34, last="layer4", fine=("layer2", "layer3")),
    "resnet50": Architecture(build=torchvision.models.resnet50, last="layer4", fine=("layer2", "layer3")),
    "squeezenet1_1": Architecture(
        build=torchvision.models.squeezenet1_1, last="features", fine=("features.7", "features.12")
    ),
}


def architecture(name: str) -> Architecture:
    """Look a backbone up by name.

    Raises:
        InputError: There is no such backbone.
    """
    if name not in ARCHITECTURES:
        raise InputError(f"--backbone: expected one of {', '.join(ARCHITECTURES)}, found {name!r}.")
    return ARCHITECTURES[name]


def strided_cuts(name: str, strides: tuple[int, ...], side: int) -> tuple[str, ...]:
    """For each stride, the last node of a backbone, one or two modules deep, whose map is closest to it."""
    network = architecture(name).build(weights=None).eval()
    body = create_feature_extractor(network, {node: node for node in _modules(network)})
    with torch.no_grad():
        found = body(torch.zeros(1, 3, side, side))
    cuts = []
    for stride in strides:
        off = {node: abs(math.log(side / value.shape[-1] / stride)) for node, value in found.items() if value.ndim == 4}
        cuts.append([node for node, distance in off.items() if distance == min(off.values())][-1])
    return tuple(cuts)


class FeatureStack(nn.Module):
    """A backbone cut at one or more feature maps, which are upsampled to the finest grid and joined along channels.

    Coarser maps are repeated, not interpolated, so that the mean over the grid equals that of the coarse map if one
    grid divides the other.
    """

    def __init__(self, network: nn.Module, cuts: tuple[str, ...]) -> None:
        super().__init__()
        self.cuts = cuts
        self.body = create_feature_extractor(network, {cut: cut for cut in cuts})

    def forward(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels rows columns"]:
        """Map normalised pictures to joined feature maps."""
        return join_maps(self.maps(pictures))

    def maps(self, pictures: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Map normalised pictures to the feature map of each cut, at its original resolution."""
        found = self.body(pictures)
        return [found[cut] for cut in self.cuts]


def on_finest(maps: Sequence[Tensor]) -> list[Tensor]:
    """Repeat coarser maps (batch x channels x rows x columns) on the finest of their grids."""
    finest = max((each.shape[-2:] for each in maps), key=lambda shape: int(shape[0]))
    return [functional.interpolate(each, size=finest, mode="nearest") for each in maps]


def join_maps(maps: Sequence[Tensor]) -> Tensor:
    """Join feature maps (batch x channels x rows x columns) along channels, on the finest of their grids."""
    return maps[0] if len(maps) == 1 else torch.cat(on_finest(maps), dim=1)


class Pixels(nn.Module):
    """Identity backbone of a locator without pretrained weights; the trunk learns everything from pixels."""

    cuts: tuple[str, ...] = ()

    def forward(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Return the normalised pictures unchanged."""
        return pictures

    def maps(self, pictures: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Return the normalised pictures as the only map."""
        return [pictures]


def feature_stack(name: str, network: nn.Module, cuts: tuple[str, ...] = ()) -> FeatureStack:
    """Cut a torchvision network at some nodes; by default at its last feature map.

    Raises:
        InputError: The network has no such node.
    """
    cuts = cuts or (architecture(name).last,)
    try:
        return FeatureStack(network, cuts)
    except ValueError:
        raise InputError(f"--cut: {name} has no node {', '.join(cuts)!r}; it has {_outline(network)}.") from None


def _outline(network: nn.Module) -> str:
    return ", ".join(sorted(_modules(network), key=lambda node: [part.zfill(4) for part in node.split(".")])[:40])


def _modules(network: nn.Module) -> list[str]:
    """Nodes to cut at: the modules one and two levels deep, in order of evaluation."""
    _, nodes = get_graph_node_names(network)
    return list(dict.fromkeys(".".join(node.split(".")[:2]) for node in nodes if "." in node))
