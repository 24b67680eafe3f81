"""Setting a gauge: choose limits on val, certify them once on calibrate, write the outcome into the bundle."""

from __future__ import annotations

from gonogo.operate.certifying import certify_judged, note_judged
from gonogo.operate.records import EVIDENCE
from gonogo.operate.restoring import restore
from gonogo.operate.setting import Operated, Request, dial_to_json, operate

__all__ = ["EVIDENCE", "Operated", "Request", "certify_judged", "dial_to_json", "note_judged", "operate", "restore"]
