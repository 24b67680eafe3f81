"""The two thresholds on the score, and the error rates that can be certified for them."""

from __future__ import annotations

from gonogo.operating_point.audit import AuditTest, bad_among_accepted
from gonogo.operating_point.binomial import allowed_errors, best_rate, clopper_pearson, parts_needed, upper_bound
from gonogo.operating_point.claims import (
    KindClaims,
    LineBound,
    as_percent,
    certify_kinds,
    describe_claims,
    line_bound,
    vacuous,
    what_it_takes,
    without_promise,
)
from gonogo.operating_point.deciding import state_and_reason
from gonogo.operating_point.promise import (
    DEFAULT_RATE,
    MOST_RATE,
    Costs,
    Loss,
    Promise,
    describe_point,
    losses,
    missing_for_default,
    rate_by_counts,
)
from gonogo.operating_point.records import from_json, to_json
from gonogo.operating_point.rule import certified_point, worst_per_part
from gonogo.operating_point.sequence import confidence_sequence
from gonogo.operating_point.tradeoff import TradeoffPoint, cheapest, expected_operating_point, tradeoff

__all__ = [
    "DEFAULT_RATE",
    "MOST_RATE",
    "AuditTest",
    "Costs",
    "KindClaims",
    "LineBound",
    "Loss",
    "Promise",
    "TradeoffPoint",
    "allowed_errors",
    "as_percent",
    "bad_among_accepted",
    "best_rate",
    "certified_point",
    "certify_kinds",
    "cheapest",
    "clopper_pearson",
    "confidence_sequence",
    "describe_claims",
    "describe_point",
    "expected_operating_point",
    "from_json",
    "line_bound",
    "losses",
    "missing_for_default",
    "parts_needed",
    "rate_by_counts",
    "state_and_reason",
    "to_json",
    "tradeoff",
    "upper_bound",
    "vacuous",
    "what_it_takes",
    "without_promise",
    "worst_per_part",
]
