"""Setting a gauge: choose limits on val, certify them once on calibrate, write the outcome into the bundle."""

from __future__ import annotations

from gonogo.operate.golden import choose_golden
from gonogo.operate.recounting import Recount, recount
from gonogo.operate.scores import SCORES, scores_file
from gonogo.operate.setting import EVIDENCE, Operated, Request, dial_to_json, operate

__all__ = [
    "EVIDENCE",
    "SCORES",
    "Operated",
    "Recount",
    "Request",
    "choose_golden",
    "dial_to_json",
    "operate",
    "recount",
    "scores_file",
]
