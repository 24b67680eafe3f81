"""Measurement system analysis (MSA): attribute agreement of inspectors and people, and gauge R&R of measurements."""

from __future__ import annotations

from gonogo.msa.analysis import Appraiser, AppraiserPair, GreyZone, MsaReport, Rating, Share, StudyPart, analyse
from gonogo.msa.kappa import Kappa
from gonogo.msa.paired import Comparison, Difference, Paired, compare, paired_difference
from gonogo.msa.study import Study, StudyDecision, read_study
from gonogo.msa.variables import Bias, GrrReport, MeasuredStudy, analyse_variables, read_measured_study

__all__ = [
    "Appraiser",
    "AppraiserPair",
    "Bias",
    "Comparison",
    "Difference",
    "GreyZone",
    "GrrReport",
    "Kappa",
    "MeasuredStudy",
    "MsaReport",
    "Paired",
    "Rating",
    "Share",
    "Study",
    "StudyDecision",
    "StudyPart",
    "analyse",
    "analyse_variables",
    "compare",
    "paired_difference",
    "read_measured_study",
    "read_study",
]
