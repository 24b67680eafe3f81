"""Measurement system analysis (MSA): attribute agreement of inspectors and people."""

from __future__ import annotations

from gonogo.msa.analysis import Appraiser, AppraiserPair, GreyZone, MsaReport, Rating, Share, StudyPart, analyse
from gonogo.msa.kappa import Kappa
from gonogo.msa.paired import Comparison, Difference, Paired, compare, paired_difference
from gonogo.msa.study import Study, StudyDecision, read_study

__all__ = [
    "Appraiser",
    "AppraiserPair",
    "Comparison",
    "Difference",
    "GreyZone",
    "Kappa",
    "MsaReport",
    "Paired",
    "Rating",
    "Share",
    "Study",
    "StudyDecision",
    "StudyPart",
    "analyse",
    "compare",
    "paired_difference",
    "read_study",
]
