"""From a bundle of full precision to one in INT8 or BF16, proven to judge the same parts alike, or refused."""

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
from gonogo.errors import InputError, UnfitError
from gonogo.evaluate import Agreement, Rate, compare_inspectors
from gonogo.files import folder_beside
from gonogo.inspector import Inspector
from gonogo.operating_point import as_percent, parts_needed
from gonogo.progress import track
from gonogo.quantization import CountedRate, Quantization
from gonogo.runtime import Graph, Picture
from gonogo.workflow.comparing import promise_of, promised, require_same_data
from gonogo.workflow.int8 import Int8, Preset, to_int8
from gonogo.workflow.sealing import DraftBundle, certify_draft, utc_now

Arithmetic = Literal["int8", "bf16"]

PICTURES = 300
"""As many as NNCF itself asks for."""
TAKEN_WINDOWS = 2
"""Of a picture that is judged in windows; the INT8 ranges need no more of each."""
_LISTED = 40


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """How far the judgements may differ. What is held against a limit is the bound, not the share that was seen."""

    flips: float = 0.005
    """Parts that go from go to no-go or back; takes 598 parts without any."""
    moves: float = 0.02
    """Parts that go into or out of review."""
    pointing_loss: float = 0.02
    """Where defects are marked: marks that the hottest point no longer lies on, as a share, gains subtracted."""
    correlation: float = 0.9
    """Where none are marked: the median correlation of the defect maps must reach this."""
    confidence: float = 0.95
    """Of each bound."""


@dataclass(frozen=True, kw_only=True)
class QuantizingOptions:
    """How a bundle is quantized, and what is asked of it."""

    arithmetic: Arithmetic = "int8"
    preset: Preset = "performance"
    pictures: int = PICTURES
    """From train and val, half of them bad where there are as many."""
    control: bool = True
    """Put harmful layers back."""
    splits: tuple[Split, ...] = (Split.CALIBRATE, Split.TEST)
    """Whose parts are compared; they trained nothing."""
    allowed: Allowed = Allowed()
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What came of it."""

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
    """Quantize an inspector, certify it anew, hold its verdicts against the old ones, and seal it in a bundle.

    No promise of full precision carries over: the operating point is certified again on the calibrate split, with the
    limits that the source was certified for. The parts of the gate are looked at once, after everything is settled, so
    that its bounds are exact; what steers the quantization are pictures from train and val.

    Args:
        source: A certified inspector of full precision; left as it is.
        dataset: The one it was trained on.
        out: The new bundle's folder.
        options: How; the defaults of `QuantizingOptions` where omitted.
        overwrite: Replace a bundle already there, once the new one is complete.
        pictures: Take the ranges of the INT8 numbers from these, in place of the data set's; for trials.

    Raises:
        InputError: no bundle of full precision, unfit data, ``out`` exists.
        UnfitError: the source certifies nothing, or the judgements differ by more than is allowed; nothing is written.
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
    return Quantized(bundle=Inspector.load(out).bundle, agreement=agreement)


def require_agreement(agreement: Agreement, allowed: Allowed, source: Path) -> None:
    """The gate.

    Raises:
        UnfitError: a bound is above what is allowed, or the defect maps wandered; the message lists the parts.
    """
    failed = []
    for rate, most, told in (
        (agreement.flips, allowed.flips, "went from go to no-go or back"),
        (agreement.moves, allowed.moves, "went into or out of review"),
    ):
        bound = rate.at_most
        if bound is None or bound > most:
            failed.append(_too_many(rate, most, told))
    before, after = agreement.pointing
    if before.of:
        loss = (before.count - after.count) / before.of
        if loss > allowed.pointing_loss:
            failed.append(
                f"the hottest point lies on {after.count} of {before.of} marked defects, before on {before.count}: "
                f"{as_percent(loss)} lost, allowed are {as_percent(allowed.pointing_loss)}."
            )
    elif agreement.correlation is not None and agreement.correlation < allowed.correlation:
        failed.append(
            f"the defect maps correlate by {agreement.correlation:.3f} (median), at least {allowed.correlation:g} is "
            "asked for."
        )
    if failed:
        listed = [f"  {change}" for change in agreement.changes[:_LISTED]]
        left = len(agreement.changes) - len(listed)
        raise UnfitError(
            "\n".join(
                [
                    f"the quantized inspector does not judge as {source} does; nothing was written.",
                    *failed,
                    *(["Parts judged differently, with both scores:", *listed] if listed else []),
                    *([f"  and {left} more"] if left else []),
                ]
            )
        )


