"""Setting a gauge: choose limits on val, certify them once on calibrate, write the outcome into the bundle."""

from __future__ import annotations

from gonogo.operate.certifying import certify_judged, note_judged
from gonogo.operate.golden import choose_golden
from gonogo.operate.records import EVIDENCE
from gonogo.operate.recounting import Recount, recount
from gonogo.operate.restoring import restore
from gonogo.operate.scores import SCORES, scores_file
from gonogo.operate.setting import Operated, Request, dial_to_json, operate

__all__ = [
    "EVIDENCE",
    "SCORES",
    "Operated",
    "Recount",
    "Request",
    "certify_judged",
    "choose_golden",
    "dial_to_json",
    "note_judged",
    "operate",
    "recount",
    "restore",
    "scores_file",
]
