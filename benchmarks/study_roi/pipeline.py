"""Compare no region, a classical region and a learned region in front of the judging network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64
from scipy.stats import norm

from gonogo.dataset import Dataset, Split
from gonogo.evaluate import Rate, Verdicts, evaluate
from gonogo.inspector import Inspector
from gonogo.schema import Label, Prediction, State
from gonogo.workflow import TrainingOptions, train_inspector

Interval: TypeAlias = tuple[float, float, float]
"""An estimate with the low and the high end of its 95 % interval."""
Wins: TypeAlias = tuple[Float64[np.ndarray, " bad"], Float64[np.ndarray, " good"]]


@dataclass(frozen=True, kw_only=True)
class PipelineRow:
    """One way to the region, and what the whole inspector made of the test parts.

    Two rules turn a score into a verdict. The plain one is the article's: bad at a score of 0 or more; what was not
    found is never passed, nor called bad. The certified one is the bundle's operating point, with its parts for a
    person.
    """

    region: str
    """``none``, ``CV + DL`` or ``DL + DL``."""
    pictures: tuple[Prediction, ...]
    roi_iou: float | None = None
    """Mean over the test pictures with a box, 0 where the part was not found; ``None`` without a region."""

    @property
    def judged(self) -> Verdicts:
        """By the certified rule."""
        return Verdicts(pictures=self.pictures)

    @property
    def recall(self) -> Rate:
        """Plain rule: bad parts called bad or not found, of all bad parts."""
        return self._rate(Label.BAD, lambda part: part.score is None or part.score >= 0)

    @property
    def escape(self) -> Rate:
        """Plain rule: bad parts passed, of all bad parts."""
        return self._rate(Label.BAD, lambda part: part.score is not None and part.score < 0)

    @property
    def overkill(self) -> Rate:
        """Plain rule: good parts called bad, of all good parts."""
        return self._rate(Label.GOOD, _called_bad)

    @property
    def precision(self) -> Rate:
        """Plain rule: bad parts among those called bad."""
        return Rate.of_outcomes(part.label is Label.BAD for part in self.judged.parts if _called_bad(part))

    @property
    def auroc(self) -> Interval | None:
        """Over the parts that have a score; see `area_with_interval`."""
        scored = [part for part in self.judged.parts if part.score is not None]
        if len({part.label for part in scored}) < 2:
            return None
        return area_with_interval(_wins(scored))

    def gain_over(self, other: PipelineRow) -> Interval | None:
        """By how much the AUROC is larger, over the parts that both could judge."""
        own, theirs = (
            {part.part: part for part in row.judged.parts if part.score is not None} for row in (self, other)
        )
        shared = sorted(own.keys() & theirs.keys())
        if len({own[name].label for name in shared}) < 2:
            return None
        first, second = _wins([own[name] for name in shared]), _wins([theirs[name] for name in shared])
        return area_with_interval((first[0] - second[0], first[1] - second[1]), least=-1.0)

    def to_json(self) -> dict[str, object]:
        """Flat, with the intervals."""
        judged = self.judged
        area = self.auroc or (None, None, None)
        return {
            "region": self.region,
            "parts_good": judged.count(Label.GOOD),
            "parts_bad": judged.count(Label.BAD),
            "roi_iou": self.roi_iou,
            **dict(zip(("auroc", "auroc_low", "auroc_high"), area, strict=True)),
            "average_precision": judged.average_precision,
            **self.recall.to_json("recall"),
            **self.precision.to_json("precision"),
            **self.escape.to_json("escape_rate"),
            **self.overkill.to_json("overkill_rate"),
            **judged.fault.to_json("fault_rate"),
            **judged.escape.to_json("certified_escape_rate"),
            **judged.overkill.to_json("certified_overkill_rate"),
            **judged.review.to_json("certified_review_rate"),
        }

    def _rate(self, label: Label, hit: Callable[[Prediction], bool]) -> Rate:
        return Rate.of_outcomes(hit(part) for part in self.judged.parts if part.label is label)


def try_pipeline(name: str, region: str, dataset: Dataset, options: TrainingOptions, out: Path) -> PipelineRow:
    """Train an inspector with one kind of region, and judge the test parts with it.

    Args:
        name: What the table calls it.
        region: As for ``--roi``: ``none``, a recipe's file or ``learned``.
        dataset: Boards, split.
        options: How to train; the region is replaced, nothing else differs.
        out: Where the bundle goes; see `bundle_of`.
    """
    bundle = bundle_of(out, name)
    train_inspector(dataset, bundle, replace(options, roi=region), overwrite=True)
    judged = evaluate(Inspector.load(bundle), dataset, (Split.TEST,))
    return PipelineRow(region=name, pictures=judged.pictures, roi_iou=judged.regions.mean_iou)


def bundle_of(out: Path, name: str) -> Path:
    """Where `try_pipeline` puts a bundle."""
    return out / f"{name.replace(' ', '').replace('+', '-').lower()}.inspector"


def area_with_interval(wins: Wins, *, least: float = 0.0) -> Interval:
    """The area under the ROC curve, or a difference of two, with its 95 % interval.

    From how often each bad part scores above a good one, and each good one below a bad one (DeLong et al., Biometrics
    44, 1988); for a difference of areas, the differences of both.

    Args:
        wins: Two parts or more of a kind, or the interval says nothing.
        least: What it can be at least: 0, or -1 for a difference.
    """
    over_bad, over_good = wins
    variance = sum(float(each.var(ddof=1)) / len(each) if len(each) > 1 else math.inf for each in (over_bad, over_good))
    half = float(norm.ppf(0.975)) * math.sqrt(variance)
    area = float(over_bad.mean())
    return area, max(area - half, least), min(area + half, 1.0)


def _wins(parts: Sequence[Prediction]) -> Wins:
    scores = np.array([part.score for part in parts], np.float64)
    bad = np.array([part.label is Label.BAD for part in parts])
    above = np.sign(scores[bad][:, None] - scores[~bad][None]) / 2 + 0.5
    return above.mean(axis=1), above.mean(axis=0)


def _called_bad(part: Prediction) -> bool:
    return part.state is not State.FAULT and part.score is not None and part.score >= 0
