"""The outcome of judging a data set: one row per picture, one per part, and every figure computed from them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64

from gonogo import operating_point as points
from gonogo.dataset import Split
from gonogo.evaluate.curves import auroc, average_precision
from gonogo.evaluate.rates import KindResult, Localisation, Rate, kind_results, localisation, scores_of
from gonogo.schema import Label, OperatingPoint, Prediction, Scores, State

_SEVERITY = (State.GO, State.REVIEW, State.FAULT, State.NO_GO)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A picture that could not be judged, and why."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How an inspector judged a data set. Rates are over *parts*; localisation is over pictures with a mask."""

    pictures: tuple[Prediction, ...]
    faults: tuple[Fault, ...]
    timings_ms: Mapping[str, Float64[np.ndarray, " pictures"]]
    """Durations of each stage of the judgements, as the inspector names them."""
    splits: tuple[Split, ...]
    unlabelled: int
    """Pictures left out because nobody has judged their part."""
    data_fingerprint: str
    bundle_sha256: str
    operating_point: OperatingPoint | None
    confidence: float = 0.95

    @cached_property
    def parts(self) -> tuple[Prediction, ...]:
        """One row per part: its worst verdict and worst score over all its pictures, see `worst_of_part`."""
        groups: defaultdict[str, list[Prediction]] = defaultdict(list)
        for picture in self.pictures:
            groups[picture.part].append(picture)
        return tuple(worst_of_part(group) for group in groups.values())

    def scores(self, label: Label) -> Scores:
        """The scores of the parts with this label, faults left out."""
        return scores_of(self.parts, label)

    @cached_property
    def auroc(self) -> float | None:
        """See `gonogo.evaluate.auroc`."""
        return auroc(self.scores(Label.GOOD), self.scores(Label.BAD))

    @cached_property
    def average_precision(self) -> float | None:
        """See `gonogo.evaluate.average_precision`."""
        return average_precision(self.scores(Label.GOOD), self.scores(Label.BAD))

    @property
    def escape(self) -> Rate:
        """Bad parts judged go, of all bad parts."""
        return self.confusion(Label.BAD, State.GO)

    @property
    def overkill(self) -> Rate:
        """Good parts judged no-go, of all good parts."""
        return self.confusion(Label.GOOD, State.NO_GO)

    @property
    def review(self) -> Rate:
        """Parts sent to a person, of all parts."""
        return self._rate(part.state is State.REVIEW for part in self.parts)

    @property
    def fault(self) -> Rate:
        """Parts that could not be judged, of all parts."""
        return self._rate(part.state is State.FAULT for part in self.parts)

    def confusion(self, label: Label, state: State) -> Rate:
        """How many of the parts with this label got this verdict."""
        return self._rate(part.state is state for part in self.parts if part.label is label)

    def count(self, label: Label) -> int:
        """How many parts have this label."""
        return sum(part.label is label for part in self.parts)

    @cached_property
    def kinds(self) -> tuple[KindResult, ...]:
        """What became of the bad parts of each defect kind."""
        return kind_results(self.parts, self.confidence)

    @cached_property
    def localisation(self) -> Localisation:
        """Over all bad pictures with a mask, whatever their verdict."""
        return localisation(self.pictures, self.confidence)

    @cached_property
    def localisation_rejected(self) -> Localisation:
        """Over those judged no-go, the ones whose heat map a person gets to see."""
        return localisation([p for p in self.pictures if p.state is State.NO_GO], self.confidence)

    def to_json(self) -> dict[str, Any]:
        """Every figure under a flat name, ready for ``json.dumps``; what is undefined is ``None``."""
        operating_point = self.operating_point
        return {
            "splits": [split.value for split in self.splits],
            "bundle_sha256": self.bundle_sha256,
            "data_fingerprint": self.data_fingerprint,
            "confidence": self.confidence,
            "pictures": len(self.pictures),
            "pictures_unlabelled": self.unlabelled,
            "parts": len(self.parts),
            "parts_good": self.count(Label.GOOD),
            "parts_bad": self.count(Label.BAD),
            "auroc": self.auroc,
            "average_precision": self.average_precision,
            **self.escape.to_json("escape_rate"),
            **self.overkill.to_json("overkill_rate"),
            **self.review.to_json("review_rate"),
            **self.fault.to_json("fault_rate"),
            "confusion": {
                label.value: {state.value: self.confusion(label, state).count for state in State} for label in Label
            },
            "kinds": [_kind_to_json(kind) for kind in self.kinds],
            **_localisation_to_json(self.localisation, ""),
            **_localisation_to_json(self.localisation_rejected, "_rejected"),
            "operating_point": None if operating_point is None else points.to_json(operating_point),
            "timings_ms": {stage: _timing_to_json(durations) for stage, durations in self.timings_ms.items()},
            "faults": [{"file": fault.file, "reason": fault.reason} for fault in self.faults],
        }

    def _rate(self, hits: Iterable[bool]) -> Rate:
        outcomes = list(hits)
        return Rate(count=sum(outcomes), of=len(outcomes), confidence=self.confidence)


def worst_of_part(pictures: list[Prediction]) -> Prediction:
    """One row for a part shown in several pictures.

    Any picture judged no-go rejects the part; otherwise any fault leaves it unjudged, so that a part is never go while
    one of its pictures could not be looked at. It is bad if any picture is labelled so, and its score is the highest.
    """
    scores = [picture.score for picture in pictures if picture.score is not None]
    worst = max(pictures, key=lambda picture: -math.inf if picture.score is None else picture.score)
    state = max((picture.state for picture in pictures), key=_SEVERITY.index)
    defects = [p.defect for p in (worst, *pictures) if p.defect is not None]
    return replace(
        worst,
        label=Label.BAD if any(picture.label is Label.BAD for picture in pictures) else Label.GOOD,
        defect=defects[0] if defects else None,
        state=state,
        score=max(scores) if scores and state is not State.FAULT else None,
    )


def quantiles_ms(durations: Float64[np.ndarray, " pictures"]) -> tuple[float, float]:
    """Median and 99 % quantile."""
    median, p99 = np.quantile(durations, [0.5, 0.99])
    return float(median), float(p99)


def _timing_to_json(durations: Float64[np.ndarray, " pictures"]) -> dict[str, float]:
    median, p99 = quantiles_ms(durations)
    return {"median": median, "p99": p99}


def _kind_to_json(kind: KindResult) -> dict[str, Any]:
    return {
        "defect": kind.defect,
        "parts": kind.recall.of,
        **{state.value: count for state, count in kind.states.items()},
        **kind.recall.to_json("recall"),
        **kind.rejected.to_json("rejected_rate"),
        "auroc": kind.auroc,
    }


def _localisation_to_json(found: Localisation, suffix: str) -> dict[str, Any]:
    return {
        f"masked_pictures{suffix}": found.pointing.of,
        **found.pointing.to_json(f"pointing_game{suffix}"),
        **found.centre.to_json(f"pointing_game_centre{suffix}"),
        f"energy_inside{suffix}": found.energy_inside,
        f"energy_inside_flat{suffix}": found.energy_inside_flat,
    }
