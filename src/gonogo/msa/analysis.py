"""Analyses an attribute agreement study: agreement within, between and against the reference."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from gonogo.array_types import Bool, Float64, Int64
from gonogo.errors import InputError
from gonogo.msa.kappa import Kappa, cohen, fleiss
from gonogo.msa.study import Study, StudyDecision
from gonogo.operating_point import clopper_pearson
from gonogo.schema import Label


@dataclass(frozen=True, kw_only=True)
class Share:
    """``count`` of ``total``, with the exact (Clopper-Pearson) 95 % interval."""

    count: int
    total: int

    @property
    def rate(self) -> float | None:
        """The observed share; ``None`` if ``total`` is 0."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """``(low, high)``; exact if the counted items are independent."""
        return clopper_pearson(self.count, self.total)


class Rating(StrEnum):
    """The usual rule of thumb for an appraiser (AIAG, Measurement Systems Analysis, 4th edition 2010, chapter III C).

    Acceptable: effectiveness at least 90 %, at most 2 % misses and 5 % false alarms. Marginal: at least 80 %, at most
    5 % and 10 %. It uses the point estimates only, not their intervals.
    """

    ACCEPTABLE = "acceptable"
    MARGINAL = "marginal"
    UNACCEPTABLE = "unacceptable"


_RULES_OF_THUMB = ((Rating.ACCEPTABLE, 0.90, 0.02, 0.05), (Rating.MARGINAL, 0.80, 0.05, 0.10))


@dataclass(frozen=True, kw_only=True)
class Appraiser:
    """Results of one appraiser, a person or an inspector, within itself and against the reference."""

    name: str
    within: Share | None
    """Parts judged the same in every trial; ``None`` for a single trial."""
    within_kappa: Kappa | None
    """Fleiss' kappa over the trials."""
    same_picture: bool | None
    """Whether every trial judged the same stored picture; ``None`` if unknown."""
    effectiveness: Share
    """Parts judged correctly in every trial."""
    reference_kappa: Kappa
    """Cohen's kappa against the reference."""
    misses: Share
    """Decisions on bad parts that were "good"."""
    missed_parts: Share
    """Bad parts judged good at least once."""
    false_alarms: Share
    """Decisions on good parts that were "bad"."""
    alarmed_parts: Share
    """Good parts judged bad at least once."""

    @property
    def rating(self) -> Rating | None:
        """Rating by the rule of thumb; ``None`` if the study has no good or no bad parts."""
        effective, missed, alarmed = self.effectiveness.rate, self.misses.rate, self.false_alarms.rate
        if effective is None or missed is None or alarmed is None:
            return None
        for rating, least_effective, most_missed, most_alarmed in _RULES_OF_THUMB:
            if effective >= least_effective and missed <= most_missed and alarmed <= most_alarmed:
                return rating
        return Rating.UNACCEPTABLE


@dataclass(frozen=True, kw_only=True)
class AppraiserPair:
    """Agreement of two appraisers: Cohen's kappa, decisions paired by trial."""

    first: str
    second: str
    kappa: Kappa


@dataclass(frozen=True, kw_only=True)
class StudyPart:
    """Decisions on one part, counted over all appraisers and trials."""

    name: str
    reference: Label
    value: float | None
    """Reference value, if the study has one."""
    good: int
    bad: int
    review: int

    @property
    def unanimous(self) -> StudyDecision | None:
        """The decision made by all appraisers in all trials; ``None`` if they differ."""
        counts = {StudyDecision.GOOD: self.good, StudyDecision.BAD: self.bad, StudyDecision.REVIEW: self.review}
        taken = [decision for decision, count in counts.items() if count]
        return taken[0] if len(taken) == 1 else None


