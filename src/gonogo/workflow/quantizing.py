"""Quantizes a bundle to INT8 or BF16, and refuses the result if its verdicts differ too much."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import openvino as ov

import gonogo
from gonogo import bundle, drift, runtime
from gonogo.bundle import Bundle
from gonogo.certification import EVIDENCE, SCORES
from gonogo.config import settings
from gonogo.dataset import Dataset, Split
from gonogo.devices import find_devices
from gonogo.errors import InputError, UnfitError
from gonogo.evaluate import Agreement, Rate, compare_inspectors
from gonogo.files import folder_beside
from gonogo.inspector import Inspector
from gonogo.operating_point import as_percent, parts_needed
from gonogo.progress import track
from gonogo.quantization import CountedRate, Quantization
from gonogo.runtime import Cells, Graph, Picture
from gonogo.signing import NOT_REQUIRED
from gonogo.workflow.comparing import promise_of, promised, require_same_data
from gonogo.workflow.int8 import Int8, Preset, to_int8
from gonogo.workflow.sealing import DraftBundle, certify_draft, utc_now

Arithmetic = Literal["int8", "bf16"]

PICTURES = 300
"""Default of NNCF."""
TAKEN_WINDOWS = 2
"""Windows used per picture for INT8 calibration."""
_LISTED = 40


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """Largest accepted differences. Limits apply to the confidence bound, not to the observed share."""

    flips: float = 0.005
    """Share of parts that change from go to no-go or back; requires 598 parts without any."""
    moves: float = 0.02
    """Share of parts that move into or out of review."""
    pointing_loss: float = 0.02
    """With marked defects: largest net loss of the pointing-game rate."""
    correlation: float = 0.9
    """Without marked defects: smallest median correlation of the defect maps."""
    confidence: float = 0.95
    """Confidence of each bound."""


@dataclass(frozen=True, kw_only=True)
class QuantizingOptions:
    """Options of a quantization."""

    arithmetic: Arithmetic = "int8"
    preset: Preset = "performance"
    pictures: int = PICTURES
    """Number of calibration pictures from train and val, half of them bad if there are enough."""
    control: bool = True
    """Restore harmful layers to floating point."""
    splits: tuple[Split, ...] = (Split.CALIBRATE, Split.TEST)
    """Splits whose parts are compared; not train or val."""
    allowed: Allowed = Allowed()
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized bundle and its agreement with the source."""

    bundle: Bundle
    agreement: Agreement


def quantize_bundle(
    source: Inspector,
    dataset: Dataset,
    out: Path,
    options: QuantizingOptions | None = None,
    *,
    overwrite: bool = False,
    pictures: Sequence[Picture] | None = None,
) -> Quantized:
    """Quantize an inspector, certify it again, compare its verdicts with the original, and seal it in a bundle.

    No promise carries over: the operating point is certified again on the calibrate split, with the limits of the
    source. The parity gate judges its parts once, after everything else is fixed, so its bounds are exact; quantization
    is calibrated on train and val pictures only.

    Args:
        source: A certified full-precision inspector; not modified.
        dataset: The data set it was trained on.
        out: Path of the new bundle.
        options: Default `QuantizingOptions()`.
        overwrite: Replace an existing bundle once the new one is complete.
        pictures: Calibrate the INT8 ranges on these instead of pictures of the data set; for experiments.

    Raises:
        InputError: the source is not a full-precision bundle, the data are unsuitable, or ``out`` exists.
        UnfitError: the source has no certified escape limit, or the verdicts differ too much; nothing is written.
    """
    options = options or QuantizingOptions()
    if out.exists() and not overwrite:
        raise InputError(f"{out}: already exists. Choose another --out, or pass --overwrite.")
    _require_fit(source, dataset, options)
    made = None
    model = ov.Core().read_model(*source.bundle.graph(bundle.CLASSIFIER))
    if options.arithmetic == "int8":
        fed = _fed(source, dataset, options)
        pictures = pictures or fed
        made = to_int8(model, pictures, steer_by=fed if options.control else (), preset=options.preset)
    with folder_beside(out, replace=overwrite) as partial:
        _copy(source.path, partial)
        _save(model if made is None else made.model, partial)
        draft = _certified(partial, out.name, source, dataset, options)
        agreement = compare_inspectors(
            source, draft.inspector, dataset, options.splits, confidence=options.allowed.confidence
        )
        require_agreement(agreement, options.allowed, source.path)
        draft.seal(quantization=_stated(source.bundle, agreement, options, made, len(pictures or ()), dataset))
    return Quantized(bundle=Inspector.load(out, policy=NOT_REQUIRED).bundle, agreement=agreement)


