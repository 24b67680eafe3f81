"""From a data set to a sealed bundle: train, export, prove parity, judge val and calibrate, certify."""

from __future__ import annotations

import datetime
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import openvino as ov
import torch
from pydantic import JsonValue

import gonogo
from gonogo import bundle, images, operating_point, runtime
from gonogo.augment import PLAIN, Augmentation
from gonogo.bundle import Bundle, Classifier, Golden, Manifest
from gonogo.config import Recipe, Reduction, settings
from gonogo.dataset import Dataset, Sample, Split, fingerprint, require_trainable
from gonogo.errors import InputError
from gonogo.evaluate import Evaluation, evaluate, require_judged
from gonogo.export import check_parity, export_classifier, export_features, export_maps, export_pooled, measure_shift
from gonogo.files import folder_beside
from gonogo.heatmap import HeatScale, fit_scale
from gonogo.images.geometry import corners_of, side_lengths
from gonogo.inspector import Inspector
from gonogo.model import (
    SHARPNESS,
    FeatureNetwork,
    MapHead,
    Network,
    Normalisation,
    Pool,
    architecture,
    load_backbone,
)
from gonogo.progress import console, track
from gonogo.roi import Roi
from gonogo.schema import Box, Frame, Label, OperatingPoint, Verdict
from gonogo.train import (
    FineTuning,
    Head,
    Pooled,
    Source,
    cross_validated_loss,
    defect_maps,
    discriminants,
    feature_maps,
    fine_tune,
    fit_map,
    fit_mean,
    fit_score,
    gather_cells,
    masked,
    pooled_features,
    stream_maps,
)
from gonogo.train.checkpoint import run_identity
from gonogo.workflow.normalisation import candidates
from gonogo.workflow.region import IDENTITY, LocatorOptions, find_regions, keep_roi

GOLDEN_PIXELS = 500_000
"""Golden frames are reduced to about this size: they are replayed at every start."""
PROBED = 16
"""Training pictures that a reduction is tried on."""
ENOUGH = 0.9
"""A region may be this much smaller than the network's input before a reduction is refused."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What an operating point is asked to certify."""

    max_escape: float = 0.05
    max_overkill: float = 0.05
    confidence: float = 0.95
    joint: bool = False
    """Both bounds together at this confidence, rather than each for itself."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Everything that decides what a training run makes."""

    backbone: str = "mobilenet_v2"
    weights: str = "imagenet"
    """A safetensors file, ``imagenet`` or ``none``."""
    cuts: tuple[str, ...] = ()
    """The last feature map where omitted; that and two finer ones where masks teach the head."""
    pool: Pool | None = None
    """Log-sum-exp where masks teach the head, mean elsewhere."""
    masks: bool = True
    """Teach the head where a part is bad, if bad training pictures carry masks and the pool is not the mean."""
    size_wh: tuple[int, int] | None = None
    """The backbone's own size where omitted."""
    reduction: Reduction = 1
    """Pictures are judged at this fraction of their size: a JPEG is then unpacked faster."""
    normalisation: Normalisation | None = None
    """What the weights expect of their input; chosen by cross-validation on train where a file does not say."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    fine_tuning: FineTuning | None = None
    roi: str = "none"
    """``none``, ``learned``, or the file of a recipe."""
    locator: LocatorOptions = field(default_factory=LocatorOptions)
    """How a learned region is trained."""
    seed: int = 0
    promise: Promise = field(default_factory=Promise)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training run made."""

    bundle: Bundle
    val: Evaluation
    history: list[dict[str, float]]
    """One row per epoch of fine-tuning; empty without."""


