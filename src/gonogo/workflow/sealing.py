"""From a trained network to a sealed bundle: export, prove parity, judge val and calibrate, certify, seal."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import openvino as ov
from jaxtyping import Int
from pydantic import JsonValue

import gonogo
from gonogo import bundle, runtime
from gonogo.bundle import Bundle
from gonogo.config import Recipe, Reduction, Strict, Tiling, settings
from gonogo.dataset import Dataset, Sample, Split, fingerprint
from gonogo.errors import InputError
from gonogo.evaluate import Evaluation, auroc, evaluate, require_judged
from gonogo.evaluate.curves import auroc_interval
from gonogo.files import write_beside
from gonogo.heatmap import HeatScale, fit_scale
from gonogo.inspector import Inspector
from gonogo.manifest import Classifier, Golden, Manifest
from gonogo.operate import Request, certify_judged, choose_golden, note_judged, scores_file
from gonogo.progress import track
from gonogo.roi import Roi
from gonogo.runtime import Graph
from gonogo.schema import Label, OperatingPoint, Prediction, Scores, Verdict
from gonogo.source import Source
from gonogo.workflow.options import Promise


def certify(
    inspector: Inspector, dataset: Dataset, promise: Promise, *, splits: Sequence[Split] = (Split.CALIBRATE,)
) -> OperatingPoint:
    """Judge the calibrate split through the inspector and certify an operating point on its scores.

    Raises:
        DatasetError: no labelled picture in the split, or too many that cannot be judged.
    """
    judged = evaluate(inspector, dataset, splits, with_regions=False)
    return certify_on(dataset, judged, promise)


def certify_on(dataset: Dataset, judged: Evaluation, promise: Promise) -> OperatingPoint:
    """Certify an operating point on judged calibration pictures; see `certify`."""
    require_judged(judged, then="train again")
    point = certify_judged(judged, promise)
    note_judged(dataset, point)
    return point


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """How well pictures that were left out of the training are told apart."""

    auroc: float
    good: int
    bad: int

    @classmethod
    def of(cls, scores: Scores, bad: Int[np.ndarray, " samples"]) -> Unseen | None:
        """From the scores of labelled pictures; ``None`` where they are of one class."""
        area = auroc(scores[bad == 0], scores[bad == 1])
        return None if area is None else cls(auroc=area, good=int((bad == 0).sum()), bad=int((bad == 1).sum()))

    def sentence(self) -> str:
        """The same for people."""
        low, high = auroc_interval(self.auroc, self.good, self.bad)
        return (
            f"AUROC on pictures left out of the training: {self.auroc:.4f} "
            f"({low:.4f} to {high:.4f}; {self.good} good and {self.bad} bad pictures)"
        )


@dataclass(frozen=True, kw_only=True)
class Built:
    """A trained classifier as a graph, ready to be sealed."""

    graph: ov.Model
    source: Source
    """The pictures that it learned from, at the size that it looks at."""
    classifier: Classifier
    shift_xy: tuple[float, float]
    """Where a cell of the map looks, see `gonogo.schema.Verdict`."""
    check: Callable[[Graph], float]
    """Holds the compiled graph against what was trained; returns the largest difference in score."""
    unseen: Unseen | None
    """How well pictures that were left out of the training are told apart; ``None`` where they are of one class."""
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    """For the manifest."""
    tiling: Tiling | None = None
    """Where the graph judges windows of a region."""
    left_out: Mapping[str, float] = field(default_factory=dict)
    """Scores of train and val pictures by file name, from evidence fitted without their parts; may be empty."""


Approve: TypeAlias = Callable[[Inspector, Built], Mapping[str, JsonValue]]
"""Looks at a draft before the calibrate split is opened: raises where it must not be sealed, returns facts for the
manifest. It must not look at calibrate either."""


def fill_bundle(
    folder: Path,
    name: str,
    built: Built,
    search: Roi | None,
    *,
    reduction: Reduction,
    promise: Promise,
    facts: Mapping[str, JsonValue],
    trained_on: Dataset,
    approve: Approve | None = None,
) -> Bundle:
    """Write the graph, check it, judge val for the colour scale and the golden frames, certify, seal.

    ``trained_on`` is the whole data set, where the source leaves out pictures without a region: its fingerprint names
    it later.
    """
    dataset = built.source.dataset
    try:
        ov.save_model(built.graph, folder / bundle.CLASSIFIER, compress_to_fp16=False)
    except RuntimeError as error:  # all that OpenVINO says when the disk is full
        raise InputError(f"{folder}: the graph cannot be written ({error}). Free some space.") from error
    machine = settings()
    graph = runtime.compile_graph(folder / bundle.CLASSIFIER, device=machine.device, threads=machine.threads)
    manifest = Manifest(
        name=name.removesuffix(bundle.SUFFIX),
        created=now(),
        gonogo_version=gonogo.__version__,
        recipe=Recipe(size_wh=built.source.size_wh, roi=method_of(search), reduction=reduction, tiling=built.tiling),
        classifier=built.classifier,
        proven_on=runtime.environment(device=machine.device, threads=machine.threads),
        heat_scale=HeatScale(cold=0.0, hot=1.0),
        training={**facts, **built.facts, "parity": built.check(graph)},
        data_fingerprint=_fingerprint(trained_on),
    )
    draft = Inspector(bundle.write_manifest(folder, manifest), graph, search)
    if approve is not None:
        training = {**manifest.training, **approve(draft, built)}
        manifest = manifest.model_copy(update={"training": training})
        draft = Inspector(bundle.write_manifest(folder, manifest), graph, search)
    return seal(draft, dataset, promise, built.shift_xy)


def seal(draft: Inspector, dataset: Dataset, promise: Promise, shift_xy: tuple[float, float]) -> Bundle:
    """Certify a draft on calibrate, judge val for the colour scale, choose golden frames, write all that into it."""
    calibrate = evaluate(draft, dataset, (Split.CALIBRATE,), with_regions=False)
    point = certify_on(dataset, calibrate, promise)
    val = dataset.split(Split.VAL)
    judged = [(sample, draft.inspect(dataset.load(sample))) for sample in track(val, "judging val")]
    finished = draft.bundle.manifest.model_copy(
        update={
            "operating_point": point,
            "heat_scale": scale_of(judged, draft, point, shift_xy),
            "golden": write_evidence(draft, dataset, promise, calibrate, _predictions(judged), point),
        }
    )
    return bundle.write_manifest(draft.path, finished)


def write_evidence(
    draft: Inspector,
    dataset: Dataset,
    promise: Promise,
    calibrate: Evaluation,
    val: Sequence[Prediction],
    point: OperatingPoint,
) -> tuple[Golden, ...]:
    """Write the scores that the point follows from and golden frames chosen for it, and say what they must score."""
    golden, files = choose_golden(draft, dataset, (*val, *calibrate.pictures), point)
    for name, data in {**files, **scores_file(Request(**asdict(promise), guard=None), calibrate)}.items():
        write_beside(draft.path / name, data)
    for old in {each.file for each in draft.bundle.manifest.golden} - {*files}:
        (draft.path / old).unlink(missing_ok=True)
    return golden


def _predictions(judged: Sequence[tuple[Sample, Verdict]]) -> list[Prediction]:
    return [
        Prediction(
            file=sample.file_name,
            part=sample.part_id,
            label=sample.label,
            defect=sample.defect,
            state=verdict.state,
            score=verdict.score,
        )
        for sample, verdict in judged
        if sample.label is not None
    ]


def _fingerprint(dataset: Dataset) -> str:
    return fingerprint(dataset, dataset.split(Split.TRAIN, Split.VAL))


def method_of(search: Roi | None) -> Literal["none", "fixed", "classical", "learned"]:
    """How the region is found, as the bundle's recipe calls it."""
    return "none" if search is None or search.recipe is None else search.recipe.method


def scale_of(
    judged: Sequence[tuple[Sample, Verdict]], inspector: Inspector, point: OperatingPoint, shift_xy: tuple[float, float]
) -> HeatScale:
    """The heat scale that fits the maps of judged val pictures, see `gonogo.heatmap.fit_scale`.

    The cells of an evidence map are not logits of the part: no threshold on the score says which of them are cold.
    """
    maps = {
        label: [verdict.heatmap for sample, verdict in judged if sample.label is label and verdict.heatmap is not None]
        for label in Label
    }
    manifest = inspector.bundle.manifest
    maker = manifest.classifier if manifest.cascade is None else manifest.cascade.teacher
    go_below = None if maker.evidence else point.go_below
    return fit_scale(maps[Label.GOOD], maps[Label.BAD], inspector.bias, go_below, shift_xy=shift_xy)


def plain(value: object) -> JsonValue:
    """Options as what JSON can hold."""
    if isinstance(value, Strict):
        return plain(value.model_dump())
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
