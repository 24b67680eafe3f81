"""Trains an inspector: locate the region, train, certify and seal the bundle."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from gonogo.bundle import Bundle
from gonogo.certification import Certified
from gonogo.certification.hidden import refuse_hidden_defects
from gonogo.config import Checks, PresenceZone, Recipe, Reduction, Zone
from gonogo.dataset import Dataset, Split, require_trainable
from gonogo.dataset.judged import refuse_redealt
from gonogo.dataset.levels import with_levels
from gonogo.errors import InputError
from gonogo.files import folder_beside
from gonogo.images.geometry import side_lengths
from gonogo.inspector import Inspector
from gonogo.ranks import ALONE, Ranks
from gonogo.roi import Roi, WholeRoi
from gonogo.signing import NOT_REQUIRED
from gonogo.source import TrainingSource
from gonogo.workflow.evidence_training import train_evidence
from gonogo.workflow.made_with import write_made_with
from gonogo.workflow.options import TrainingOptions
from gonogo.workflow.picture_health import learn_health
from gonogo.workflow.region import IDENTITY, find_regions, keep_roi, margin_of
from gonogo.workflow.sealing import Approve, Unseen, fill_bundle, method_of, plain
from gonogo.workflow.tiled_training import report_windows, train_tiled
from gonogo.workflow.training_sheet import write_training_sheet
from gonogo.zoning import require_useful

PROBED = 16
"""Number of training pictures used to check a reduction."""
ENOUGH = 0.9
"""Smallest size of a region after reduction, as a share of the network's input size."""
USUAL_WH = (224, 224)
"""Input size of sources before the size is chosen."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Result of a training run."""

    bundle: Bundle
    certified: Certified
    unseen: Unseen | None
    """AUROC on pictures left out of training; ``None`` if all have the same label."""
    history: list[dict[str, float]]
    """One row per epoch of fine-tuning; empty without fine-tuning."""


