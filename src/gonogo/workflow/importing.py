"""Makes a sealed bundle of a classifier that was trained in another framework."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from gonogo import runtime
from gonogo.array_types import Float32, UInt8
from gonogo.bundle import Bundle
from gonogo.certification import Certified
from gonogo.config import Zone
from gonogo.dataset import Dataset, Sample, Split, require_trainable
from gonogo.dataset.judged import refuse_redealt
from gonogo.errors import InputError, ParityError, UnfitError
from gonogo.evaluate.curves import auroc_interval
from gonogo.evidence import measure_shift
from gonogo.evidence.cells import SHARPNESS
from gonogo.files import folder_beside
from gonogo.imported import (
    Declaration,
    FittedMap,
    ImportedNet,
    OpenedModel,
    classifier_of,
    imported_net,
    layer_name,
    open_model,
    own_score,
    prepared_array,
)
from gonogo.inspector import Inspector
from gonogo.manifest import Classifier, ModelOrigin
from gonogo.progress import console, track
from gonogo.runtime import Graph, difference
from gonogo.schema import Label
from gonogo.signing import NOT_REQUIRED
from gonogo.source import TrainingSource, labels
from gonogo.workflow.fitted_map import FittedScore, fit_map
from gonogo.workflow.made_with import write_made_with
from gonogo.workflow.options import LocatorOptions, Promise
from gonogo.workflow.region import IDENTITY, keep_roi
from gonogo.workflow.sealing import Built, Unseen, fill_bundle
from gonogo.workflow.training import make_source
from gonogo.zoning import zone_names

COMPARED_PICTURES = 16
"""Number of val pictures on which the scores are compared with those of the framework."""
TOLERANCE = 1e-4
"""Largest allowed difference of a score, or of a probability where the model gives probabilities; for scores beyond 1
relative to the score."""


@dataclass(frozen=True, kw_only=True)
class ImportedBundle:
    """Result of an import."""

    bundle: Bundle
    certified: Certified
    largest_difference: float
    """Largest difference to the framework's own scores, see `TOLERANCE`."""
    val: Unseen | None
    """AUROC on val, which the model may have been trained on; ``None`` if all parts have the same label."""

    @property
    def origin(self) -> ModelOrigin:
        """What the manifest says about the model."""
        found = self.bundle.manifest.classifier.imported
        assert found is not None, "import_model sets it"
        return found


