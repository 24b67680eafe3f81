"""What several pages show about a part: the position of its score between the thresholds."""

from __future__ import annotations

from gonogo.ledger import VerdictRecord


def ruler(record: VerdictRecord) -> dict[str, float] | None:
    """Position of the score on a scale from 0 to 100 with the thresholds at 20 and 80."""
    low, high, score = record.go_below, record.no_go_above, record.score
    if low is None or high is None or score is None or high <= low:
        return None
    place = 20.0 + 60.0 * (score - low) / (high - low)
    return {"go": 20.0, "no_go": 80.0, "score": round(min(98.0, max(2.0, place)), 1)}
