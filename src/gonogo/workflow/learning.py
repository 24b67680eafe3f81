"""Trains an inspector again on a grown data set, and promotes it only if it is better on unused test parts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from scipy import stats

from gonogo import operating_point as points
from gonogo.backbone import OWN
from gonogo.bundle import Bundle
from gonogo.certification import promise_in_force
from gonogo.certification.trust import refuse_leaks
from gonogo.config import Checks
from gonogo.dataset import Dataset, Sample, Split
from gonogo.dataset.judged import record_judged, refuse_redealt
from gonogo.errors import DatasetError, InputError, UnfitError
from gonogo.evaluate import evaluate
from gonogo.files import folder_beside
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise
from gonogo.schema import Label, OperatingPoint, Scores, State
from gonogo.signing import NOT_REQUIRED
from gonogo.workflow.comparing import ScoredDataset
from gonogo.workflow.made_with import MadeWith, read_made_with, sha256_of
from gonogo.workflow.options import LocatorOptions, TrainingOptions
from gonogo.workflow.reviewed import Grown, grow, new_or_relabelled
from gonogo.workflow.sealing import Built
from gonogo.workflow.training import train_inspector

SIGNIFICANCE = 0.05
"""Largest p value at which a review rate counts as lower."""


@dataclass(frozen=True, kw_only=True)
class BundleComparison:
    """Both inspectors on test parts used for neither of them, at the thresholds expected for each."""

    before: ScoredDataset
    after: ScoredDataset
    left_out: int
    """Number of test parts excluded because one of the two was trained or certified on them."""
    losses: tuple[str, ...]
    """Current promises that would be weakened or dropped."""

    @property
    def only_before(self) -> int:
        """Number of parts that only the old inspector sends to a person."""
        return len(to_a_person(self.before) - to_a_person(self.after))

    @property
    def only_after(self) -> int:
        """Number of parts that only the new inspector sends to a person."""
        return len(to_a_person(self.after) - to_a_person(self.before))

    @property
    def p_value(self) -> float:
        """P value of the one-sided exact sign test that the new one sends fewer parts to a person (McNemar, 1947)."""
        uneven = self.only_before + self.only_after
        return float(stats.binomtest(self.only_after, uneven, alternative="less").pvalue) if uneven else 1.0

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the new inspector is not promoted; empty if it is."""
        found = list(self.losses)
        if self.p_value > SIGNIFICANCE:
            found.append(
                f"The review rate is not significantly lower (one-sided exact sign test, p = {self.p_value:.3g}, "
                f"at most {SIGNIFICANCE:g} is required)."
            )
        if not self.after.point.escape.holds and not self.after.point.go_without_promise:
            missing = self.after.point.escape.parts_missing
            found.append(f"Neither inspector passes any part: {missing} more bad calibration parts are needed.")
        return tuple(found)

    def sentence(self) -> str:
        """Describe the counts in plain sentences."""
        before, after = to_a_person(self.before), to_a_person(self.after)
        return (
            f"Of {len(self.after.judged.parts)} test parts used for neither inspector, the old one sends {len(before)} "
            f"to a person and the new one {len(after)} ({self.only_before} only the old one, {self.only_after} "
            f"only the new one). {_mistakes(self.before, 'old')}. {_mistakes(self.after, 'new')}."
        )

    def to_json(self) -> dict[str, JsonValue]:
        """Return the counts as a JSON object, also for the manifest."""
        sides = {name: side.tally().model_dump(mode="json") for name, side in self._sides().items()}
        return {
            **sides,
            "parts": len(self.after.judged.parts),
            "parts_left_out": self.left_out,
            "to_a_person_only_before": self.only_before,
            "to_a_person_only_after": self.only_after,
            "p_value": self.p_value,
        }

    def _sides(self) -> dict[str, ScoredDataset]:
        return {"before": self.before, "after": self.after}


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Result of learning from a grown data set."""

    bundle: Bundle | None
    """The new bundle; ``None`` if it was neither promoted nor forced."""
    tried: BundleComparison
    new: int
    """Number of pictures that are new to the old inspector or have another label."""
    grown: Grown | None
    """Pictures added from a ledger; ``None`` if the source is a data set."""

    @property
    def promoted(self) -> bool:
        """Whether the new inspector should replace the old one."""
        return not self.tried.reasons


class NotBetterError(UnfitError):
    """The new inspector is not promoted, so it is not sealed."""

    def __init__(self, tried: BundleComparison) -> None:
        super().__init__(" ".join(tried.reasons))
        self.tried = tried


def learn_bundle(
    before: Inspector,
    source: Path,
    out: Path,
    *,
    dataset: Dataset | None = None,
    overwrite: bool = False,
    force: bool = False,
) -> Learned:
    """Train an inspector again, with the same options, on a data set that has grown.

    Both are compared before the calibrate split is used: on test parts used for neither of them, at the thresholds
    expected from the out-of-fold scores of the parts that both learned from. Only a promoted inspector is certified,
    once.

    Args:
        before: The old inspector; not modified.
        source: The grown data set, or a ledger whose decided pictures are added to the train split of ``dataset``. They
            are kept there only if the new inspector is written.
        out: Path of the new bundle.
        dataset: The data set that pictures of a ledger are added to.
        overwrite: Replace an existing bundle once the new one is complete.
        force: Write the new bundle even if it is not promoted.

    Raises:
        InputError: the old bundle was not made by the default method of `gonogo train`, or ``out`` exists.
        DatasetError: the data are unsuitable, or all test parts were used for one of the inspectors.
        UnfitError: there is nothing new to learn.
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out}: already exists. Choose another --out, or pass --overwrite.")
    options, made_with, promise = options_of(before), read_made_with(before.bundle), promise_in_force(before.bundle)
    grown = None if dataset is None else grow(dataset, source)
    data = Dataset.read(source) if grown is None else grown.dataset
    written = False
    try:
        learned = _learn(
            _Run(before=before, data=data, made_with=made_with, promise=promise, force=force), options, out
        )
        written = learned.bundle is not None
    finally:
        if grown is not None:
            (grown.keep if written else grown.discard)()
    return replace(learned, grown=grown)


