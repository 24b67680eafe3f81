"""What a backbone must offer, and the ones that come with a package."""

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
    """Turns pictures into feature maps at strides 8, 16 and 32; frozen."""

    @property
    def name(self) -> str:
        """What ``--backbone`` calls it."""

    @property
    def weights(self) -> str:
        """Where its weights come from."""

    def graph(self, size_wh: tuple[int, int]) -> ov.Model:
        """A graph from ``frame`` to ``stride_8``, ``stride_16`` and ``stride_32``, for one picture of this size."""

    def reference(self, picture: UInt8[np.ndarray, "height width 3"]) -> list[Float32[np.ndarray, "_ _ _"]]:
        """The same maps of one picture, computed without OpenVINO; each channels x rows x columns."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """An EfficientNet-Lite from its package, as a bundle holds it."""

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
        """The same maps of one picture in plain numpy."""
        return reference_features(self.network, picture)


def pretrained(name: str) -> Pretrained:
    """Read a backbone from its installed package.

    Raises:
        InputError: no such backbone, the package is not installed, or its file was changed.
    """
    return Pretrained(network=efficientnet_lite(name).rounded())
