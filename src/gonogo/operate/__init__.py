"""Setting a gauge: choose limits on val, certify them once on calibrate, write the outcome into the bundle."""

from __future__ import annotations

from gonogo.operate.setting import EVIDENCE, Operated, Request, dial_to_json, operate

__all__ = ["EVIDENCE", "Operated", "Request", "dial_to_json", "operate"]
