"""Mistakes, kinds of defect, and the history of limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from gonogo.dataset import Split
from gonogo.evaluate import Rate
from gonogo.ledger import Action, Ledger, Row, Where
from gonogo.operating_point import from_json
from gonogo.schema import Label, OperatingPoint, State
from gonogo.server.inspectors.bundles import OpenBundle
from gonogo.server.inspectors.judged import JudgedPicture, JudgedPictures
from gonogo.server.review import ReviewDecision
from gonogo.server.signatures import DEPLOYED, LIMITS_SET

SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class MistakeAlbum:
    """Parts with one type of mistake."""

    decisions: tuple[ReviewDecision, ...] = ()
    """Parts of the line."""
    pictures: tuple[tuple[int, JudgedPicture], ...] = ()
    """Labelled pictures with their index in `JudgedPictures.pictures`."""
    rate: Rate
    """Number of such parts among all."""


def escaped(decisions: Iterable[ReviewDecision]) -> MistakeAlbum:
    """Return the parts of the line judged go that a person decided are bad."""
    return _against([each for each in decisions if each.state is State.GO], Label.BAD)


def rejected(decisions: Iterable[ReviewDecision]) -> MistakeAlbum:
    """Return the parts of the line judged no-go that a person decided are good."""
    return _against([each for each in decisions if each.state is State.NO_GO], Label.GOOD)


def close_calls(decisions: Iterable[ReviewDecision], family: Collection[str], label: Label) -> MistakeAlbum:
    """Return reviewed parts with the most misleading scores: bad with low scores, good with high scores."""
    doubtful = [
        each
        for each in decisions
        if each.state is State.REVIEW and each.score is not None and each.bundle_sha256 in family
    ]
    found = [each for each in doubtful if each.label is label]
    found.sort(key=lambda each: each.score or 0.0, reverse=label is Label.GOOD)
    return MistakeAlbum(decisions=tuple(found[:SHOWN]), rate=Rate(count=len(found), of=len(doubtful)))


def misjudged(judged: JudgedPictures, point: OperatingPoint | None, label: Label) -> MistakeAlbum:
    """Return misjudged test pictures: bad judged go, or good judged no-go."""
    wrong = State.GO if label is Label.BAD else State.NO_GO
    found = judged.evaluation(point, Split.TEST)
    parts = [part for part in found.parts if part.label is label and part.state is wrong]
    pictures = [(judged.numbers[part.file], judged.pictures[judged.numbers[part.file]]) for part in parts]
    return MistakeAlbum(pictures=tuple(pictures[:SHOWN]), rate=found.confusion(label, wrong))


@dataclass(frozen=True, kw_only=True)
class MistakeKind:
    """One kind of defect among the parts decided bad."""

    name: str | None
    """``None`` if no kind was named."""
    rate: Rate
    """Share of all bad parts."""
    running: float
    """Cumulative share of this kind and all more frequent ones."""
    examples: tuple[ReviewDecision, ...]


def pareto(decisions: Sequence[ReviewDecision], examples: int = 4) -> list[MistakeKind]:
    """Return the kinds of defect, most frequent first, with the latest examples."""
    bad = [each for each in decisions if each.label is Label.BAD]
    kinds, so_far = [], 0
    for name, count in Counter(each.defect for each in bad).most_common():
        so_far += count
        latest = [each for each in reversed(bad) if each.defect == name and each.frames_sha256][:examples]
        kinds.append(
            MistakeKind(
                name=name, rate=Rate(count=count, of=len(bad)), running=so_far / len(bad), examples=tuple(latest)
            )
        )
    return kinds


@dataclass(frozen=True, kw_only=True)
class LimitsPeriod:
    """Limits and the period when they were in force."""

    point: OperatingPoint
    begun: datetime
    ended: datetime | None
    """``None`` if still in force."""
    bundle_sha256: str
    who: str
    """Who set them on the page; empty if they were set elsewhere."""


def limits_periods(opened: OpenBundle, set_by: Iterable[Row[Action]]) -> list[LimitsPeriod]:
    """Return the limits of a bundle, the current ones first."""
    who = {str(row.record.details.get("after")): row.record.who for row in set_by}
    begun = datetime.fromisoformat(opened.manifest.created)
    found = []
    for revision in opened.manifest.revisions:
        ended = datetime.fromisoformat(revision.replaced)
        found.append(
            LimitsPeriod(
                point=from_json(revision.operating_point),
                begun=begun,
                ended=ended,
                bundle_sha256=revision.bundle_sha256,
                who=who.get(revision.bundle_sha256, ""),
            )
        )
        begun = ended
    if opened.point is not None:
        now = LimitsPeriod(
            point=opened.point, begun=begun, ended=None, bundle_sha256=opened.sha256, who=who.get(opened.sha256, "")
        )
        found.append(now)
    return found[::-1]


def limit_actions(ledger: Ledger, limit: int = 20) -> list[Row[Action]]:
    """Return the actions that set limits or deployed bundles, latest first."""
    rows = [
        row
        for action in (LIMITS_SET, DEPLOYED)
        for row in ledger.actions(Where(action=action), newest_first=True, limit=limit)
    ]
    return sorted(rows, key=lambda row: -row.seq)[:limit]


def finite(value: float) -> float | None:
    """Return a threshold, or ``None`` if it is infinite."""
    return value if math.isfinite(value) else None


def _against(judged: list[ReviewDecision], label: Label) -> MistakeAlbum:
    found = [each for each in judged if each.label is label]
    return MistakeAlbum(decisions=tuple(found[::-1][:SHOWN]), rate=Rate(count=len(found), of=len(judged)))