def require_agreement(agreement: Agreement, allowed: Allowed, source: Path) -> None:
    """The parity gate: raise if two inspectors disagree too much.

    Raises:
        UnfitError: a bound exceeds its limit, or the defect maps differ too much; the message lists the parts.
    """
    failed = []
    for rate, most, change in (
        (agreement.flips, allowed.flips, "changed from go to no-go or back"),
        (agreement.moves, allowed.moves, "moved into or out of review"),
    ):
        bound = rate.at_most
        if bound is None or bound > most:
            failed.append(_too_many(rate, most, change))
    before, after = agreement.pointing
    if before.of:
        loss = (before.count - after.count) / before.of
        if loss > allowed.pointing_loss:
            failed.append(
                f"The hottest point lies on {after.count} of {before.of} marked defects, before quantization on "
                f"{before.count}: a loss of {as_percent(loss)}, allowed are {as_percent(allowed.pointing_loss)}."
            )
    elif agreement.correlation is not None and agreement.correlation < allowed.correlation:
        failed.append(
            f"The median correlation of the defect maps is {agreement.correlation:.3f}; at least "
            f"{allowed.correlation:g} is required."
        )
    if failed:
        listed = [f"  {change}" for change in agreement.changes[:_LISTED]]
        left = len(agreement.changes) - len(listed)
        raise UnfitError(
            "\n".join(
                [
                    f"The quantized inspector does not agree with {source}; nothing was written.",
                    *failed,
                    *(["Parts with different verdicts, with both scores:", *listed] if listed else []),
                    *([f"  and {left} more"] if left else []),
                ]
            )
        )


def _too_many(rate: Rate, most: float, change: str) -> str:
    confidence, at_most = as_percent(rate.confidence), as_percent(rate.at_most or 1.0)
    found = f"{rate.count} of {rate.of} parts {change}: at most {at_most} of future parts at {confidence} confidence"
    if rate.count:
        return f"{found}, allowed are {as_percent(most)}."
    needed = parts_needed(most, 1 - rate.confidence)
    return (
        f"{found}, allowed are {as_percent(most)}, which requires {needed} parts without any change. Label more parts, "
        "or allow more."
    )


def _require_fit(source: Inspector, dataset: Dataset, options: QuantizingOptions) -> None:
    manifest = source.bundle.manifest
    if source.cascade is not None:
        raise InputError(
            f"{source.path}: expected a bundle with one network, found a cascade. Quantize its student and its "
            "teacher, then join them: gonogo bundle cascade"
        )
    if manifest.quantization is not None or manifest.precision != "f32":
        raise InputError(f"{source.path}: expected a full-precision bundle, found a quantized one. Give its source.")
    promised(source)
    if options.pictures < 1 or not options.splits:
        raise InputError("expected at least one calibration picture and one split to compare.")
    if learned := {Split.TRAIN, Split.VAL} & set(options.splits):
        raise InputError(
            f"--split {', '.join(sorted(learned))}: the inspector was trained on these parts, so they prove nothing."
        )
    allowed = options.allowed
    if not 0 < allowed.confidence < 1 or not (0 < allowed.flips <= 1 and 0 < allowed.moves <= 1):
        raise InputError("expected limits and confidence as shares between 0 and 1; 0.5 % is 0.005.")
    require_same_data(dataset, source)
    if options.arithmetic == "bf16":
        cpu = next(each for each in find_devices() if each.default)
        if "BF16" not in cpu.capabilities:
            raise InputError(f"The processor ({cpu.full_name}) does not support BF16; quantize on one that does.")