def to_a_person(side: ScoredDataset) -> frozenset[str]:
    """The parts that go to a person: reviews and faults."""
    states = (State.REVIEW, State.FAULT)
    return frozenset(
        part.part for part in side.judged.parts if part.score is None or side.point.state(part.score) in states
    )


def options_of(inspector: Inspector) -> TrainingOptions:
    """Return the options that an inspector was trained with.

    Raises:
        InputError: the inspector was fine-tuned, or made by another command.
    """
    manifest = inspector.bundle.manifest
    stated = manifest.training.get("options")
    other = manifest.cascade or manifest.quantization or manifest.distilled
    if manifest.classifier.pool != "evidence" or other is not None or not isinstance(stated, dict):
        raise InputError(
            f"{inspector.path}: expected an inspector made by the default method of gonogo train, found one that was "
            "fine-tuned, quantized, distilled, cascaded or imported. Use the one it was made from, or train again."
        )
    if stated["weights"] == OWN:
        raise InputError(
            f"{inspector.path}: was trained on a network of your own, which the bundle does not contain. Train again "
            "in Python, with TrainingOptions(own=...)."
        )
    locator: Any = stated["locator"]
    size = stated["size_wh"]
    return TrainingOptions(
        backbone=str(stated["backbone"]),
        weights=str(stated["weights"]),
        cuts=tuple(stated["cuts"]),  # type: ignore[arg-type]
        masks=bool(stated["masks"]),
        size_wh=None if size is None else (int(size[0]), int(size[1])),  # type: ignore[index, arg-type]
        reduction=inspector.recipe.reduction,
        reduced_by=inspector.recipe.reduced_by,
        tiling=inspector.recipe.tiling,
        zones=inspector.recipe.zones,
        normalisation=_normalisation(stated["normalisation"]),
        health=bool(stated.get("health", False)),  # older bundles judge every picture, and go on doing so
        checks=Checks.of(inspector.recipe),
        roi=_roi(inspector),
        locator=LocatorOptions(
            backbone=locator["backbone"],
            weights=locator["weights"],
            cuts=tuple(locator["cuts"]),
            normalisation=_normalisation(locator["normalisation"]),
            size_wh=None if locator["size_wh"] is None else tuple(locator["size_wh"]),
            miss_rate=locator["miss_rate"],
            seed=locator["seed"],
        ),
        seed=int(stated["seed"]),  # type: ignore[arg-type]
    )


