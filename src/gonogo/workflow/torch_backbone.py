"""Backbones of torchvision as frozen feature extractors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from torch.nn import functional

from gonogo.array_types import Float32, UInt8
from gonogo.backbone import Backbone
from gonogo.errors import InputError
from gonogo.export import export_maps
from gonogo.model import FeatureNetwork, architecture, load_backbone
from gonogo.workflow.normalisation import candidates
from gonogo.workflow.options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class TorchBackbone:
    """A torch network cut at the maps of strides 8, 16 and 32.

    If the network ends at stride 16, the stride-32 map is the average-pooled stride-16 map.
    """

    name: str
    weights: str
    network: FeatureNetwork

    def graph(self, size_wh: tuple[int, int]) -> ov.Model:
        """A graph from ``frame`` to ``stride_8``, ``stride_16`` and ``stride_32``, for one picture of this size.

        Raises:
            InputError: the maps do not have strides 8, 16 and 32 at this size.
        """
        graph = export_maps(self.network, size_wh)
        if len(graph.outputs) == 2:
            middle = graph.outputs[1].get_node().input_value(0)
            graph.add_results([ops.result(ops.avg_pool(middle, [2, 2], [0, 0], [0, 0], [2, 2], True))])
        width, height = size_wh
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


def torch_backbones(options: TrainingOptions) -> list[Backbone]:
    """Open the requested backbone, once for each input normalisation that its weights may expect.

    Raises:
        InputError: the backbone is unknown, or its maps have other strides.
    """
    chosen = architecture(options.backbone)
    cuts = options.cuts or (*chosen.fine, chosen.last)
    if len(cuts) == 1:
        cuts = (chosen.fine[0], *cuts)
    if len(cuts) > 3:
        raise InputError(f"--cut: expected at most three feature maps, of strides 8, 16 and 32, found {len(cuts)}.")
    stack = load_backbone(options.backbone, weights=options.weights, cuts=cuts, seed=options.seed).eval()
    weights = options.weights if options.weights in ("imagenet", "none") else Path(options.weights).name
    return [
        TorchBackbone(name=options.backbone, weights=weights, network=FeatureNetwork(stack, each).eval())
        for each in candidates(options.normalisation, options.backbone, options.weights)
    ]
