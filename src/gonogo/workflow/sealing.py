"""Turns a trained network into a sealed bundle: export, check parity, certify, seal."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import openvino as ov
from pydantic import JsonValue

import gonogo
from gonogo import bundle, runtime
from gonogo.array_types import Int
from gonogo.bundle import Bundle
from gonogo.certification import Certified, certify
from gonogo.config import Checks, Recipe, ReducedBy, Reduction, Strict, Tiling, settings
from gonogo.dataset import Dataset, Split, catch_up, fingerprint, revision_of
from gonogo.dataset.cameras import cameras_of
from gonogo.errors import InputError
from gonogo.evaluate import auroc
from gonogo.evaluate.curves import auroc_interval
from gonogo.files import write_beside
from gonogo.heatmap import HeatScale, fit_scale
from gonogo.inspector import Inspector
from gonogo.manifest import Classifier, DataRevision, Manifest, part_alone
from gonogo.roi import Roi
from gonogo.rules import rules_digest
from gonogo.runtime import Graph
from gonogo.schema import Label, Scores
from gonogo.source import TrainingSource
from gonogo.workflow.options import Promise


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """AUROC on pictures left out of training."""

    auroc: float
    good: int
    bad: int

    @classmethod
    def of(cls, scores: Scores, bad: Int[np.ndarray, " samples"]) -> Unseen | None:
        """Compute from scores of labelled pictures; ``None`` if all have the same label."""
        area = auroc(scores[bad == 0], scores[bad == 1])
        return None if area is None else cls(auroc=area, good=int((bad == 0).sum()), bad=int((bad == 1).sum()))

    def sentence(self) -> str:
        """Describe the AUROC with its interval."""
        low, high = auroc_interval(self.auroc, self.good, self.bad)
        return (
            f"AUROC on pictures left out of the training: {self.auroc:.4f} "
            f"({low:.4f} to {high:.4f}; {self.good} good and {self.bad} bad pictures)"
        )


@dataclass(frozen=True, kw_only=True)
class Built:
    """A trained classifier as a graph, ready to be sealed."""

    graph: ov.Model
    source: TrainingSource
    """Source of the training pictures, at the input size."""
    classifier: Classifier
    shift_xy: tuple[float, float]
    """Spatial offset of the map, see `gonogo.schema.Verdict`."""
    check: Callable[[Graph], float]
    """Compares the compiled graph with the trained model; returns the largest difference in score."""
    unseen: Unseen | None
    """AUROC on pictures left out of training; ``None`` if all have the same label."""
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    """Training facts for the manifest."""
    tiling: Tiling | None = None
    """Set if the graph judges windows of a region."""
    left_out: Mapping[str, float] = field(default_factory=dict)
    """Out-of-fold scores of train and val pictures by file name; may be empty."""


Approve: TypeAlias = Callable[[Inspector, Built], Mapping[str, JsonValue]]
"""Checks a draft before the calibrate split is used: raises if it must not be sealed, and returns facts for the
manifest. It must not use the calibrate split."""


def fill_bundle(
    folder: Path,
    name: str,
    built: Built,
    search: Roi | None,
    *,
    reduction: Reduction,
    reduced_by: ReducedBy,
    promise: Promise,
    facts: Mapping[str, JsonValue],
    trained_on: Dataset,
    approve: Approve | None = None,
    checks: Checks | None = None,
) -> DraftBundle:
    """Write the graph, check parity, and certify; the result still has to be sealed.

    ``trained_on`` is the complete data set, including pictures without a region; it is used to certify and for the
    fingerprint.
    """
    try:
        ov.save_model(built.graph, folder / bundle.CLASSIFIER, compress_to_fp16=False)
    except RuntimeError as error:  # OpenVINO raises this when the disk is full
        raise InputError(f"{folder}: the graph cannot be written ({error}). Free some space.") from error
    machine = settings()
    graph = runtime.compile_graph(folder / bundle.CLASSIFIER, threads=machine.threads)
    recipe = Recipe(
        size_wh=built.source.size_wh,
        roi=method_of(search),
        reduction=reduction,
        reduced_by=reduced_by,
        depth=trained_on.depth,
        tiling=built.tiling,
        zones=built.source.zones,
    )
    manifest = Manifest(
        name=name.removesuffix(bundle.SUFFIX),
        created=utc_now(),
        gonogo_version=gonogo.__version__,
        recipe=recipe if checks is None else checks.within(recipe),
        classifier=built.classifier,
        proven_on=runtime.runtime_environment(threads=machine.threads),
        heat_scale=HeatScale(cold=0.0, hot=1.0, shift_xy=built.shift_xy),
        training={**facts, **built.facts, "parity": built.check(graph)},
        data_fingerprint=_fingerprint(trained_on),
        data_revision=_revision(trained_on),
        cameras=cameras_of(trained_on.samples),
    )
    inspector = Inspector(bundle.draft(folder, manifest), graph, search)
    if approve is not None:
        training = {**manifest.training, **approve(inspector, built)}
        inspector = inspector.revised(bundle.draft(folder, manifest.model_copy(update={"training": training})))
    return certify_draft(inspector, trained_on, promise, built.shift_xy)


@dataclass(frozen=True, kw_only=True)
class DraftBundle:
    """A certified bundle whose manifest is not written yet."""

    inspector: Inspector
    """Gives the same verdicts as the finished bundle."""
    certified: Certified

    def seal(self, **facts: object) -> Bundle:
        """Write the manifest, with the given fields added, and seal the folder."""
        opened = self.inspector.bundle
        return bundle.write_manifest(opened.root, opened.manifest.model_copy(update=facts))


def certify_draft(
    inspector: Inspector, dataset: Dataset, promise: Promise, shift_xy: tuple[float, float]
) -> DraftBundle:
    """Certify a draft and write the files of its operating point; call `DraftBundle.seal` to finish.

    Raises:
        DatasetError: see `gonogo.certification.certify`.
    """
    found = certify(inspector, dataset, promise)
    folder, before = inspector.path, inspector.bundle.manifest
    scale = scale_of(found, before, inspector.bias, shift_xy)
    if rules_digest(before.recipe, scale) != found.point.rules_sha256:  # defects are measured on this scale
        scaled = before.model_copy(update={"heat_scale": scale})
        found = certify(inspector.revised(bundle.draft(folder, scaled)), dataset, promise)
    for name, data in found.files.items():
        write_beside(folder / name, data)
    part = part_alone(before.cameras)  # even of a bundle that comes from one that was certified with others
    stated = {"operating_point": found.point, "heat_scale": scale, "golden": found.golden, "part": part}
    return DraftBundle(
        inspector=inspector.revised(bundle.draft(folder, before.model_copy(update=stated))), certified=found
    )


def _fingerprint(dataset: Dataset) -> str:
    return fingerprint(dataset, dataset.split(Split.TRAIN, Split.VAL))


def _revision(dataset: Dataset) -> DataRevision | None:
    """The revision that the training data are of; ``None`` if it is not recorded, as for a study."""
    if dataset.study:
        return None
    found = revision_of(dataset)
    if found is None and dataset.metadata_sha256:
        catch_up(dataset.root)
        found = revision_of(dataset)
    if found is None:
        return None
    name = str(found.details.get("dataset") or dataset.root.resolve().name)
    return DataRevision(dataset=name, number=found.number, sha256=found.sha256)


def method_of(search: Roi | None) -> Literal["none", "fixed", "classical", "learned"]:
    """The method for locating the region, as recorded in the recipe."""
    return "none" if search is None or search.recipe is None else search.recipe.method


def scale_of(found: Certified, manifest: Manifest, bias: float, shift_xy: tuple[float, float]) -> HeatScale:
    """Fit the heat scale on the maps of the val pictures, see `gonogo.heatmap.fit_scale`.

    The cells of an evidence map are not logits of the part, so the go threshold does not tell which cells are cold.
    """
    maps = {
        label: [found.maps[each.file] for each in found.val.pictures if each.label is label and each.file in found.maps]
        for label in Label
    }
    maker = manifest.classifier if manifest.cascade is None else manifest.cascade.teacher
    if maker.pool == "none":
        return HeatScale(cold=0.0, hot=1.0)
    go_below = None if maker.evidence or maker.zones else found.point.go_below
    return fit_scale(maps[Label.GOOD], maps[Label.BAD], bias, go_below, shift_xy=shift_xy)


def plain(value: object) -> JsonValue:
    """Convert options to JSON values."""
    if isinstance(value, Strict):
        return plain(value.model_dump())
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def utc_now() -> str:
    """The current time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
