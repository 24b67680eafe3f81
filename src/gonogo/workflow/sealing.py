"""From a trained network to a sealed bundle: export, prove parity, judge val and calibrate, certify, seal."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import openvino as ov
from pydantic import JsonValue

import gonogo
from gonogo import bundle, images, operating_point, runtime
from gonogo.bundle import Bundle, Classifier, Golden, Manifest
from gonogo.config import Recipe, Reduction, Strict, Tiling, settings
from gonogo.dataset import Dataset, Sample, Split, fingerprint
from gonogo.errors import InputError
from gonogo.evaluate import evaluate, require_judged
from gonogo.heatmap import HeatScale, fit_scale
from gonogo.inspector import Inspector
from gonogo.progress import track
from gonogo.roi import Roi
from gonogo.runtime import Graph
from gonogo.schema import Box, Frame, Label, OperatingPoint, Verdict
from gonogo.source import Source
from gonogo.workflow.options import Promise

GOLDEN_PIXELS = 500_000
"""Golden frames are reduced to about this size: they are replayed at every start."""


def certify(
    inspector: Inspector, dataset: Dataset, promise: Promise, *, splits: Sequence[Split] = (Split.CALIBRATE,)
) -> OperatingPoint:
    """Judge the calibrate split through the inspector and certify an operating point on its scores.

    Raises:
        DatasetError: no labelled picture in the split, or too many that cannot be judged.
    """
    judged = evaluate(inspector, dataset, splits, with_regions=False)
    require_judged(judged, then="train again")
    return operating_point.certify(
        judged.scores(Label.GOOD),
        judged.scores(Label.BAD),
        max_escape=promise.max_escape,
        max_overkill=promise.max_overkill,
        confidence=promise.confidence,
        joint=promise.joint,
        data_fingerprint=judged.data_fingerprint,
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
    auroc: float | None
    """On parts that were left out of the training, where both classes are there."""
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    """For the manifest."""
    tiling: Tiling | None = None
    """Where the graph judges windows of a region."""


def fill_bundle(
    folder: Path,
    name: str,
    built: Built,
    search: Roi | None,
    *,
    reduction: Reduction,
    promise: Promise,
    facts: Mapping[str, JsonValue],
) -> Bundle:
    """Write the graph, check it, judge val for the colour scale and the golden frames, certify, seal."""
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
        data_fingerprint=fingerprint(dataset, dataset.split(Split.TRAIN, Split.VAL)),
    )
    draft = Inspector(bundle.write_manifest(folder, manifest), graph, search)
    return seal(draft, dataset, promise, built.shift_xy)


def seal(draft: Inspector, dataset: Dataset, promise: Promise, shift_xy: tuple[float, float]) -> Bundle:
    """Certify a draft on calibrate, judge val for the colour scale and the golden frames, write all that into it."""
    point = certify(draft, dataset, promise)
    val = dataset.split(Split.VAL)
    judged = [(sample, draft.inspect(dataset.load(sample))) for sample in track(val, "judging val")]
    finished = draft.bundle.manifest.model_copy(
        update={
            "operating_point": point,
            "heat_scale": scale_of(judged, draft.bias, point, shift_xy),
            "golden": _golden(draft, dataset, judged),
        }
    )
    return bundle.write_manifest(draft.path, finished)


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


def _golden(inspector: Inspector, dataset: Dataset, judged: Sequence[tuple[Sample, Verdict]]) -> tuple[Golden, ...]:
    """Keep the extremes of both classes on val as golden frames, with the scores they must give.

    Of a cascade also the clearest part that either network judged.
    """
    chosen: dict[str, Sample] = {}
    for label in Label:
        if not (ranked := _ranked((sample, verdict) for sample, verdict in judged if sample.label is label)):
            continue
        chosen |= {f"{label}-low": ranked[0], f"{label}-high": ranked[-1]}
    if inspector.cascade is not None:
        for name, asked in (("student", False), ("teacher", True)):
            chosen[name] = _ranked((sample, verdict) for sample, verdict in judged if bool(verdict.doubt) is asked)[0]
    kept = []
    (inspector.path / bundle.GOLDEN).mkdir()
    for name, sample in chosen.items():
        whole = dataset.load(sample)
        expected = inspector.inspect(whole)
        frame = _reduced(whole) if inspector.recipe.tiling is None else whole  # fewer pixels would be other windows
        found = inspector.inspect(frame)
        if found.score is None or bool(found.doubt) is not bool(expected.doubt):
            # A region fixed in pixels, or one found, or a score trusted, by a hair's breadth.
            frame, found = whole, expected
        assert found.score is not None, "it was judged a moment ago"
        file = f"{bundle.GOLDEN}/{name}.png"
        (inspector.path / file).write_bytes(images.encode_png(frame))
        kept.append(Golden(file=file, score=found.score))
    return tuple(kept)


def _ranked(judged: Iterable[tuple[Sample, Verdict]]) -> list[Sample]:
    """The samples that have a score, the lowest first."""
    scored = [(verdict.score, sample.file_name, sample) for sample, verdict in judged if verdict.score is not None]
    return [sample for _, _, sample in sorted(scored)]


def _reduced(frame: Frame) -> Frame:
    height, width = frame.shape[:2]
    factor = math.sqrt(GOLDEN_PIXELS / (height * width))
    if factor >= 1:
        return frame
    return images.crop_resize(frame, Box.whole(frame), (round(width * factor), round(height * factor)))


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