class _Tap:
    """Wraps a graph and records its inputs."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.fed: list[Picture] = []
        self.scores: list[float] = []

    def __call__(self, picture: Picture, cells: Cells | None = None) -> dict[str, np.ndarray]:
        answer = self._graph(picture) if cells is None else self._graph(picture, cells)
        self.fed.append(picture.copy())
        self.scores.append(float(answer["score"][0]))
        return answer

    def taken(self, rng: np.random.Generator) -> list[Picture]:
        """Inputs recorded since the last call: if there are many windows, the worst one and a random other one."""
        fed, worst = self.fed, int(np.argmax(self.scores)) if self.scores else 0
        self.fed, self.scores = [], []
        if len(fed) <= TAKEN_WINDOWS:
            return fed
        other = (worst + 1 + int(rng.integers(len(fed) - 1))) % len(fed)
        return [fed[worst], fed[other]]


def _fed(source: Inspector, dataset: Dataset, options: QuantizingOptions) -> list[Picture]:
    """Network inputs of a random selection of train and val pictures."""
    rng = np.random.default_rng(options.seed)
    samples = [sample for sample in dataset.split(Split.TRAIN, Split.VAL) if sample.label is not None]
    order = [samples[i] for i in rng.permutation(len(samples))]
    bad = [sample for sample in order if sample.label == "bad"][: options.pictures // 2]
    names = {sample.file_name for sample in bad}
    chosen = [*bad, *(sample for sample in order if sample.file_name not in names)][: options.pictures]
    tap = _Tap(_compile(source.bundle))
    watched = Inspector(source.bundle, cast(Graph, tap), source.roi)
    fed = []
    for sample in track(chosen, "calibration pictures"):
        watched.inspect_file(dataset.path(sample))
        fed += tap.taken(rng)
    if not fed:
        raise InputError(f"{dataset.root}: none of {len(chosen)} pictures from train and val could be judged.")
    return fed


def _compile(opened: Bundle) -> Graph:
    machine = settings()
    return runtime.compile_graph(
        opened.graph(bundle.CLASSIFIER),
        precision=opened.manifest.precision,
        threads=machine.threads,
    )


def _copy(source: Path, folder: Path) -> None:
    """Copy everything but the graph and the files of its certification and drift reference."""
    graph = Path(bundle.CLASSIFIER)
    own = (graph.name, graph.with_suffix(".bin").name, bundle.MANIFEST, bundle.MODEL_CARD, bundle.SEAL)
    left = shutil.ignore_patterns(*own, drift.DRIFT, drift.TAUGHT, EVIDENCE, SCORES, bundle.GOLDEN, bundle.REVISIONS)
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=left)


def _save(model: ov.Model, folder: Path) -> None:
    try:
        ov.save_model(model, folder / bundle.CLASSIFIER, compress_to_fp16=False)
    except RuntimeError as error:  # OpenVINO raises this when the disk is full
        raise InputError(f"{folder}: the graph cannot be written ({error}). Free some space.") from error


def _certified(folder: Path, name: str, source: Inspector, dataset: Dataset, options: QuantizingOptions) -> DraftBundle:
    """The quantized inspector with its own operating point, golden scores and heat scale.

    It is certified for the promise of the source.
    """
    machine, before = settings(), source.bundle.manifest
    manifest = before.model_copy(
        update={
            "name": name.removesuffix(bundle.SUFFIX),
            "created": utc_now(),
            "gonogo_version": gonogo.__version__,
            "precision": "bf16" if options.arithmetic == "bf16" else "f32",
            "proven_on": runtime.runtime_environment(threads=machine.threads),
            "operating_point": None,
            "golden": (),
            "revisions": (),
            "distilled": None,
        }
    )
    opened = bundle.draft(folder, manifest)
    judge = Inspector(opened, _compile(opened), source.roi)
    return certify_draft(judge, dataset, promise_of(source), before.heat_scale.shift_xy)


def _stated(
    source: Bundle, agreement: Agreement, options: QuantizingOptions, made: Int8 | None, fed: int, dataset: Dataset
) -> Quantization:
    before, after = agreement.pointing
    untouched = None
    if Split.TEST in options.splits:
        untouched = agreement.of(frozenset(sample.file_name for sample in dataset.split(Split.TEST)))
    return Quantization(
        source_sha256=source.sha256,
        arithmetic=options.arithmetic,
        int8_layers=0 if made is None else made.int8_layers,
        float_layers=0 if made is None else made.float_layers,
        nncf="" if made is None else made.nncf,
        preset="" if made is None else options.preset,
        calibration_pictures=fed,
        splits=tuple(options.splits),
        confidence=options.allowed.confidence,
        flips=_counted(agreement.flips),
        moves=_counted(agreement.moves),
        test_flips=None if untouched is None else _counted(untouched.flips),
        test_moves=None if untouched is None else _counted(untouched.moves),
        pointing_pictures=before.of,
        pointing_before=before.value,
        pointing_after=after.value,
        map_correlation=agreement.correlation,
        map_correlation_low=agreement.correlation_low,
    )


def _counted(rate: Rate) -> CountedRate:
    assert rate.at_most is not None, "parts were compared"
    return CountedRate(count=rate.count, of=rate.of, at_most=rate.at_most)