@dataclass(frozen=True, kw_only=True)
class GreyZone:
    """Range of the reference value, near one limit, in which appraisers disagree.

    Signal detection (AIAG, Measurement Systems Analysis, 4th edition 2010, chapter III C): up to one edge every part is
    accepted by all appraisers in every trial; beyond the other edge every part is rejected. The distance between the
    two edges is the width of the zone in which decisions are not reliable.
    """

    side: str
    """``"upper"`` if large values are bad, ``"lower"`` if small values are bad."""
    accepted_to: float | None
    """The last value up to which all accept; ``None`` if not even the best part is accepted by all."""
    rejected_from: float | None
    """The first value from which all reject; ``None`` if not even the worst part is rejected by all."""

    @property
    def width(self) -> float | None:
        """In units of the reference value; ``None`` if an edge lies outside the parts of the study."""
        if self.accepted_to is None or self.rejected_from is None:
            return None
        return abs(self.rejected_from - self.accepted_to)


@dataclass(frozen=True, kw_only=True)
class MsaReport:
    """Result of a measurement system analysis."""

    appraisers: tuple[Appraiser, ...]
    pairs: tuple[AppraiserPair, ...]
    between: Share | None
    """Parts on which all appraisers agree in all trials; ``None`` for one appraiser."""
    between_kappa: Kappa | None
    """Fleiss' kappa over all appraisers and trials."""
    all_right: Share
    """Parts judged correctly by all appraisers in all trials."""
    grey_zones: tuple[GreyZone, ...]
    parts: tuple[StudyPart, ...]
    notes: tuple[str, ...]
    """Caveats that apply to the figures."""


def analyse(study: Study) -> MsaReport:
    """Compute agreement within appraisers, between appraisers and against the reference.

    Raises:
        InputError: the reference values do not separate good from bad parts.
    """
    several = len(study.appraisers) > 1
    everything = study.decisions.reshape(-1, len(study.parts))
    pairs = itertools.combinations(range(len(study.appraisers)), 2)
    return MsaReport(
        appraisers=tuple(_appraiser(study, index) for index in range(len(study.appraisers))),
        pairs=tuple(
            AppraiserPair(
                first=study.appraisers[a],
                second=study.appraisers[b],
                kappa=cohen(study.decisions[a], study.decisions[b]),
            )
            for a, b in pairs
        ),
        between=_share((everything == everything[0]).all(axis=0)) if several else None,
        between_kappa=fleiss(everything) if several else None,
        all_right=_share((everything == study.reference).all(axis=0)),
        grey_zones=_grey_zones(study),
        parts=tuple(_parts(study)),
        notes=tuple(_notes(study)),
    )


def _appraiser(study: Study, index: int) -> Appraiser:
    decisions, reference = study.decisions[index], study.reference
    repeated = len(decisions) > 1
    on_bad = decisions[:, reference == StudyDecision.BAD] == StudyDecision.GOOD
    on_good = decisions[:, reference == StudyDecision.GOOD] == StudyDecision.BAD
    return Appraiser(
        name=study.appraisers[index],
        within=_share((decisions == decisions[0]).all(axis=0)) if repeated else None,
        within_kappa=fleiss(decisions) if repeated else None,
        same_picture=None if study.same_picture is None else bool(study.same_picture[index]),
        effectiveness=_share((decisions == reference).all(axis=0)),
        reference_kappa=cohen(decisions, np.broadcast_to(reference, decisions.shape)),
        misses=_share(on_bad.ravel()),
        missed_parts=_share(on_bad.any(axis=0)),
        false_alarms=_share(on_good.ravel()),
        alarmed_parts=_share(on_good.any(axis=0)),
    )


def _parts(study: Study) -> Iterator[StudyPart]:
    everything = study.decisions.reshape(-1, len(study.parts))
    for index, name in enumerate(study.parts):
        good, bad, review = (int(np.sum(everything[:, index] == decision)) for decision in StudyDecision)
        yield StudyPart(
            name=name,
            reference=Label.BAD if study.reference[index] == StudyDecision.BAD else Label.GOOD,
            value=None if study.reference_value is None else float(study.reference_value[index]),
            good=good,
            bad=bad,
            review=review,
        )