def _too_many(rate: Rate, most: float, told: str) -> str:
    confidence, at_most = as_percent(rate.confidence), as_percent(rate.at_most or 1.0)
    said = f"{rate.count} of {rate.of} parts {told}: at most {at_most} of later ones at {confidence}"
    if rate.count:
        return f"{said}, allowed are {as_percent(most)}."
    needed = parts_needed(most, 1 - rate.confidence)
    return f"{said}, allowed are {as_percent(most)}: to say so takes {needed} parts without any. Label or allow more."


def _require_fit(source: Inspector, dataset: Dataset, options: QuantizingOptions) -> None:
    manifest = source.bundle.manifest
    if source.cascade is not None:
        raise InputError(
            f"{source.path}: expected a bundle with one network, found a cascade. Quantize its student and its "
            "teacher, then join those: gonogo bundle cascade"
        )
    if manifest.quantization is not None or manifest.precision != "f32":
        raise InputError(
            f"{source.path}: expected a bundle of full precision, found one in fewer bits. Name its source."
        )
    promised(source)
    if options.pictures < 1 or not options.splits:
        raise InputError("expected at least one calibration picture and one split to compare.")
    if learned := {Split.TRAIN, Split.VAL} & set(options.splits):
        raise InputError(f"--split {', '.join(sorted(learned))}: these parts taught the inspector and prove nothing.")
    allowed = options.allowed
    if not 0 < allowed.confidence < 1 or not (0 < allowed.flips <= 1 and 0 < allowed.moves <= 1):
        raise InputError("expected limits and confidence as shares above 0 and below 1; 0.5 % is 0.005.")
    require_same_data(dataset, source)
    if options.arithmetic == "bf16":
        device = settings().device
        if "BF16" not in ov.Core().get_property(device, "OPTIMIZATION_CAPABILITIES"):
            raise InputError(f"{device} on this machine does not compute in BF16; quantize on one that does.")


class _Tap:
    """Stands in for the graph and keeps what the inspector feeds it."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.fed: list[Picture] = []
        self.scores: list[float] = []

    def __call__(self, picture: Picture) -> dict[str, np.ndarray]:
        answer = self._graph(picture)
        self.fed.append(picture.copy())
        self.scores.append(float(answer["score"][0]))
        return answer

    def taken(self, rng: np.random.Generator) -> list[Picture]:
        """What was fed since the last call: of many windows the worst and one other, at random."""
        fed, worst = self.fed, int(np.argmax(self.scores)) if self.scores else 0
        self.fed, self.scores = [], []
        if len(fed) <= TAKEN_WINDOWS:
            return fed
        other = (worst + 1 + int(rng.integers(len(fed) - 1))) % len(fed)
        return [fed[worst], fed[other]]


def _fed(source: Inspector, dataset: Dataset, options: QuantizingOptions) -> list[Picture]:
    """What the graph is fed when the inspector judges a choice of the pictures that taught it."""
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
        raise InputError(f"{dataset.root}: not one of {len(chosen)} pictures from train and val could be judged.")
    return fed


def _compile(opened: Bundle) -> Graph:
    machine = settings()
    return runtime.compile_graph(
        opened.graph(bundle.CLASSIFIER),
        device=machine.device,
        precision=opened.manifest.precision,
        threads=machine.threads,
    )


def _copy(source: Path, folder: Path) -> None:
    """Everything but the graph, and what was said of it: the operating point's evidence, the features of the taught."""
    graph = Path(bundle.CLASSIFIER)
    own = (graph.name, graph.with_suffix(".bin").name, bundle.MANIFEST, bundle.MODEL_CARD, bundle.SEAL)
    left = shutil.ignore_patterns(*own, drift.DRIFT, drift.TAUGHT, EVIDENCE, SCORES, bundle.GOLDEN, bundle.REVISIONS)
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=left)


def _save(model: ov.Model, folder: Path) -> None:
    try:
        ov.save_model(model, folder / bundle.CLASSIFIER, compress_to_fp16=False)
    except RuntimeError as error:  # all that OpenVINO says when the disk is full
        raise InputError(f"{folder}: the graph cannot be written ({error}). Free some space.") from error


def _certified(folder: Path, name: str, source: Inspector, dataset: Dataset, options: QuantizingOptions) -> DraftBundle:
    """The quantized inspector with an operating point, golden scores and a heat scale of its own.

    It is certified for what the source is certified for, in every other respect as the source was asked to be.
    """
    machine, before = settings(), source.bundle.manifest
    manifest = before.model_copy(
        update={
            "name": name.removesuffix(bundle.SUFFIX),
            "created": utc_now(),
            "gonogo_version": gonogo.__version__,
            "precision": "bf16" if options.arithmetic == "bf16" else "f32",
            "proven_on": runtime.runtime_environment(device=machine.device, threads=machine.threads),
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
