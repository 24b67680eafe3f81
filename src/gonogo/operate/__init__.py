"""Setting a gauge: choose limits on val, certify them once on calibrate, write the outcome into the bundle."""

from __future__ import annotations

from gonogo.operate.certifying import certify_judged, note_judged
from gonogo.operate.golden import choose_golden
from gonogo.operate.records import EVIDENCE
from gonogo.operate.recounting import Recount, recount
from gonogo.operate.restoring import restore
from gonogo.operate.scores import SCORES, promise_in_force
from gonogo.operate.setting import Certified, Operated, certify, dial_to_json, operate, share_of_bad

__all__ = [
    "EVIDENCE",
    "SCORES",
    "Certified",
    "Operated",
    "Recount",
    "certify",
    "certify_judged",
    "choose_golden",
    "dial_to_json",
    "note_judged",
    "operate",
    "promise_in_force",
    "recount",
    "restore",
    "share_of_bad",
]