@dataclass(kw_only=True)
class _Run:
    """State of one attempt, for the comparison."""

    before: Inspector
    data: Dataset
    made_with: MadeWith
    promise: Promise
    force: bool
    tried: list[BundleComparison] = field(default_factory=list)

    def approve(self, draft: Inspector, built: Built) -> Mapping[str, JsonValue]:
        """Compare a draft with the old inspector; see `gonogo.workflow.sealing.Approve`."""
        tried = self._compare(draft, built)
        self.tried.append(tried)
        if tried.reasons and not self.force:
            raise NotBetterError(tried)
        return {
            "learned": {
                "before_sha256": self.before.bundle_sha256,
                "promoted": not tried.reasons,
                "reasons": list(tried.reasons),
                "compared": tried.to_json(),
            }
        }

    def _compare(self, draft: Inspector, built: Built) -> BundleComparison:
        unseen, left_out = self._unseen()
        before, after = (self._expected(scores) for scores in self._scores_left_out(built))
        sides = [
            ScoredDataset(point=point, judged=evaluate(judge, unseen, (Split.TEST,), with_regions=False))
            for judge, point in ((self.before, before), (draft, after))
        ]
        record_judged(self.data, (Split.TEST,))
        now = self.before.operating_point
        losses = tuple(f"The promise would be weaker. {loss.sentence}" for loss in points.losses(now, after))
        return BundleComparison(before=sides[0], after=sides[1], left_out=left_out, losses=losses)

    def _unseen(self) -> tuple[Dataset, int]:
        """The test parts used for neither inspector, and the number of excluded parts."""
        learned = {sample.part_id for sample in self.data.split(Split.TRAIN, Split.VAL, Split.CALIBRATE)}
        test = [sample for sample in self.data.split(Split.TEST) if sample.label is not None]
        used = {s.part_id for s in test if self.made_with.includes(s, sha256_of(self.data.path(s)))} | learned
        unseen = tuple(sample for sample in test if sample.part_id not in used)
        if not unseen:
            raise DatasetError(
                f"{self.data.root}: expected labelled test parts used for neither inspector, found none among "
                f"{len(test)} pictures. Photograph a random sample of the line for the test split."
            )
        return Dataset(root=self.data.root, samples=unseen, depth=self.data.depth), len(
            {s.part_id for s in test} & used
        )

    def _scores_left_out(self, built: Built) -> tuple[dict[Label, Scores], dict[Label, Scores]]:
        """Out-of-fold scores of the old and the new inspector for the parts that both learned from."""
        rows = []
        for sample in self.data.split(Split.TRAIN, Split.VAL):
            known = self.made_with.by_digest.get(sha256_of(self.data.path(sample)))
            score = built.left_out.get(sample.file_name)
            if known is not None and known.score is not None and score is not None and known.label is sample.label:
                rows.append((sample, known.score, score))
        return _by_label([(s, old) for s, old, _ in rows]), _by_label([(s, new) for s, _, new in rows])

    def _expected(self, scores: Mapping[Label, Scores]) -> OperatingPoint:
        calibrate = self.data.split(Split.CALIBRATE)
        bad = {sample.part_id for sample in calibrate if sample.label is Label.BAD}
        good = {sample.part_id for sample in calibrate if sample.label is Label.GOOD} - bad
        if not len(scores[Label.GOOD]) or (len(bad) and not len(scores[Label.BAD])):
            raise DatasetError(
                f"{self.data.root}: expected good and bad pictures that both inspectors learned from, to estimate "
                f"their thresholds, found {len(scores[Label.GOOD])} good and {len(scores[Label.BAD])} bad parts. "
                "Train again on this data set: gonogo train"
            )
        return points.expected_operating_point(
            scores[Label.GOOD], scores[Label.BAD], self.promise, good_parts=len(good), bad_parts=len(bad)
        )


def _learn(run: _Run, options: TrainingOptions, out: Path) -> Learned:
    refuse_leaks(run.data)
    refuse_redealt(run.data)
    known = {each.sha256: each.label.value for each in run.made_with.pictures if each.split is not Split.CALIBRATE}
    new = len(list(new_or_relabelled(run.data, known)))
    if not new:
        raise UnfitError(
            f"{run.data.root}: nothing new to learn: {run.before.path} was trained on all labelled train and val "
            "pictures. Review parts, or label more."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        draft = Path(place) / out.name
        try:
            train_inspector(run.data, draft, replace(options, promise=run.promise), approve=run.approve)
        except NotBetterError as error:
            return Learned(bundle=None, tried=error.tried, new=new, grown=None)
        with folder_beside(out, replace=out.exists()) as partial:
            shutil.copytree(draft, partial, dirs_exist_ok=True)
    return Learned(bundle=Inspector.load(out, policy=NOT_REQUIRED).bundle, tried=run.tried[-1], new=new, grown=None)


def _by_label(scored: Sequence[tuple[Sample, float]]) -> dict[Label, Scores]:
    """The highest score of each part, by label; a part with a bad picture is bad."""
    names, worst = points.worst_per_part([sample.part_id for sample, _ in scored], [score for _, score in scored])
    bad = {sample.part_id for sample, _ in scored if sample.label is Label.BAD}
    is_bad = [name in bad for name in names]
    return {
        Label.GOOD: worst[[not each for each in is_bad]] if len(worst) else worst,
        Label.BAD: worst[is_bad] if len(worst) else worst,
    }


def _mistakes(side: ScoredDataset, name: str) -> str:
    escapes, overkills = side.rate(State.GO, Label.BAD), side.rate(State.NO_GO, Label.GOOD)
    return (
        f"The {name} one passes {escapes.count} of {escapes.of} bad parts and rejects {overkills.count} of "
        f"{overkills.of} good ones"
    )


def _roi(inspector: Inspector) -> str:
    """The ROI option: a learned region is trained again; a ROI config is taken from the bundle."""
    method = inspector.recipe.roi
    return method if method in ("none", "learned") else str(inspector.bundle.roi)


def _normalisation(stated: Any) -> Any:
    if stated is None:
        return None
    from gonogo.model import Normalisation  # torch, as for the backbone that it belongs to

    return Normalisation(mean=tuple(stated["mean"]), std=tuple(stated["std"]))
