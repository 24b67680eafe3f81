"""Recertification from a designated random sample of production; see `gonogo.ledger.sampling`.

The thresholds stay as they are: they were fixed before the sample was drawn, so the counts on the sample have exact
binomial bounds. Parts that nobody labelled count against the promise: an unlabelled go as an escape, an unlabelled
no-go as a rejected good part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue

from gonogo import bundle as bundles
from gonogo import operating_point as points
from gonogo.bundle import Bundle
from gonogo.certification.records import EVIDENCE
from gonogo.dataset import Dataset
from gonogo.dataset.collected import Why, provenance
from gonogo.errors import InputError, UnfitError
from gonogo.ledger import Action, Ledger, Where
from gonogo.ledger.sampling import EVALUATED, SampleSchedule, find_schedule, sampled_parts
from gonogo.operating_point import AuditTest, as_percent, bad_among_accepted, best_rate, parts_needed
from gonogo.operating_point.rule import risk
from gonogo.schema import Claim, Label, OperatingPoint, State
from gonogo.validity import KEY, Validity, starting_now


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Errors among parts of a sample, and the exact bounds of their rate."""

    errors: int
    """Unlabelled parts included, where they could be errors."""
    parts: int
    at_least: float
    """Lower bound without the unlabelled parts, at the confidence of the claim."""
    at_most: float
    """Upper bound with the unlabelled parts as errors, at the confidence of the claim."""


@dataclass(frozen=True, kw_only=True)
class SampleResult:
    """What a sample says about a certificate."""

    schedule: SampleSchedule
    drawn: int
    unlabelled: int
    escape: Counted
    """Bad parts judged go, among bad parts."""
    overkill: Counted
    """Good parts judged no-go, among good parts."""
    accepted: Counted
    """Bad parts among parts judged go."""
    audit: AuditTest | None
    """Sequential test of the promised share of bad parts among accepted ones; ``None`` if the certificate does not say
    how many bad parts arrive."""
    refusals: tuple[str, ...]
    """Why the certificate is not renewed; empty if it is."""
    labels: Mapping[str, str]
    """Label of each labelled part, by the number of its row."""

    @property
    def confirmed(self) -> bool:
        """Whether the sample confirms the certificate."""
        return not self.refusals

    def sentences(self) -> tuple[str, ...]:
        """Describe the counts."""
        rows = (
            ("bad parts among those that passed", self.accepted),
            ("escapes among bad parts", self.escape),
            ("rejected parts among good parts", self.overkill),
        )
        return (
            f"{self.drawn} parts were drawn, {self.unlabelled} of them have no label and count against the promise.",
            *(f"{each.errors} of {each.parts} {words}: at most {as_percent(each.at_most)}." for words, each in rows),
        )


def evaluate_sample(bundle: Bundle, ledger: Ledger, dataset: Dataset, name: str) -> SampleResult:
    """Count the errors of a bundle on a sample.

    Args:
        bundle: The certified bundle. Parts judged by an earlier revision with the same thresholds count too.
        ledger: The ledger with the schedule and the verdicts.
        dataset: The labelled pictures of the sample, from ``gonogo dataset collect --sample``.
        name: Name of the sample.

    Raises:
        InputError: There is no such sample, or the bundle is not certified.
        UnfitError: Fewer parts were drawn than planned, or a label changed after an earlier evaluation.
    """
    point = bundle.manifest.operating_point
    if point is None:
        raise InputError(f"{bundle.root}: expected certified limits, found none. Run gonogo certify first.")
    schedule = find_schedule(ledger, name)
    rows = [*sampled_parts(ledger, schedule, bundles=_same_thresholds(bundle, point))]
    if len(rows) < schedule.parts:
        raise UnfitError(
            f"sample {name}: {len(rows)} of {schedule.parts} parts are drawn so far, of the parts that this inspector "
            "judged. The size was fixed when the sample was scheduled: wait until it is complete."
        )
    labels = _labels(dataset, name)
    said = [labels.get(row.sha256) for row in rows]
    states = [row.record.state for row in rows]
    given = {str(row.seq): label.value for row, label in zip(rows, said, strict=True) if label is not None}
    _refuse_changed(ledger, name, given)
    escape = _counted(states, said, of=Label.BAD, error=State.GO, claim=point.escape, joint=point.joint)
    overkill = _counted(states, said, of=Label.GOOD, error=State.NO_GO, claim=point.overkill, joint=point.joint)
    accepted = _accepted(states, said, risk(point.escape.confidence, joint=point.joint))
    result = SampleResult(
        schedule=schedule,
        drawn=len(rows),
        unlabelled=said.count(None),
        escape=escape,
        overkill=overkill,
        accepted=accepted,
        audit=_audit(bundle, point, states, said),
        refusals=(),
        labels=given,
    )
    return replace(result, refusals=tuple(_refusals(result, point)))


