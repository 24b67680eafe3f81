"""torch networks as frozen feature extractors, a user's own among them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from torch import nn
from torch.nn import functional

from gonogo.array_types import Float32, UInt8
from gonogo.backbone import OWN
from gonogo.errors import InputError
from gonogo.export import FrozenNetwork, frozen_networks
from gonogo.model import FeatureNetwork, Normalisation, OwnStack


@dataclass(frozen=True, kw_only=True)
class TorchBackbone:
    """A torch network cut at the maps of strides 8, 16 and 32.

    If the network ends at stride 16, the stride-32 map is the average-pooled stride-16 map.
    """

    name: str
    weights: str
    frozen: FrozenNetwork

    @property
    def network(self) -> FeatureNetwork:
        """The network in torch."""
        return self.frozen.features

    def graph(self, size_wh: tuple[int, int]) -> ov.Model:
        """A graph from ``frame`` to ``stride_8``, ``stride_16`` and ``stride_32``, for one picture of this size.

        Raises:
            InputError: the maps do not have strides 8, 16 and 32 at this size.
        """
        width, height = size_wh
        # A map that does not exist is reported here; while tracing, OpenVINO would wrap the error.
        self.reference(np.zeros((height, width, 3), np.uint8))
        graph = self.frozen.maps(size_wh)
        if len(graph.outputs) == 2:
            middle = graph.outputs[1].get_node().input_value(0)
            graph.add_results([ops.result(ops.avg_pool(middle, [2, 2], [0, 0], [0, 0], [2, 2], True))])
        if len(graph.outputs) != 3:
            raise InputError(f"--backbone {self.name}: expected the maps of two or three strides, found one.")
        for stride, output in zip((8, 16, 32), graph.outputs, strict=True):
            rows, columns = output.shape[2], output.shape[3]
            if (rows * stride, columns * stride) != (height, width):
                raise InputError(
                    f"--backbone {self.name}: expected {height // stride} x {width // stride} cells at stride {stride} "
                    f"of {width} x {height} pixels, found {rows} x {columns}. Choose another backbone or size, or "
                    "--finetune."
                )
            output.get_tensor().set_names({f"stride_{stride}"})
        return graph

    def reference(self, picture: UInt8[np.ndarray, "height width 3"]) -> list[Float32[np.ndarray, "_ _ _"]]:
        """Compute the same maps of one picture with torch."""
        with torch.no_grad():
            maps = self.network.maps(torch.from_numpy(picture[None]))
            if len(maps) == 2:
                maps.append(functional.avg_pool2d(maps[1], 2))
            return [each[0].numpy() for each in maps]


def own_backbone(
    module: nn.Module, maps: Sequence[str], *, normalisation: Normalisation, name: str = "own"
) -> TorchBackbone:
    """A network of your own as a backbone, for `TrainingOptions.own`.

    Args:
        module: Takes batch x 3 x height x width; it is copied, put into evaluation mode, and not trained by the default
            method.
        maps: Names of the modules whose outputs have strides 8, 16 and 32, as in ``module.named_modules()``. Without
            the last, the map of stride 32 is the average-pooled map of stride 16.
        normalisation: What the module expects: ``(pixel - mean) / std`` on RGB values from 0 to 255.
        name: What manifests and model cards call it.

    Raises:
        InputError: the module has no such modules, or there are not two or three of them.
    """
    if len(maps) not in (2, 3):
        raise InputError(f"maps: expected the modules of strides 8, 16 and 32, or 8 and 16, found {len(maps)}.")
    stack = OwnStack(copy.deepcopy(module).cpu(), tuple(maps))
    return TorchBackbone(name=name, weights=OWN, frozen=frozen_networks(stack, [normalisation])[0])