def train_inspector(
    dataset: Dataset, out: Path, options: TrainingOptions | None = None, *, overwrite: bool = False
) -> Trained:
    """Train an inspector on a data set and seal it in a bundle.

    Trains on the train split, chooses on val, certifies on calibrate; test is never looked at.

    Args:
        dataset: Labelled and split pictures.
        out: The bundle's folder.
        options: What to train; the defaults of `TrainingOptions` where omitted.
        overwrite: Replace a bundle already there, once the new one is complete.

    Raises:
        InputError: unfit data, unknown backbone, weights that do not fit, ``out`` exists.
        ParityError: the exported graph differs from the trained network.
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out}: already exists. Choose another --out, or pass --overwrite.")
    require_trainable(dataset)
    options = _settled(options or TrainingOptions(), dataset)
    torch.manual_seed(options.seed)
    side = architecture(options.backbone).side
    work = out.with_name(f"{out.name}.work")
    search = keep_roi(options.roi, dataset, work / "roi", options.locator)
    source = make_source(dataset, search, options.size_wh or (side, side))
    require_resolution(source, options.reduction, _method(search))
    network, head = _frozen_gear(source, options)
    history: list[dict[str, float]] = []
    if options.fine_tuning is not None:
        train, val = source.dataset.split(Split.TRAIN), source.dataset.split(Split.VAL)
        history = fine_tune(
            network,
            source,
            train,
            val,
            options.fine_tuning,
            options.augmentation,
            cells=head.cells,
            seed=options.seed,
            work=work,
        )
    facts: dict[str, JsonValue] = {
        "options": plain(asdict(options)),
        "head_strength": head.strength,
        "head_val_loss": head.val_loss,
        "fine_tuning": [dict(row) for row in history],
    }
    with folder_beside(out, replace=overwrite) as partial:
        if search is not None:
            shutil.copytree(work / "roi", partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(IDENTITY))
        made = fill_bundle(partial, out.name, network, source, search, options, facts)
    shutil.rmtree(work, ignore_errors=True)
    sealed = Inspector.load(out).bundle  # opened as a user would, golden frames and all
    return Trained(bundle=sealed, val=made, history=history)


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


def make_source(dataset: Dataset, search: Roi | None, size_wh: tuple[int, int]) -> Source:
    """Training pictures as the inspector will cut them out; those without a region are left out."""
    if search is None:
        return Source(dataset=dataset, size_wh=size_wh)
    regions = find_regions(search, dataset, dataset.split(Split.TRAIN, Split.VAL))
    kept = tuple(
        sample
        for sample in dataset.samples
        if sample.split not in (Split.TRAIN, Split.VAL) or sample.file_name in regions
    )
    left = Dataset(root=dataset.root, samples=kept)
    require_trainable(left)
    return Source(dataset=left, size_wh=size_wh, regions=regions)


def require_resolution(source: Source, reduction: Reduction, method: str) -> None:
    """Refuse a reduction that would leave the network less than it asks for."""
    if reduction == 1:
        return
    if method == "fixed":
        raise InputError("--reduction: a fixed region is given in pixels of the whole frame. Leave --reduction at 1.")
    for sample in source.dataset.split(Split.TRAIN)[:PROBED]:
        corners = corners_of(source.region(sample, source.dataset.load(sample)))
        sides = side_lengths(corners[None])[0] / reduction
        if min(sides / source.size_wh) < ENOUGH:
            raise InputError(
                f"{source.dataset.path(sample)}: at 1/{reduction} of its size the region is {sides[0]:.0f} x "
                f"{sides[1]:.0f} pixels, less than the {source.size_wh[0]} x {source.size_wh[1]} that the network "
                "looks at. Choose a smaller --reduction or --size."
            )


def _settled(options: TrainingOptions, dataset: Dataset) -> TrainingOptions:
    """The options with what they leave open decided: small defects call for a finer map, and one cell must count."""
    masks = options.masks and options.pool is not Pool.MEAN and masked(dataset.split(Split.TRAIN))
    if masks:
        console.print("Bad pictures carry masks: the head is taught cell by cell (--no-masks: by the labels alone).")
    chosen = architecture(options.backbone)
    return replace(
        options,
        masks=masks,
        pool=options.pool or (Pool.LSE if masks else Pool.MEAN),
        cuts=options.cuts or ((*chosen.fine, chosen.last) if masks else ()),
    )


def _frozen_gear(source: Source, options: TrainingOptions) -> tuple[Network, Head]:
    """A backbone as it comes, and the head fitted on its features."""
    features = _choose_features(source, options)
    assert options.pool is not None, "settled before"
    head = (_fit_on_cells if options.masks else _fit_on_labels)(source, features, options, options.pool)
    network = Network(features, MapHead(len(head.weight), options.pool, context=head.context is not None))
    with torch.no_grad():
        network.head.conv.weight.copy_(torch.from_numpy(head.weight)[None, :, None, None])
        if network.head.context is not None:
            network.head.context.weight.copy_(torch.from_numpy(head.context)[None])
        network.head.bias.fill_(head.bias)
    return network.eval(), head


def _fit_on_labels(source: Source, features: FeatureNetwork, options: TrainingOptions, pool: Pool) -> Head:
    """The head that tells good pictures from bad ones."""
    train, val = source.dataset.split(Split.TRAIN), source.dataset.split(Split.VAL)
    head = fit_mean(*_pooled_pair(source, features, options))
    if pool is Pool.MEAN:
        return head
    graph = runtime.compile_graph(export_features(features, source.size_wh), many=True)
    scratch = settings().cache_dir / "scratch"
    maps = [
        feature_maps(graph, source, samples, augmentation, seed=options.seed, scratch=scratch)
        for samples, augmentation in ((train, options.augmentation), (val, PLAIN))
    ]
    return fit_map(head, *maps, pool=pool, sharpness=SHARPNESS, seed=options.seed)


def _fit_on_cells(source: Source, features: FeatureNetwork, options: TrainingOptions, pool: Pool) -> Head:
    """The head that tells defective cells of the map from sound ones; context, scale and bias are of the pictures."""
    pooled = _pooled_pair(source, features, options)
    context = fit_mean(*pooled).weight
    train, val = source.dataset.split(Split.TRAIN), source.dataset.split(Split.VAL)
    shift_xy = measure_shift(features, source.size_wh)
    graph = runtime.compile_graph(export_maps(features, source.size_wh), many=True)
    cells = gather_cells(graph, source, train, options.augmentation, seed=options.seed, shift_xy=shift_xy)
    tried = discriminants(cells)
    maps = defect_maps(stream_maps(graph, source, val, PLAIN, seed=options.seed), tried)
    return fit_score(tried, maps, pooled[1], context=context, pool=pool, sharpness=SHARPNESS, shift_xy=shift_xy)


def _pooled_pair(source: Source, features: FeatureNetwork, options: TrainingOptions) -> tuple[Pooled, Pooled]:
    """Mean-pooled features of all views of train, and of the untouched pictures of val."""
    train, val = source.dataset.split(Split.TRAIN), source.dataset.split(Split.VAL)
    return (
        _pooled(source, features, train, options, options.augmentation, seed=options.seed),
        _pooled(source, features, val, options, PLAIN, seed=options.seed),
    )


def _pooled(
    source: Source,
    features: FeatureNetwork,
    samples: Sequence[Sample],
    options: TrainingOptions,
    augmentation: Augmentation,
    *,
    seed: int,
) -> Pooled:
    """Mean-pooled features, from the cache where they were computed before."""
    return pooled_features(
        runtime.compile_graph(export_pooled(features, source.size_wh), many=True),
        source,
        samples,
        augmentation,
        seed=seed,
        cache=settings().cache_dir / "features",
        identity=run_identity(features, options.backbone, features.stack.cuts, source.identity),
    )


def _choose_features(source: Source, options: TrainingOptions) -> FeatureNetwork:
    """The backbone with its input normalisation: the declared one, or the one that does better on unseen parts."""
    stack = load_backbone(options.backbone, weights=options.weights, cuts=options.cuts, seed=options.seed).eval()
    normalisations = candidates(options.normalisation, options.backbone, options.weights)
    tried = [FeatureNetwork(stack, each).eval() for each in normalisations]
    if len(tried) == 1:
        return tried[0]
    train = source.dataset.split(Split.TRAIN)
    parts = [sample.part_id for sample in train]
    losses = [
        cross_validated_loss(_pooled(source, features, train, options, PLAIN, seed=0), parts) for features in tried
    ]
    names = ("ImageNet mean and deviation", "[-1, 1]")
    best = losses.index(min(losses))
    told = ", ".join(f"{name}: {loss:.3f}" for name, loss in zip(names, losses, strict=True))
    console.print(f"Input normalisation chosen by cross-validation (loss with {told}): {names[best]}.")
    return tried[best]


def fill_bundle(
    folder: Path,
    name: str,
    network: Network,
    source: Source,
    search: Roi | None,
    options: TrainingOptions,
    facts: dict[str, JsonValue],
) -> Evaluation:
    """Export, check, judge val for the colour scale and the golden frames, certify, seal."""
    dataset = source.dataset
    recipe = Recipe(size_wh=source.size_wh, roi=_method(search), reduction=options.reduction)
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
        data_fingerprint=fingerprint(dataset, dataset.split(Split.TRAIN, Split.VAL)),
    )
    draft = Inspector(bundle.write_manifest(folder, manifest), graph, search)
    shift_xy = measure_shift(network.features, source.size_wh)
    finished = seal(draft, dataset, options.promise, shift_xy)
    return evaluate(Inspector(finished, graph, search), dataset, (Split.VAL,), with_regions=False)


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


def _method(search: Roi | None) -> Literal["none", "fixed", "classical", "learned"]:
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
        ranked = _ranked((sample, verdict) for sample, verdict in judged if sample.label is label)
        chosen |= {f"{label}-low": ranked[0], f"{label}-high": ranked[-1]}
    if inspector.cascade is not None:
        for name, asked in (("student", False), ("teacher", True)):
            chosen[name] = _ranked((sample, verdict) for sample, verdict in judged if bool(verdict.doubt) is asked)[0]
    kept = []
    (inspector.path / bundle.GOLDEN).mkdir()
    for name, sample in chosen.items():
        whole = dataset.load(sample)
        frame, expected = _reduced(whole), inspector.inspect(whole)
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
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
