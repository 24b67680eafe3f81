"""The backbone protocol, and the pretrained backbones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import openvino as ov

from gonogo.array_types import Float32, UInt8
from gonogo.backbone.efficientnet_lite import EfficientNetLite, efficientnet_lite
from gonogo.backbone.graph import features_graph
from gonogo.backbone.reference import reference_features


class Backbone(Protocol):
    """A frozen network that maps pictures to feature maps at strides 8, 16 and 32."""

    @property
    def name(self) -> str:
        """What ``--backbone`` calls it."""

    @property
    def weights(self) -> str:
        """Where its weights come from."""

    def graph(self, size_wh: tuple[int, int]) -> ov.Model:
        """A graph from ``frame`` to ``stride_8``, ``stride_16`` and ``stride_32``, for one picture of this size."""

    def reference(self, picture: UInt8[np.ndarray, "height width 3"]) -> list[Float32[np.ndarray, "_ _ _"]]:
        """Compute the same maps of one picture without OpenVINO; each channels x rows x columns."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """An EfficientNet-Lite from its package, with weights rounded as in a bundle."""

    network: EfficientNetLite

    @property
    def name(self) -> str:
        """What ``--backbone`` calls it."""
        return self.network.name

    @property
    def weights(self) -> str:
        """Where its weights come from."""
        return "imagenet"

    def graph(self, size_wh: tuple[int, int]) -> ov.Model:
        """A graph from ``frame`` to ``stride_8``, ``stride_16`` and ``stride_32``, for one picture of this size."""
        return features_graph(self.network, size_wh)

    def reference(self, picture: UInt8[np.ndarray, "height width 3"]) -> list[Float32[np.ndarray, "_ _ _"]]:
        """Compute the same maps of one picture in numpy."""
        return reference_features(self.network, picture)


def pretrained(name: str) -> Pretrained:
    """Read a backbone from its installed package.

    Raises:
        InputError: There is no such backbone, the package is not installed, or its file was changed.
    """
    return Pretrained(network=efficientnet_lite(name).rounded())
