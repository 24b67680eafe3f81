"""An inspector trained again with what review brought, promoted only where it does better on parts neither used."""

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
from gonogo.bundle import Bundle
from gonogo.certification import promise_in_force
from gonogo.certification.trust import refuse_leaks
from gonogo.dataset import Dataset, Sample, Split
from gonogo.dataset.judged import record_judged, refuse_redealt
from gonogo.errors import DatasetError, InputError, UnfitError
from gonogo.evaluate import evaluate
from gonogo.files import folder_beside
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise
from gonogo.schema import Label, OperatingPoint, Scores, State
from gonogo.workflow.comparing import ScoredDataset
from gonogo.workflow.made_with import MadeWith, read_made_with, sha256_of
from gonogo.workflow.options import LocatorOptions, TrainingOptions
from gonogo.workflow.reviewed import Grown, grow, learned_anew
from gonogo.workflow.sealing import Built
from gonogo.workflow.training import train_inspector

SIGNIFICANCE = 0.05
"""Largest p value at which a review rate counts as lower."""


@dataclass(frozen=True, kw_only=True)
class BundleComparison:
    """Both inspectors on the test parts that neither was made with, at the thresholds that each is expected to get."""

    before: ScoredDataset
    after: ScoredDataset
    left_out: int
    """Test parts that one of the two was made with."""
    losses: tuple[str, ...]
    """What is certified now and would be no longer."""

    @property
    def only_before(self) -> int:
        """Parts that only the old inspector sends to a person."""
        return len(to_a_person(self.before) - to_a_person(self.after))

    @property
    def only_after(self) -> int:
        """Parts that only the new inspector sends to a person."""
        return len(to_a_person(self.after) - to_a_person(self.before))

    @property
    def p_value(self) -> float:
        """Of the one-sided exact sign test that the new one sends fewer parts to a person (McNemar, 1947)."""
        uneven = self.only_before + self.only_after
        return float(stats.binomtest(self.only_after, uneven, alternative="less").pvalue) if uneven else 1.0

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the new inspector is not promoted; empty where it is."""
        found = list(self.losses)
        if self.p_value > SIGNIFICANCE:
            found.append(
                f"Its review rate is not shown to be lower (one-sided exact sign test, p = {self.p_value:.3g}, "
                f"{SIGNIFICANCE:g} is asked for)."
            )
        if not self.after.point.escape.holds and not self.after.point.go_without_promise:
            missing = self.after.point.escape.parts_missing
            found.append(f"Nothing passes under either: {missing} more bad calibration parts are needed.")
        return tuple(found)

    def sentence(self) -> str:
        """The counts, for people."""
        before, after = to_a_person(self.before), to_a_person(self.after)
        return (
            f"Of {len(self.after.judged.parts)} test parts that neither was made with, {len(before)} go to a person "
            f"under the old inspector and {len(after)} under the new one ({self.only_before} only under the old, "
            f"{self.only_after} only under the new). {_mistakes(self.before, 'old')}; {_mistakes(self.after, 'new')}."
        )

    def to_json(self) -> dict[str, JsonValue]:
        """The counts, for programs and for the manifest."""
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
    """What came of it."""

    bundle: Bundle | None
    """The new bundle; ``None`` where it was not promoted, nor written all the same."""
    tried: BundleComparison
    new: int
    """Pictures that the old inspector had not learned from, or under another label."""
    grown: Grown | None
    """What a ledger brought."""

    @property
    def promoted(self) -> bool:
        """Whether the new inspector is to replace the old one."""
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
    """Train an inspector again, with the options of the old one, on a data set that has grown.

    Both are compared before the calibrate split is opened: on test parts that neither was made with, at the thresholds
    to be expected by the scores of the parts that both learned from, each scored by evidence fitted without it. Only
    the inspector that is promoted is certified, once.

    Args:
        before: The old inspector; left as it is.
        source: The data set that has grown; or a ledger, whose decided pictures are added to the train split of
            ``dataset``. They stay there only if the new inspector is written.
        out: The new bundle's folder.
        dataset: What a ledger's pictures are added to.
        overwrite: Replace a bundle already there, once the new one is complete.
        force: Write the new bundle even where it is not promoted.

    Raises:
        InputError: the old bundle was not made by the default method of `gonogo train`, or ``out`` exists.
        DatasetError: unfit data, or no test part that neither was made with.
        UnfitError: nothing new to learn.
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
    """The parts that go to a person: doubtful ones, and faults."""
    states = (State.REVIEW, State.FAULT)
    return frozenset(
        part.part for part in side.judged.parts if part.score is None or side.point.state(part.score) in states
    )