def import_model(
    model: Path,
    dataset: Dataset,
    out: Path,
    declared: Declaration,
    *,
    map_layer: str | None = None,
    roi: str = "none",
    zones: tuple[Zone, ...] = (),
    promise: Promise | None = None,
    overwrite: bool = False,
) -> ImportedBundle:
    """Import a classifier, compare its scores with those of its framework, certify it and seal it in a bundle.

    The model is not trained. Val gives the colour scale, calibrate the thresholds, train and val the reference of the
    out-of-distribution check. The certificate holds only if the model was not trained on calibrate parts.

    Args:
        model: See `gonogo.imported.open_model`.
        dataset: A labelled and split data set.
        out: Path of the new bundle.
        declared: Preprocessing, classes and head.
        map_layer: Feature map for a fitted heat map, see `gonogo.workflow.fitted_map`; default the map in closed form.
        roi: ``none`` or the path of a ROI config.
        zones: Ignore zones. They are blanked before the network; what it pools is not changed.
        promise: What to certify; default `Promise()`.
        overwrite: Replace an existing bundle once the new one is complete.

    Raises:
        InputError: the model cannot be read, the declaration is incomplete, the data are unsuitable, or ``out`` exists.
        UnfitError: bad parts score lower than good ones, or no map can be fitted.
        ParityError: the graph differs from the model.
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out}: already exists. Choose another --out, or pass --overwrite.")
    if roi == "learned":
        raise InputError("--roi: expected none or the path of a ROI config. Make one with: gonogo roi tune")
    if names := zone_names(zones):
        raise InputError(
            f"--zones: expected ignore zones only, found {', '.join(names)}. An imported network has one score for the "
            "whole part; train a network to inspect zones by themselves: gonogo train --zones"
        )
    require_trainable(dataset, good_only=True)
    refuse_redealt(dataset)
    with console.status(f"reading {model.name}"):
        opened = open_model(model)
        net = imported_net(opened, declared)
    work = out.with_name(f"{out.name}.work")
    search = keep_roi(roi, dataset, work / "roi", LocatorOptions())
    source = make_source(dataset, search, net.declared.frame_wh, zones)
    built = _built(opened, net, source, map_layer)
    with folder_beside(out, replace=overwrite) as partial:
        if search is not None:
            shutil.copytree(work / "roi", partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(IDENTITY))
        write_made_with(partial, dataset, built.left_out)
        draft = fill_bundle(
            partial,
            out.name,
            built,
            search,
            reduction=1,
            reduced_by="decoder",
            promise=promise or Promise(),
            facts={},
            trained_on=dataset,
        )
        draft.seal()
    shutil.rmtree(work, ignore_errors=True)
    sealed = Inspector.load(out, policy=NOT_REQUIRED).bundle  # loaded like by a user, including the golden frames
    difference = sealed.manifest.training["parity"]
    assert isinstance(difference, float)
    return ImportedBundle(bundle=sealed, certified=draft.certified, largest_difference=difference, val=built.unseen)


def _built(opened: OpenedModel, net: ImportedNet, source: TrainingSource, map_layer: str | None) -> Built:
    samples = source.dataset.split(Split.TRAIN, Split.VAL)
    score = None if map_layer is None else fit_map(net, map_layer, source, samples)
    layer = net.explained.features[0] if net.explained is not None else None
    fitted = None
    if map_layer is not None and score is not None:
        layer = net.layer(map_layer)
        fitted = FittedMap(layer=layer, weight=score.weight)
    shift_xy = (0.0, 0.0) if layer is None else _shift(runtime.compile_graph(net.maps(layer)), net.declared.frame_wh)
    origin = _origin(opened, net, None if layer is None else layer_name(layer), score)
    graph = classifier_of(net, fitted)
    compiled = runtime.compile_graph(graph)
    uniform = origin.map == "fitted" or (net.explained is not None and not net.explained.linear)
    return Built(
        graph=graph,
        source=source,
        classifier=Classifier(
            backbone=f"imported from {opened.framework}",
            cuts=(origin.map_layer,) if origin.map_layer else (),
            pool="none" if origin.map == "none" else "mean",
            sharpness=SHARPNESS,
            bias=0.0 if uniform or origin.map == "none" else _bias(compiled, net.declared.frame_wh),
            weights=opened.path.name,
            context=uniform,
            imported=origin,
        ),
        shift_xy=shift_xy,
        check=lambda checked: _largest_difference(opened, net, checked, source),
        unseen=_on_val(compiled, source),
    )


def _origin(opened: OpenedModel, net: ImportedNet, layer: str | None, score: FittedScore | None) -> ModelOrigin:
    kind: Literal["exact", "fitted"] = "exact" if score is None else "fitted"
    return ModelOrigin(
        framework=opened.framework,
        file=opened.path.name,
        sha256=opened.sha256,
        declared=net.declared.model_dump(mode="json"),
        compared_with=opened.runner,
        map="none" if layer is None else kind,
        map_layer=layer or "",
        map_r2=None if score is None else score.r2,
        no_map=net.why_not,
    )


def _shift(graph: Graph, size_wh: tuple[int, int]) -> tuple[float, float]:
    """Offset of the cells; none for a network whose features do not react, such as one with dead units."""
    shift_xy = measure_shift(lambda picture: graph(picture)["features"][0], size_wh)
    return shift_xy if all(map(math.isfinite, shift_xy)) else (0.0, 0.0)


def _bias(graph: Graph, size_wh: tuple[int, int]) -> float:
    """The difference of score and pooled map, which is the same for all pictures."""
    picture: UInt8[np.ndarray, "height width 3"] = np.full((size_wh[1], size_wh[0], 3), 128, np.uint8)
    found = graph(picture)
    return float(found["score"][0] - found["heatmap"].mean(dtype=np.float64))


def _on_val(graph: Graph, source: TrainingSource) -> Unseen | None:
    """AUROC on val; a wrong class or preprocessing shows here.

    Raises:
        UnfitError: bad parts score lower than good ones, beyond chance.
    """
    val = source.dataset.split(Split.VAL)
    pictures = track(graph.stream(source.plain(val)), "scores of val", total=len(val))
    found = Unseen.of(np.array([float(each["score"][0]) for each in pictures]), labels(val))
    if found is not None and auroc_interval(found.auroc, found.good, found.bad)[1] < 0.5:
        raise UnfitError(
            f"Bad parts score lower than good ones (AUROC {found.auroc:.3f} on {found.good} good and {found.bad} bad "
            "pictures of val). Either the classes are swapped (--bad-class), or the preprocessing is not that of the "
            "training."
        )
    return found


def _largest_difference(opened: OpenedModel, net: ImportedNet, graph: Graph, source: TrainingSource) -> float:
    """Compare the compiled graph with the model in its own framework, on pictures of both classes.

    Raises:
        ParityError: a difference exceeds `TOLERANCE`.
    """
    chosen = _alternating(source.dataset.split(Split.VAL))[:COMPARED_PICTURES]
    worst = 0.0
    assert net.declared.head is not None, "complete"
    for picture in track(source.plain(chosen), f"comparing with {opened.runner}", total=len(chosen)):
        batch: Float32[np.ndarray, "1 _ _ _"] = prepared_array(picture, net.declared)
        output = opened.run(batch)[net.head.number]
        expected, is_probability = own_score(output, net.head.activation, net.declared.head, net.bad)
        score = float(graph(picture)["score"][0])
        found = _probability(score) if is_probability else score
        worst = float(np.maximum(worst, difference(expected, found)))  # propagates NaN
    if not worst <= TOLERANCE:
        raise ParityError(
            f"{opened.path}: the graph differs from {opened.runner} by {worst:.2e}, more than the {TOLERANCE:.0e} "
            "allowed. Export the model to ONNX and import that file, or use another version of OpenVINO."
        )
    return worst


def _probability(score: float) -> float:
    return 1.0 / (1.0 + math.exp(-score)) if score > -700 else 0.0


def _alternating(samples: Sequence[Sample]) -> list[Sample]:
    """Good and bad pictures in turn."""
    sides = [[sample for sample in samples if sample.label is label] for label in Label]
    longest = max(map(len, sides))
    return [side[index] for index in range(longest) for side in sides if index < len(side)]


def describe_import(made: ImportedBundle) -> list[str]:
    """Sentences about the comparison with the framework and the heat map."""
    origin = made.origin
    lines = [f"Largest difference to {origin.compared_with}, on pictures of val: {made.largest_difference:.1e}."]
    if made.val is not None:
        low, high = auroc_interval(made.val.auroc, made.val.good, made.val.bad)
        lines.append(
            f"AUROC on val, unless the model was trained on it: {made.val.auroc:.3f} ({low:.3f} to {high:.3f})."
        )
    if origin.map == "exact":
        lines.append(f"Heat map: what each cell of {origin.map_layer} adds to the score.")
    elif origin.map == "fitted":
        lines.append(
            f"Heat map: a linear model of the score on the means of {origin.map_layer}, which explains "
            f"{origin.map_r2:.0%} of the variance of the score on pictures left out of the fit."
        )
    else:
        lines.append(
            f"No heat map: {origin.no_map}. Verdicts and limits work without one. --map-layer NAME fits one to a "
            "feature map; a wrong NAME lists them."
        )
    return lines
