"""EfficientNet-Lite as a list of convolutions, with batch normalisation folded in.

Source: Tan and Le (2019), "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"; the Lite
variants have ReLU6 for every activation and no squeeze-and-excite. Everything but the strides of the seven stages
follows from the shapes of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gonogo.array_types import Float32
from gonogo.backbone.packages import PACKAGES, package_file
from gonogo.backbone.weights_file import read_arrays
from gonogo.errors import InputError

STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
TAPPED_STAGES = {2: 8, 4: 16, 6: 32}
"""Stage (from 0) that ends with the last map of each stride."""
_EPSILON = 1e-3
"""Epsilon of the batch normalisation, as in the published training."""
MEAN, SCALE = 127.0, 128.0
"""The weights expect ``(pixel - MEAN) / SCALE`` of 0..255 RGB."""


@dataclass(frozen=True, kw_only=True)
class Conv:
    """A convolution with "same" padding and its bias, followed by ReLU6 where ``relu6``."""

    weight: Float32[np.ndarray, "outputs inputs rows columns"]
    """``outputs x 1 x rows x columns`` where ``depthwise``."""
    bias: Float32[np.ndarray, " outputs"]
    stride: int = 1
    depthwise: bool = False
    relu6: bool = True


@dataclass(frozen=True, kw_only=True)
class Block:
    """A sequence of convolutions; the input is added to the output if ``residual``."""

    convs: tuple[Conv, ...]
    residual: bool
    tap: int | None = None
    """Stride of the feature map that ends with this block."""


@dataclass(frozen=True, kw_only=True)
class EfficientNetLite:
    """A backbone up to its last block."""

    name: str
    blocks: tuple[Block, ...]

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the feature maps at strides 8, 16 and 32."""
        return tuple(len(block.convs[-1].bias) for block in self.blocks if block.tap is not None)

    def rounded(self) -> EfficientNetLite:
        """Round the weights to FP16, as they are stored in a bundle."""
        return replace(self, blocks=tuple(replace(block, convs=_rounded(block.convs)) for block in self.blocks))


@dataclass(frozen=True, kw_only=True)
class ImagenetHead:
    """The published end of the network, which inspection leaves off: a convolution, average pooling, a dense layer."""

    conv: Conv
    weight: Float32[np.ndarray, "classes channels"]
    bias: Float32[np.ndarray, " classes"]


def efficientnet_lite(name: str) -> EfficientNetLite:
    """Read a pretrained EfficientNet-Lite from its installed package.

    Raises:
        InputError: There is no such backbone, the package is not installed, or its file was changed.
    """
    return from_arrays(name, _published(name))


def imagenet_head(name: str) -> ImagenetHead:
    """Read the end of a pretrained EfficientNet-Lite that names the 1,000 ImageNet classes; raises as the network."""
    arrays = _published(name)
    return ImagenetHead(conv=_conv(arrays, "_conv_head", "_bn1"), weight=arrays["_fc.weight"], bias=arrays["_fc.bias"])


def _published(name: str) -> dict[str, np.ndarray]:
    if name not in PACKAGES:
        raise InputError(f"--backbone: expected one of {', '.join(PACKAGES)}, found {name!r}.")
    return read_arrays(package_file(name), sha256=PACKAGES[name].sha256)


def from_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> EfficientNetLite:
    """Build the network from the arrays of a published file, and fold the batch normalisation."""
    stem = Block(convs=(_conv(arrays, "_conv_stem", "_bn0", stride=2),), residual=False)
    count = len({key.split(".")[1] for key in arrays if key.startswith("_blocks.")})
    blocks, stage = [stem], -1
    for number in range(count):
        prefix = f"_blocks.{number}."
        inputs = len(blocks[-1].convs[-1].bias)
        outputs = len(arrays[f"{prefix}_project_conv.weight"])
        starts = outputs != inputs
        stage += starts
        last = number + 1 == count or len(arrays[f"_blocks.{number + 1}._project_conv.weight"]) != outputs
        blocks.append(
            Block(
                convs=_block_convs(arrays, prefix, stride=STAGE_STRIDES[stage] if starts else 1),
                residual=not starts,
                tap=TAPPED_STAGES.get(stage) if last else None,
            )
        )
    return EfficientNetLite(name=name, blocks=tuple(blocks))


def _block_convs(arrays: Mapping[str, np.ndarray], prefix: str, *, stride: int) -> tuple[Conv, ...]:
    """Expansion (if any), depthwise convolution and projection."""
    expand = []
    if f"{prefix}_expand_conv.weight" in arrays:
        expand = [_conv(arrays, f"{prefix}_expand_conv", f"{prefix}_bn0")]
    depthwise = _conv(arrays, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, depthwise=True)
    return (*expand, depthwise, _conv(arrays, f"{prefix}_project_conv", f"{prefix}_bn2", relu6=False))


def _conv(
    arrays: Mapping[str, np.ndarray],
    conv: str,
    norm: str,
    *,
    stride: int = 1,
    depthwise: bool = False,
    relu6: bool = True,
) -> Conv:
    factor = arrays[f"{norm}.weight"] / np.sqrt(arrays[f"{norm}.running_var"] + np.float32(_EPSILON))
    weight = arrays[f"{conv}.weight"] * factor[:, None, None, None]
    bias = arrays[f"{norm}.bias"] - arrays[f"{norm}.running_mean"] * factor
    return Conv(
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
        stride=stride,
        depthwise=depthwise,
        relu6=relu6,
    )


def _rounded(convs: tuple[Conv, ...]) -> tuple[Conv, ...]:
    return tuple(replace(conv, weight=conv.weight.astype(np.float16).astype(np.float32)) for conv in convs)