def record_result(bundle: Bundle, ledger: Ledger, result: SampleResult, *, who: str) -> None:
    """Record the result in the ledger.

    Raises:
        LedgerError: It cannot be recorded.
    """
    details: dict[str, JsonValue] = {
        "name": result.schedule.name,
        "schedule_row": result.schedule.row,
        "bundle_sha256": bundle.sha256,
        "confirmed": result.confirmed,
        "drawn": result.drawn,
        "unlabelled": result.unlabelled,
        "refusals": [*result.refusals],
        "labels": dict(result.labels),
    }
    for each in ("escape", "overkill", "accepted"):
        counted: Counted = getattr(result, each)
        details[each] = {"errors": counted.errors, "parts": counted.parts, "at_most": counted.at_most}
    ledger.append_action(Action(action=EVALUATED, who=who, details=details))


def renew(bundle: Bundle, result: SampleResult, *, days: float | None, parts: int | None) -> tuple[Bundle, Validity]:
    """Write a new validity into a bundle that a sample confirmed, as a new revision with the same thresholds."""
    point = bundle.manifest.operating_point
    assert point is not None, "an evaluated bundle is certified"
    validity = starting_now(days=days, parts=parts, sample=result.schedule.name)
    evidence: dict[str, Any] = json.loads(bundle.data(EVIDENCE)) if EVIDENCE in bundle.digests else {}
    content = {**evidence, KEY: validity.model_dump(mode="json")}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    files = {EVIDENCE: json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"}
    return bundles.replace_operating_point(bundle, point, now=now, files=files), validity


def _same_thresholds(bundle: Bundle, point: OperatingPoint) -> frozenset[str]:
    """The bundle and its earlier revisions with the same thresholds."""
    earlier = (
        each.bundle_sha256
        for each in bundle.manifest.revisions
        if _limits(points.from_json(each.operating_point)) == _limits(point)
    )
    return frozenset((bundle.sha256, *earlier))


def _limits(point: OperatingPoint) -> tuple[float, float]:
    return point.go_below, point.no_go_above


def _labels(dataset: Dataset, name: str) -> dict[str, Label]:
    """Label of each part of the sample, by the hash of its row: bad if any picture is; none if one is unlabelled."""
    found: dict[str, list[Label | None]] = {}
    for sample in dataset.samples:
        origin = provenance(sample)
        if origin is not None and origin.why is Why.SAMPLE and origin.sample == name:
            found.setdefault(origin.row_sha256, []).append(sample.label)
    whole = {row: Label.BAD if Label.BAD in labels else None for row, labels in found.items() if None in labels}
    done = {row: Label.BAD if Label.BAD in labels else Label.GOOD for row, labels in found.items() if row not in whole}
    return done | {row: label for row, label in whole.items() if label is not None}


def _counted(
    states: Sequence[State], said: Sequence[Label | None], *, of: Label, error: State, claim: Claim, joint: bool
) -> Counted:
    pairs = [*zip(states, said, strict=True)]
    parts = sum(label is of for _, label in pairs)
    wrong = sum(label is of and state is error for state, label in pairs)
    open_ones = sum(label is None and state is error for state, label in pairs)
    return _bounds(wrong, parts, open_ones, risk(claim.confidence, joint=joint))


def _accepted(states: Sequence[State], said: Sequence[Label | None], delta: float) -> Counted:
    passed = [label for state, label in zip(states, said, strict=True) if state is State.GO]
    open_ones = passed.count(None)
    return _bounds(passed.count(Label.BAD), len(passed) - open_ones, open_ones, delta)


def _bounds(wrong: int, parts: int, open_ones: int, delta: float) -> Counted:
    return Counted(
        errors=wrong + open_ones,
        parts=parts + open_ones,
        at_least=1.0 - best_rate(parts, delta, parts - wrong) if parts else 0.0,
        at_most=best_rate(parts + open_ones, delta, wrong + open_ones) if parts + open_ones else 1.0,
    )


def _audit(
    bundle: Bundle, point: OperatingPoint, states: Sequence[State], said: Sequence[Label | None]
) -> AuditTest | None:
    evidence: dict[str, Any] = json.loads(bundle.data(EVIDENCE)) if EVIDENCE in bundle.digests else {}
    share = (evidence.get("request") or {}).get("bad_share")
    passed = [label for state, label in zip(states, said, strict=True) if state is State.GO]
    if not share or not passed or not point.escape.holds:
        return None
    promised = bad_among_accepted(
        max_escape=point.escape.max_rate, bad_share=share, accepted_share=len(passed) / len(states)
    )
    test = AuditTest(promised_rate=min(promised, 1.0 - 1e-9), confidence=point.escape.confidence)
    for label in passed:
        test = test.update(bad=label is not Label.GOOD)
    return test


def _refusals(result: SampleResult, point: OperatingPoint) -> list[str]:
    found, most = [], result.schedule.most_bad
    delta = risk(point.escape.confidence, joint=point.joint)
    if result.accepted.at_most > most:
        found.append(
            f"At most {as_percent(result.accepted.at_most)} of the parts that pass are bad by this sample, and it was "
            f"scheduled to confirm {as_percent(most)}: {_needs(result, most, delta)}"
        )
    for claim, counted, words in (
        (point.escape, result.escape, "of bad parts escape"),
        (point.overkill, result.overkill, "of good parts are rejected"),
    ):
        if claim.holds and counted.at_least > claim.max_rate:
            found.append(
                f"At least {as_percent(counted.at_least)} {words}, more than the promised {as_percent(claim.max_rate)}."
            )
    if result.audit is not None and result.audit.alarm:
        found.append("The audit test refutes the promised share of bad parts among accepted parts.")
    return found


def _needs(result: SampleResult, most: float, delta: float) -> str:
    if result.unlabelled:
        return f"{result.unlabelled} parts have no label. Label them, and evaluate the sample again."
    least = parts_needed(most, delta)
    return f"a sample without a bad part among {least} that pass confirms it. Schedule a larger one."


def _refuse_changed(ledger: Ledger, name: str, given: Mapping[str, str]) -> None:
    """Labels may be added after an evaluation, never changed: that would be a second attempt."""
    for row in ledger.actions(Where(action=EVALUATED)):
        before = row.record.details.get("labels")
        if row.record.details.get("name") != name or not isinstance(before, dict):
            continue
        changed = [seq for seq, label in before.items() if given.get(seq) != label]
        if changed:
            raise UnfitError(
                f"sample {name}: the part in row {changed[0]} was {before[changed[0]]} when the sample was evaluated "
                f"(row {row.seq}), and is {given.get(changed[0], 'unlabelled')} now. A changed label is a second "
                "attempt: schedule another sample."
            )
