"""Fits a head on the features of a frozen backbone, from labels or from masks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch

from gonogo import runtime
from gonogo.augment import PLAIN, Augmentation
from gonogo.config import settings
from gonogo.dataset import Dataset, Sample, Split
from gonogo.export import FrozenNetwork, frozen_networks, network_shift
from gonogo.model import SHARPNESS, MapHead, Network, Pool, architecture, load_backbone
from gonogo.progress import console
from gonogo.source import TrainingSource, masked
from gonogo.train import (
    LinearHead,
    Pooled,
    cross_validated_loss,
    defect_maps,
    discriminants,
    feature_maps,
    fit_map,
    fit_mean,
    fit_score,
    gather_cells,
    pooled_features,
    stream_maps,
)
from gonogo.train.checkpoint import run_identity
from gonogo.workflow.normalisation import candidates
from gonogo.workflow.options import TrainingOptions


def resolve_options(options: TrainingOptions, dataset: Dataset) -> TrainingOptions:
    """Fill in defaults that depend on the data: with masks, use a finer map and log-sum-exp pooling."""
    masks = options.masks and options.pool is not Pool.MEAN and masked(dataset.split(Split.TRAIN))
    if masks:
        console.print("Bad pictures have masks: the head is trained per cell (use --no-masks to train on labels only).")
    pool = options.pool or (Pool.LSE if masks else Pool.MEAN)
    if options.own is not None:  # all its maps are used
        return replace(options, masks=masks, pool=pool)
    chosen = architecture(options.backbone)
    return replace(
        options,
        masks=masks,
        pool=pool,
        cuts=options.cuts or ((*chosen.fine, chosen.last) if masks else ()),
    )


def train_frozen(source: TrainingSource, options: TrainingOptions) -> tuple[Network, LinearHead]:
    """Load the pretrained backbone and fit a head on its features."""
    frozen = _choose_features(source, options)
    assert options.pool is not None, "set by resolve_options"
    head = (_fit_on_cells if options.masks else _fit_on_labels)(source, frozen, options, options.pool)
    network = Network(frozen.features, MapHead(len(head.weight), options.pool, context=head.context is not None))
    with torch.no_grad():
        network.head.conv.weight.copy_(torch.from_numpy(head.weight)[None, :, None, None])
        if network.head.context is not None:
            network.head.context.weight.copy_(torch.from_numpy(head.context)[None])
        network.head.bias.fill_(head.bias)
    return network.eval(), head


def _fit_on_labels(source: TrainingSource, frozen: FrozenNetwork, options: TrainingOptions, pool: Pool) -> LinearHead:
    """Fit the head on labels of pictures."""
    train, val = source.dataset.split(Split.TRAIN), source.dataset.split(Split.VAL)
    head = fit_mean(*_pooled_pair(source, frozen, options))
    if pool is Pool.MEAN:
        return head
    graph = runtime.compile_graph(frozen.joined(source.size_wh), many=True)
    scratch = settings().cache_dir / "scratch"
    maps = [
        feature_maps(graph, source, samples, augmentation, seed=options.seed, scratch=scratch)
        for samples, augmentation in ((train, options.augmentation), (val, PLAIN))
    ]
    return fit_map(head, *maps, pool=pool, sharpness=SHARPNESS, seed=options.seed)


def _fit_on_cells(source: TrainingSource, frozen: FrozenNetwork, options: TrainingOptions, pool: Pool) -> LinearHead:
    """Fit the head on labelled cells of the map; context, scale and bias are fitted on pictures."""
    pooled = _pooled_pair(source, frozen, options)
    context = fit_mean(*pooled).weight
    train, val = source.dataset.split(Split.TRAIN), source.dataset.split(Split.VAL)
    shift_xy = network_shift(frozen.features, source.size_wh)
    graph = runtime.compile_graph(frozen.maps(source.size_wh), many=True)
    cells = gather_cells(graph, source, train, options.augmentation, seed=options.seed, shift_xy=shift_xy)
    tried = discriminants(cells)
    maps = defect_maps(stream_maps(graph, source, val, PLAIN, seed=options.seed), tried)
    return fit_score(tried, maps, pooled[1], context=context, pool=pool, sharpness=SHARPNESS, shift_xy=shift_xy)


def _pooled_pair(source: TrainingSource, frozen: FrozenNetwork, options: TrainingOptions) -> tuple[Pooled, Pooled]:
    """Mean-pooled features of train with all augmentations, and of val without."""
    train, val = source.dataset.split(Split.TRAIN), source.dataset.split(Split.VAL)
    return (
        _pooled(source, frozen, train, options, options.augmentation, seed=options.seed),
        _pooled(source, frozen, val, options, PLAIN, seed=options.seed),
    )


def _pooled(
    source: TrainingSource,
    frozen: FrozenNetwork,
    samples: Sequence[Sample],
    options: TrainingOptions,
    augmentation: Augmentation,
    *,
    seed: int,
) -> Pooled:
    """Mean-pooled features, cached."""
    return pooled_features(
        runtime.compile_graph(frozen.pooled(source.size_wh), many=True),
        source,
        samples,
        augmentation,
        seed=seed,
        cache=settings().cache_dir / "features",
        identity=run_identity(frozen.features, options.backbone, frozen.features.stack.cuts, source.identity),
    )


def _choose_features(source: TrainingSource, options: TrainingOptions) -> FrozenNetwork:
    """The backbone with the declared input normalisation, or with the better one by cross-validation."""
    if options.own is not None:
        own = options.own.frozen
        return replace(own, features=copy.deepcopy(own.features))  # fine-tuning changes it
    stack = load_backbone(options.backbone, weights=options.weights, cuts=options.cuts, seed=options.seed)
    tried = frozen_networks(stack, candidates(options.normalisation, options.backbone, options.weights))
    if len(tried) == 1:
        return tried[0]
    train = source.dataset.split(Split.TRAIN)
    parts = [sample.part_id for sample in train]
    losses = [cross_validated_loss(_pooled(source, each, train, options, PLAIN, seed=0), parts) for each in tried]
    names = ("ImageNet mean and deviation", "[-1, 1]")
    best = losses.index(min(losses))
    losses_by_name = ", ".join(f"{name}: {loss:.3f}" for name, loss in zip(names, losses, strict=True))
    console.print(f"Input normalisation chosen by cross-validation (loss with {losses_by_name}): {names[best]}.")
    return tried[best]
