"""From a trained network to a sealed bundle: export, prove parity, judge val and calibrate, certify, seal."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import openvino as ov
from pydantic import JsonValue

import gonogo
from gonogo import bundle, runtime
from gonogo.bundle import Bundle, Classifier, Golden, Manifest
from gonogo.config import Recipe, settings
from gonogo.dataset import Dataset, Sample, Split, fingerprint
from gonogo.errors import InputError
from gonogo.evaluate import Evaluation, evaluate, require_judged
from gonogo.export import check_parity, export_classifier, measure_shift
from gonogo.files import write_beside
from gonogo.heatmap import HeatScale, fit_scale
from gonogo.inspector import Inspector
from gonogo.model import SHARPNESS, Network
from gonogo.operate import Request, certify_judged, choose_golden, note_judged, scores_file
from gonogo.progress import track
from gonogo.roi import Roi
from gonogo.schema import Label, OperatingPoint, Prediction, Verdict
from gonogo.train import Source
from gonogo.workflow.options import Promise, TrainingOptions


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


def fill_bundle(
    folder: Path,
    name: str,
    network: Network,
    source: Source,
    search: Roi | None,
    options: TrainingOptions,
    facts: dict[str, JsonValue],
    *,
    shift_xy: tuple[float, float] | None,
    trained_on: Dataset | None = None,
) -> Evaluation:
    """Export, check, judge val for the colour scale and the golden frames, certify, seal.

    ``shift_xy`` is where a cell of the map looks, where it was taught that; measured where ``None``. ``trained_on`` is
    the whole data set, where the source leaves out pictures without a region: its fingerprint names it later.
    """
    dataset = source.dataset
    recipe = Recipe(size_wh=source.size_wh, roi=method_of(search), reduction=options.reduction)
    model = export_classifier(network, source.size_wh, labels=(Label.GOOD.value, Label.BAD.value))
    try:
        ov.save_model(model, folder / bundle.CLASSIFIER, compress_to_fp16=False)
    except RuntimeError as error:  # all that OpenVINO says when the disk is full
        raise InputError(f"{folder}: the graph cannot be written ({error}). Free some space.") from error
    machine = settings()
    graph = runtime.compile_graph(folder / bundle.CLASSIFIER, device=machine.device, threads=machine.threads)
    val = dataset.split(Split.VAL)
    facts["parity"] = check_parity(network, graph, track(source.plain(val), "torch against OpenVINO", total=len(val)))
    manifest = Manifest(
        name=name.removesuffix(bundle.SUFFIX),
        created=now(),
        gonogo_version=gonogo.__version__,
        recipe=recipe,
        classifier=Classifier(
            backbone=options.backbone,
            cuts=network.features.stack.cuts,
            pool=network.head.pool.value,
            sharpness=SHARPNESS,
            bias=float(network.head.bias.detach()),
            weights=Path(options.weights).name,
            context=network.head.context is not None,
        ),
        proven_on=runtime.environment(device=machine.device, threads=machine.threads),
        heat_scale=HeatScale(cold=0.0, hot=1.0),
        training=facts,
        data_fingerprint=_fingerprint(trained_on or dataset),
    )
    draft = Inspector(bundle.write_manifest(folder, manifest), graph, search)
    if shift_xy is None:
        shift_xy = measure_shift(network.features, source.size_wh)
    finished = seal(draft, dataset, options.promise, shift_xy)
    return evaluate(Inspector(finished, graph, search), dataset, (Split.VAL,), with_regions=False)


def seal(draft: Inspector, dataset: Dataset, promise: Promise, shift_xy: tuple[float, float]) -> Bundle:
    """Certify a draft on calibrate, judge val for the colour scale, choose golden frames, write all that into it."""
    calibrate = evaluate(draft, dataset, (Split.CALIBRATE,), with_regions=False)
    point = certify_on(dataset, calibrate, promise)
    val = dataset.split(Split.VAL)
    judged = [(sample, draft.inspect(dataset.load(sample))) for sample in track(val, "judging val")]
    finished = draft.bundle.manifest.model_copy(
        update={
            "operating_point": point,
            "heat_scale": scale_of(judged, draft.bias, point, shift_xy),
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
    judged: Sequence[tuple[Sample, Verdict]], bias: float, point: OperatingPoint, shift_xy: tuple[float, float]
) -> HeatScale:
    """The heat scale that fits the maps of judged val pictures, see `gonogo.heatmap.fit_scale`."""
    maps = {
        label: [verdict.heatmap for sample, verdict in judged if sample.label is label and verdict.heatmap is not None]
        for label in Label
    }
    return fit_scale(maps[Label.GOOD], maps[Label.BAD], bias, point.go_below, shift_xy=shift_xy)


def plain(value: object) -> JsonValue:
    """Options as what JSON can hold."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
