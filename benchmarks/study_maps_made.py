"""Train heads and evidence on a fold and compute every map of its test pictures; time what each map costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import openvino as ov
import torch

from bench.clock import take_turns
from gonogo import runtime
from gonogo.backbone import pretrained
from gonogo.dataset import Sample
from gonogo.evidence import FeatureTable, Weighted, classifier_graph, fit_evidence, judge_reference, out_of_fold
from gonogo.evidence.grid import joined
from gonogo.look.maps import class_map, grad_cam, layer_cam
from gonogo.model import SHARPNESS, FeatureNetwork, MapHead, Pool, architecture, load_backbone
from gonogo.progress import track
from gonogo.runtime import Picture
from gonogo.source import TrainingSource
from gonogo.train.features import Maps, Pooled
from gonogo.train.head import LinearHead, fit_map, fit_mean
from study_evidence import BACKBONE, chosen

STRIDES = (8, 16, 32)
LAYER = "stride_32.0.convs.0.2"
"""Layer of Grad-CAM and LayerCAM: the last of stride 16, after its ReLU, as both methods expect. At the layer that is
pooled, Grad-CAM is the class-activation map."""
POOLINGS = {"average": Pool.MEAN, "maximum": Pool.MAX, "log-sum-exp": Pool.LSE}
LAST, JOINED = "stride 32", "strides 8, 16, 32"
"""What a head sees: the last map, as in the article, or the maps that the evidence sees, on the grid of stride 16."""
EVIDENCE, WITH_MASKS = "evidence, labels", "evidence, labels and masks"

FoldMaps = dict[str, np.ndarray]
Heads = dict[tuple[str, str], LinearHead]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The pictures of a fold, as rows of the table."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def name_of(method: str, seen: str) -> str:
    """Name of a map in the table."""
    return f"{method} | {seen}"


def fit_heads(table: FeatureTable, fold: Fold) -> Heads:
    """Train a head on the labels of pictures for each of the features and poolings, as fine-tuning starts."""
    heads: Heads = {}
    for seen in (LAST, JOINED):
        stored = table.joined if seen == JOINED else table.joined[:, -table.widths[2] :, ::2, ::2]
        train, val = (
            Maps(maps=np.asarray(stored[rows])[:, None], bad=table.bad[rows]) for rows in (fold.train, fold.val)
        )
        mean = fit_mean(*(Pooled(vectors=_means(each), bad=each.bad) for each in (train, val)))
        for pooling, pool in POOLINGS.items():
            tried = mean if pool is Pool.MEAN else fit_map(mean, train, val, pool=pool, sharpness=SHARPNESS, seed=0)
            heads[seen, pooling] = tried
    return heads


def _means(maps: Maps) -> np.ndarray:
    return np.stack([each.astype(np.float32).mean((2, 3)) for each in maps.maps])


def fit_weighted(table: FeatureTable, fold: Fold, *, masks: bool) -> Weighted:
    """Fit gonogo's default method on the training pictures of a fold."""
    rows = np.sort(np.concatenate([fold.train, fold.val]))
    some = chosen(table if masks else replace(table, targets=None), rows)
    return fit_evidence(some, out_of_fold(some, seed=0), seed=0)


class Gradients:
    """The torch network with heads that were trained with average pooling."""

    def __init__(self, heads: Heads) -> None:
        cuts = (*(f"stride_{stride}" for stride in STRIDES), LAYER)
        stack = load_backbone(BACKBONE, weights="imagenet", cuts=cuts)
        self._features = FeatureNetwork(stack, architecture(BACKBONE).normalisation).eval()
        self._heads = {seen: _mean_head(heads[seen, "average"]) for seen in (LAST, JOINED)}

    def layer(self, picture: Picture, seen: str) -> tuple[np.ndarray, np.ndarray]:
        """Feature maps of `LAYER`, and the derivative of the score by them."""
        *maps, layer = self._features.maps(torch.from_numpy(picture[None]))
        score, _ = self._heads[seen](*(maps if seen == JOINED else maps[-1:]))
        (gradient,) = torch.autograd.grad(score.sum(), [layer])
        return layer[0].detach().numpy(), gradient[0].numpy()

    def class_map(self, picture: Picture) -> np.ndarray:
        """The class-activation map of the same network in torch, without a gradient."""
        with torch.no_grad():
            maps = self._features.maps(torch.from_numpy(picture[None]))
            found: np.ndarray = self._heads[LAST](maps[len(STRIDES) - 1])[1][0].numpy()
            return found


