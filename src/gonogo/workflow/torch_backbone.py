"""Backbones of torchvision as frozen feature extractors."""

from __future__ import annotations

from pathlib import Path

from gonogo.backbone import Backbone
from gonogo.errors import InputError
from gonogo.export import frozen_networks
from gonogo.model import architecture, load_backbone
from gonogo.workflow.normalisation import candidates
from gonogo.workflow.options import TrainingOptions
from gonogo.workflow.own_backbone import TorchBackbone


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
    stack = load_backbone(options.backbone, weights=options.weights, cuts=cuts, seed=options.seed)
    weights = options.weights if options.weights in ("imagenet", "none") else Path(options.weights).name
    return [
        TorchBackbone(name=options.backbone, weights=weights, frozen=each)
        for each in frozen_networks(stack, candidates(options.normalisation, options.backbone, options.weights))
    ]