def options_of(inspector: Inspector) -> TrainingOptions:
    """The options that an inspector was trained with.

    Raises:
        InputError: another command made it, or it was fine-tuned.
    """
    manifest = inspector.bundle.manifest
    stated = manifest.training.get("options")
    other = manifest.cascade or manifest.quantization or manifest.distilled
    if manifest.classifier.pool != "evidence" or other is not None or not isinstance(stated, dict):
        raise InputError(
            f"{inspector.path}: expected an inspector that gonogo train made by its default method, found one that was "
            "fine-tuned, quantized, distilled or joined. Learn with the inspector it came from, or train it again."
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
        normalisation=_normalisation(stated["normalisation"]),
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
    """One attempt: everything that the comparison needs."""

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
        losses = tuple(f"Less would be promised. {loss.sentence}" for loss in points.losses(now, after))
        return BundleComparison(before=sides[0], after=sides[1], left_out=left_out, losses=losses)

    def _unseen(self) -> tuple[Dataset, int]:
        """The test parts that neither was made with."""
        learned = {sample.part_id for sample in self.data.split(Split.TRAIN, Split.VAL, Split.CALIBRATE)}
        test = [sample for sample in self.data.split(Split.TEST) if sample.label is not None]
        used = {s.part_id for s in test if self.made_with.knows(s, sha256_of(self.data.path(s)))} | learned
        unseen = tuple(sample for sample in test if sample.part_id not in used)
        if not unseen:
            raise DatasetError(
                f"{self.data.root}: expected labelled test parts that neither inspector was made with, found none of "
                f"{len(test)} pictures. Photograph a random sample of the line for the test split."
            )
        return Dataset(root=self.data.root, samples=unseen), len({s.part_id for s in test} & used)

    def _scores_left_out(self, built: Built) -> tuple[dict[Label, Scores], dict[Label, Scores]]:
        """Scores of the parts that both learned from, by evidence fitted without them: of the old and the new."""
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
                "Train anew on this data set: gonogo train"
            )
        return points.expected_operating_point(
            scores[Label.GOOD], scores[Label.BAD], self.promise, good_parts=len(good), bad_parts=len(bad)
        )


def _learn(run: _Run, options: TrainingOptions, out: Path) -> Learned:
    refuse_leaks(run.data)
    refuse_redealt(run.data)
    known = {each.sha256: each.label.value for each in run.made_with.pictures if each.split is not Split.CALIBRATE}
    new = len(list(learned_anew(run.data, known)))
    if not new:
        raise UnfitError(
            f"{run.data.root}: nothing new to learn: {run.before.path} was trained on all of its labelled train "
            "and val pictures. Review parts, or label more."
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
    return Learned(bundle=Inspector.load(out).bundle, tried=run.tried[-1], new=new, grown=None)


def _by_label(scored: Sequence[tuple[Sample, float]]) -> dict[Label, Scores]:
    """The worst score of each part, by label; a part with a bad picture is bad."""
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
        f"the {name} one passes {escapes.count} of {escapes.of} bad parts and rejects {overkills.count} of "
        f"{overkills.of} good ones"
    )


def _roi(inspector: Inspector) -> str:
    """A learned region is learned again; another is taken from the bundle, whatever became of its file."""
    method = inspector.recipe.roi
    return method if method in ("none", "learned") else str(inspector.bundle.roi)


def _normalisation(stated: Any) -> Any:
    if stated is None:
        return None
    from gonogo.model import Normalisation  # torch, as for the backbone that it belongs to

    return Normalisation(mean=tuple(stated["mean"]), std=tuple(stated["std"]))
