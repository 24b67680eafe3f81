"""Is the gauge fit for use? Attribute agreement analysis for inspectors and people."""

from __future__ import annotations

from gonogo.gauge.analysis import Appraiser, GaugeReport, GreyZone, Pair, Part, Rating, Share, analyse
from gonogo.gauge.kappa import Kappa
from gonogo.gauge.study import Decision, Study, read_study

__all__ = [
    "Appraiser",
    "Decision",
    "GaugeReport",
    "GreyZone",
    "Kappa",
    "Pair",
    "Part",
    "Rating",
    "Share",
    "Study",
    "analyse",
    "read_study",
]