def _mean_head(fitted: LinearHead) -> MapHead:
    head = MapHead(len(fitted.weight), Pool.MEAN)
    with torch.no_grad():
        head.conv.weight.copy_(torch.from_numpy(fitted.weight)[None, :, None, None])
        head.bias.fill_(fitted.bias)
    return head.eval()


def fold_maps(source: TrainingSource, table: FeatureTable, fold: Fold, samples: list[Sample]) -> FoldMaps:
    """Train on a fold and compute every map of its test pictures, by method: pictures x rows x columns."""
    heads = fit_heads(table, fold)
    gradients = Gradients(heads)
    weighted = {name: fit_weighted(table, fold, masks=name == WITH_MASKS) for name in (EVIDENCE, WITH_MASKS)}
    graph = runtime.compile_graph(pretrained(BACKBONE).graph(source.size_wh))
    found: dict[str, list[np.ndarray]] = {}
    for picture in track(source.plain(samples), "maps", total=len(samples)):
        for name, each in _maps_of(picture, graph, heads, gradients, weighted):
            found.setdefault(name, []).append(each)
    return {name: np.stack(maps) for name, maps in found.items()}


def _maps_of(
    picture: Picture,
    graph: Callable[[Picture], dict[str, np.ndarray]],
    heads: Heads,
    gradients: Gradients,
    weighted: Mapping[str, Weighted],
) -> Iterator[tuple[str, np.ndarray]]:
    outputs = graph(picture)
    maps = [outputs[f"stride_{stride}"][0] for stride in STRIDES]
    features = {LAST: maps[2], JOINED: joined(maps)}
    for (seen, pooling), head in heads.items():
        yield name_of(f"CAM, {pooling}", seen), class_map(features[seen], head.weight)
    for seen in features:
        layer, gradient = gradients.layer(picture, seen)
        yield name_of("Grad-CAM", seen), grad_cam(layer, gradient)
        yield name_of("LayerCAM", seen), layer_cam(layer, gradient)
    for name, each in weighted.items():
        yield name_of(name, JOINED), judge_reference(each, maps).heatmap


def ratios(size_wh: tuple[int, int], heads: Heads, weighted: Weighted, *, repeats: int) -> dict[str, float]:
    """Processor time of each method by turns on one thread, in ms; the backbone alone is the first row."""
    torch.set_num_threads(1)
    backbone, gradients = pretrained(BACKBONE).graph(size_wh), Gradients(heads)
    alone = runtime.compile_graph(backbone, threads=1)
    with_map = runtime.compile_graph(_with_class_map(size_wh, heads[LAST, "average"].weight), threads=1)
    whole = classifier_graph(pretrained(BACKBONE).graph(size_wh), weighted, labels=("good", "bad"))
    with_evidence = runtime.compile_graph(whole, threads=1)
    picture = np.random.default_rng(0).integers(0, 256, (size_wh[1], size_wh[0], 3)).astype(np.uint8)
    times = take_turns(
        {
            "backbone alone (OpenVINO)": lambda: alone(picture),
            "CAM, any pooling (OpenVINO)": lambda: with_map(picture),
            "evidence (OpenVINO)": lambda: with_evidence(picture),
            "CAM, any pooling (torch)": lambda: gradients.class_map(picture),
            "Grad-CAM (torch)": lambda: grad_cam(*gradients.layer(picture, LAST)),
            "LayerCAM (torch)": lambda: layer_cam(*gradients.layer(picture, LAST)),
        },
        repeats=repeats,
        clock=time.process_time,
    )
    return {name: round(each.median_ms, 2) for name, each in times.items()}


def _with_class_map(size_wh: tuple[int, int], weight: np.ndarray) -> ov.Model:
    from openvino import opset13 as ops

    graph = pretrained(BACKBONE).graph(size_wh)
    last = graph.output("stride_32").get_node().input_value(0)
    kernel = ops.constant(weight[None, :, None, None].astype(np.float32))
    node = ops.convolution(last, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    node.output(0).get_tensor().set_names({"map"})
    return ov.Model([ops.result(node)], graph.get_parameters(), "class_map")