def _share(hits: Bool[np.ndarray, " counted"]) -> Share:
    return Share(count=int(np.sum(hits)), total=len(hits))


def _grey_zones(study: Study) -> tuple[GreyZone, ...]:
    if study.reference_value is None:
        return ()
    value, bad = study.reference_value, study.reference == StudyDecision.BAD
    if bad.all() or not bad.any():
        return ()
    good_low, good_high = float(value[~bad].min()), float(value[~bad].max())
    between = bad & (value >= good_low) & (value <= good_high)
    if between.any():
        part = study.parts[int(between.argmax())]
        raise InputError(
            f"reference_value of part {part} ({value[between][0]:g}) is bad but lies among good parts "
            f"({good_low:g} to {good_high:g}). The grey zone needs a value that decides the reference: correct it, or "
            "remove the column."
        )
    everything = study.decisions.reshape(-1, len(study.parts))
    verdict = np.where((everything == everything[0]).all(axis=0), everything[0], StudyDecision.REVIEW)
    zones = []
    if (value > good_high).any():
        # Bad parts below the good ones belong to the lower limit.
        near = value >= good_low
        accepted_to, rejected_from = _edges(value[near], verdict[near])
        zones.append(GreyZone(side="upper", accepted_to=accepted_to, rejected_from=rejected_from))
    if (value < good_low).any():
        near = value <= good_high
        edges = _edges(-value[near], verdict[near])
        accepted_to, rejected_from = (None if edge is None else -edge for edge in edges)
        zones.append(GreyZone(side="lower", accepted_to=accepted_to, rejected_from=rejected_from))
    return tuple(zones)


def _edges(
    value: Float64[np.ndarray, " parts"], verdict: Int64[np.ndarray, " parts"]
) -> tuple[float | None, float | None]:
    """The last value up to which all parts are accepted and the first from which all are rejected."""
    levels = np.unique(value)
    accepted = [bool((verdict[value == level] == StudyDecision.GOOD).all()) for level in levels]
    rejected = [bool((verdict[value == level] == StudyDecision.BAD).all()) for level in levels]
    head = len(list(itertools.takewhile(bool, accepted)))
    tail = len(list(itertools.takewhile(bool, reversed(rejected))))
    return (
        float(levels[head - 1]) if head else None,
        float(levels[len(levels) - tail]) if tail else None,
    )


def _notes(study: Study) -> list[str]:
    notes = []
    if len(study.trials) < 2:
        notes.append("There is only one trial, so repeatability cannot be estimated. Judge every part at least twice.")
    elif study.same_picture is None:
        notes.append(
            "The study does not record which pictures were judged. If a program saw the same stored picture in every "
            "trial, its agreement within itself is 1 by construction. Add a picture_sha256 column."
        )
    elif study.same_picture.any():
        names = ", ".join(name for name, same in zip(study.appraisers, study.same_picture, strict=True) if same)
        notes.append(
            f"{names}: the same stored picture of each part was judged in every trial. A program gives the same "
            "answer for the same picture, so its kappa within is 1 by construction and carries no information. "
            "Re-fixture, re-light and photograph every part again for each trial."
        )
    bad = int(np.sum(study.reference == StudyDecision.BAD))
    good = len(study.parts) - bad
    if len(study.parts) < 50 or min(bad, good) < 10:
        notes.append(
            f"{len(study.parts)} parts ({good} good, {bad} bad) are few, so the intervals are wide. "
            "About 50 are usual, with balanced good and bad parts and a quarter of them near the limit."
        )
    if len(study.trials) > 1:
        notes.append(
            "Miss and false-alarm rates count decisions, and their intervals assume independent trials. They are too "
            "narrow if a trial repeats the errors of the previous one. The counts of parts need no such assumption."
        )
    return notes