def train_inspector(
    dataset: Dataset,
    out: Path,
    options: TrainingOptions | None = None,
    *,
    overwrite: bool = False,
    sheet: Path | None = None,
    approve: Approve | None = None,
    ranks: Ranks = ALONE,
) -> Trained:
    """Train an inspector on a data set and seal it in a bundle.

    Trains on train and val, certifies on calibrate; test is not used. torch is needed only for fine-tuning, learned
    regions and backbones of torchvision.

    Example:
        >>> trained = train_inspector(Dataset.read("discs"), Path("disc.inspector"), TrainingOptions(size_wh=(96, 64)))
        >>> trained.certified.point.escape.max_rate <= 0.15
        True

    Args:
        dataset: A labelled and split data set.
        out: Path of the new bundle.
        options: Default `TrainingOptions()`.
        overwrite: Replace an existing bundle once the new one is complete.
        sheet: Path of a PNG of training pictures as the network sees them, written once the bundle is complete.
        approve: Called before the calibrate split is used; an exception aborts the training with nothing written.
        ranks: This process's place among those that fine-tune together; the first one writes the bundle.

    Raises:
        ShareDoneError: this is not the first process, and its share is done.
        InputError: the data are unsuitable, the backbone or its weights are invalid, ``out`` exists, or the sheet
            cannot be written (the bundle is then complete).
        ParityError: the graph differs from the trained model.
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out}: already exists. Choose another --out, or pass --overwrite.")
    options = options or TrainingOptions()
    if options.tiling is not None and options.fine_tuning is not None:
        raise InputError("--tile: windows do not support fine-tuning. Omit --finetune.")
    if ranks.count > 1 and options.fine_tuning is None:
        raise InputError("torchrun: several processes share only fine-tuning. Add --finetune, or run it once.")
    require_trainable(dataset, good_only=options.fine_tuning is None)
    refuse_redealt(dataset)
    dataset = with_levels(dataset)
    work = out.with_name(f"{out.name}.work" if ranks.first else f"{out.name}.work-{ranks.rank}")
    search = keep_roi(options.roi, dataset, work / "roi", options.locator)
    require_useful(options.zones, 0.0 if search is None else margin_of(search))
    refuse_hidden_defects(dataset, search or WholeRoi(), options.zones, keep=options.promise.keep_hidden)
    source = make_source(dataset, search, options.size_wh or USUAL_WH, options.zones)
    history: list[dict[str, float]] = []
    if options.tiling is not None:
        built = train_tiled(source, options, options.tiling)
    elif options.fine_tuning is None:
        built = train_evidence(source, options)
    else:
        from gonogo.workflow.fine_tuned import train_fine_tuned  # torch

        try:
            built, history = train_fine_tuned(source, options, work, ranks)
        finally:
            if not ranks.first:
                shutil.rmtree(work, ignore_errors=True)
    require_resolution(built.source, options.reduction, method_of(search))
    facts: dict[str, JsonValue] = {"options": _stated(options), "fine_tuning": [dict(row) for row in history]}
    with folder_beside(out, replace=overwrite) as partial:
        if search is not None:
            shutil.copytree(work / "roi", partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(IDENTITY))
        write_made_with(partial, dataset, built.left_out)
        draft = fill_bundle(
            partial,
            out.name,
            built,
            search,
            reduction=options.reduction,
            reduced_by=options.reduced_by,
            promise=options.promise,
            facts=facts,
            trained_on=dataset,
            approve=approve,
            checks=_checks(options, dataset),
        )
        draft.seal()
    shutil.rmtree(work, ignore_errors=True)
    inspector = Inspector.load(out, policy=NOT_REQUIRED)  # loaded like by a user, including the golden frames
    if options.tiling is not None:
        report_windows(inspector, dataset)
    if sheet is not None:
        write_training_sheet(built.source, sheet)
    return Trained(bundle=inspector.bundle, certified=draft.certified, unseen=built.unseen, history=history)


def _checks(options: TrainingOptions, dataset: Dataset) -> Checks:
    """The checks of the new bundle, with picture limits measured on the training pictures if none are given."""
    own = options.checks.zones
    counted = tuple(zone for zone in options.zones if isinstance(zone, PresenceZone) and zone not in own)
    checks = options.checks.model_copy(update={"zones": (*counted, *own)})
    if not options.health or checks.health is not None:
        return checks
    judged = Recipe(reduction=options.reduction, reduced_by=options.reduced_by, depth=dataset.depth)
    return checks.model_copy(update={"health": learn_health(dataset, judged)})


def _stated(options: TrainingOptions) -> JsonValue:
    """The options for the manifest, with the name of a user's own network in place of the network."""
    if options.own is not None:
        options = replace(options, backbone=options.own.name, weights=options.own.weights, own=None)
    shown = asdict(options)
    del shown["checks"]  # they are in the recipe
    return plain(shown)


def make_source(
    dataset: Dataset, search: Roi | None, size_wh: tuple[int, int], zones: tuple[Zone, ...] = ()
) -> TrainingSource:
    """Training pictures cropped and blanked like in the inspector; those without a region are skipped."""
    if search is None:
        return TrainingSource(dataset=dataset, size_wh=size_wh, zones=zones)
    regions = find_regions(search, dataset, dataset.split(Split.TRAIN, Split.VAL))
    kept = tuple(
        sample
        for sample in dataset.samples
        if sample.split not in (Split.TRAIN, Split.VAL) or sample.file_name in regions
    )
    left = replace(dataset, samples=kept)
    require_trainable(left, good_only=True)
    return TrainingSource(dataset=left, size_wh=size_wh, regions=regions, margin=margin_of(search), zones=zones)


def require_resolution(source: TrainingSource, reduction: Reduction, method: str) -> None:
    """Raise if a reduction would leave fewer pixels than the input of the network."""
    if reduction == 1:
        return
    if method == "fixed":
        raise InputError("--reduction: a fixed region is given in pixels of the whole frame. Leave --reduction at 1.")
    for sample in source.dataset.split(Split.TRAIN)[:PROBED]:
        sides = [side / reduction for side in side_lengths(source.region(sample, source.dataset.load(sample)))]
        if min(side / size for side, size in zip(sides, source.size_wh, strict=True)) < ENOUGH:
            raise InputError(
                f"{source.dataset.path(sample)}: at 1/{reduction} of its size the region is {sides[0]:.0f} x "
                f"{sides[1]:.0f} pixels, less than the {source.size_wh[0]} x {source.size_wh[1]} that the network "
                "uses. Choose a smaller --reduction or --size."
            )
