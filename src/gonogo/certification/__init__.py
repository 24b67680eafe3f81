"""Certification: choose limits on val, certify them once on calibrate, and write the result into the bundle."""

from __future__ import annotations

from gonogo.certification.golden import choose_golden
from gonogo.certification.judged_parts import certify_judged, note_judged
from gonogo.certification.procedure import Certified, Recertified, certify, recertify, share_of_bad, tradeoff_to_json
from gonogo.certification.records import EVIDENCE
from gonogo.certification.recount import Recount, recount
from gonogo.certification.restore import restore
from gonogo.certification.scores import SCORES, promise_in_force
from gonogo.certification.together import CertifiedTogether, certify_together

__all__ = [
    "EVIDENCE",
    "SCORES",
    "Certified",
    "CertifiedTogether",
    "Recertified",
    "Recount",
    "certify",
    "certify_judged",
    "certify_together",
    "choose_golden",
    "note_judged",
    "promise_in_force",
    "recertify",
    "recount",
    "restore",
    "share_of_bad",
    "tradeoff_to_json",
]
