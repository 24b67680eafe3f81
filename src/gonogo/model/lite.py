"""EfficientNet-Lite as a torch network, for fine-tuning: the same operations as the graph of `gonogo.backbone`."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from gonogo.array_types import Float
from gonogo.backbone import Conv, EfficientNetLite, efficientnet_lite, imagenet_head

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


class SameConv(nn.Sequential):
    """A convolution with TensorFlow's "same" padding, a batch normalisation initialised to the identity, and ReLU6."""

    def __init__(self, conv: Conv) -> None:
        outputs, inputs, size, _ = conv.weight.shape
        groups = outputs if conv.depthwise else 1
        layer = nn.Conv2d(inputs * groups, outputs, size, conv.stride, groups=groups, bias=False)
        norm = nn.BatchNorm2d(outputs, eps=1e-3)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(conv.weight))
            norm.bias.copy_(torch.from_numpy(conv.bias))
            norm.weight.fill_((1.0 + norm.eps) ** 0.5)
        pads = [nn.ZeroPad2d(_padding(size, conv.stride))] if size > 1 else []
        super().__init__(*pads, layer, norm, *([nn.ReLU6()] if conv.relu6 else []))


class LiteBlock(nn.Module):
    """A sequence of convolutions with an optional residual connection."""

    def __init__(self, convs: tuple[Conv, ...], *, residual: bool) -> None:
        super().__init__()
        self.convs = nn.Sequential(*map(SameConv, convs))
        self.residual = residual

    def forward(self, features: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
        """Map a feature map to the next."""
        found: Tensor = self.convs(features)
        return found + features if self.residual else found


def build_lite(name: str, *, random: bool = False) -> nn.Module:
    """Build an EfficientNet-Lite up to its last block, with nodes ``stride_8``, ``stride_16`` and ``stride_32``.

    Args:
        name: One of `NAMES`.
        random: Use random instead of ImageNet weights.

    Raises:
        InputError: The package with the weights is not installed.
    """
    network = _stages(efficientnet_lite(name))
    if random:
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
                module.reset_parameters()
    return network


def build_lite_classifier(name: str) -> nn.Module:
    """Build the published EfficientNet-Lite up to the logits of the 1,000 ImageNet classes, node ``classifier``.

    Raises:
        InputError: The package with the weights is not installed.
    """
    published = imagenet_head(name)
    dense = nn.Linear(published.weight.shape[1], len(published.weight))
    with torch.no_grad():
        dense.weight.copy_(torch.from_numpy(published.weight))
        dense.bias.copy_(torch.from_numpy(published.bias))
    ends = {"head": SameConv(published.conv), "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
    stages = dict(build_lite(name).named_children())
    return nn.Sequential(OrderedDict({**stages, **ends, "classifier": dense}))


def _stages(lite: EfficientNetLite) -> nn.Sequential:
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    waiting: list[nn.Module] = []
    for block in lite.blocks:
        waiting.append(LiteBlock(block.convs, residual=block.residual))
        if block.tap is not None:
            stages[f"stride_{block.tap}"] = nn.Sequential(*waiting)
            waiting = []
    return nn.Sequential(stages)


def _padding(size: int, stride: int) -> tuple[int, int, int, int]:
    """Padding left, right, top, bottom for sides divisible by the stride; the larger half comes last."""
    total = size - stride
    before, after = total // 2, total - total // 2
    return before, after, before, after
