"""Replay: judge the stored frames of a ledger again, with the original inspector or with a new one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gonogo.errors import GonogoError, InputError
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger, Row, RowKind, Tombstone, VerdictRecord, View, Where, worst_state
from gonogo.ledger.frames import Frames
from gonogo.schema import State, Verdict


@dataclass(frozen=True, kw_only=True)
class Rejudged:
    """One part judged again; views that were not judged originally are skipped."""

    row: Row[VerdictRecord]
    before: tuple[View, ...]
    after: tuple[Verdict, ...]
    """The new verdicts, one for each of ``before``."""
    same_bundle: bool
    """Whether the same bundle judged both times, in which case the scores must be bit-equal."""

    @property
    def state_before(self) -> State:
        """The inspector's original verdict. The recorded verdict can be worse, such as a fault after a timeout."""
        return worst_state(view.state for view in self.before)

    @property
    def state_after(self) -> State:
        """The inspector's new verdict."""
        return worst_state(verdict.state for verdict in self.after)

    @property
    def score_before(self) -> float | None:
        """The highest original score of the views."""
        return max((view.score for view in self.before if view.score is not None), default=None)

    @property
    def score_after(self) -> float | None:
        """The highest new score of the views; ``None`` if none could be judged."""
        return max((verdict.score for verdict in self.after if verdict.score is not None), default=None)

    @property
    def changed(self) -> bool:
        """Whether the verdict differs."""
        return self.state_before is not self.state_after

    @property
    def equal(self) -> bool:
        """Whether every view has the same state and a bit-equal score."""
        pairs = zip(self.before, self.after, strict=True)
        return all(view.state is verdict.state and view.score == verdict.score for view, verdict in pairs)


class Gap(StrEnum):
    """Why a part could not be judged again."""

    NOT_JUDGED = "not_judged"
    """No view was judged originally, because of a fault."""
    RETAINED = "retained"
    """Its frames were deleted by retention and have a tombstone."""
    LOST = "lost"
    """A frame was changed, or is missing without a tombstone: the ledger's frames are damaged."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """One part that could not be judged again."""

    row: Row[VerdictRecord]
    gap: Gap
    why: str
    """The reason, in one sentence."""


def replay_ledger(
    ledger: Ledger,
    inspector: Inspector | None = None,
    *,
    where: Where = Where(),  # noqa: B008  frozen
    after: int | None = None,
    before: int | None = None,
) -> Iterator[Rejudged | Skipped]:
    """Judge the parts of a ledger again, in the order of its rows. Nothing is written.

    Args:
        ledger: The ledger with the verdicts and frames.
        inspector: The inspector to use; by default the original one, from the path in the row.
        where: Filter for the verdicts.
        after: Only rows with a higher number.
        before: Only rows with a lower number.

    Yields:
        The result for each part; check `Rejudged.equal` if ``same_bundle``, otherwise `Rejudged.changed`.

    Raises:
        BundleError: A recorded bundle cannot be opened.
        InputError: A row does not name its bundle, or another bundle is at that path now.
    """
    original, gaps = _RecordedInspectors(), Gaps(ledger)
    for row in ledger.verdicts(where, after=after, before=before):
        judged = judged_views(row)
        if not judged:
            yield gaps.not_judged(row)
            continue
        judge = inspector or original.of(row)
        again = judge_again(ledger.frames, [str(view.frame_sha256) for view in judged], judge)
        if isinstance(again, Unreadable):
            yield gaps.unreadable(row, again)
            continue
        yield Rejudged(row=row, before=judged, after=again, same_bundle=judge.bundle_sha256 == row.record.bundle_sha256)


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """Why the frames of a part cannot be judged again."""

    missing: frozenset[str]
    """Frames that are not stored; the others are damaged."""
    why: str


def judged_views(row: Row[VerdictRecord]) -> tuple[View, ...]:
    """Return the views of a part that were judged and whose frames were stored."""
    return tuple(view for view in row.record.views if view.score is not None and view.frame_sha256 is not None)


def judge_again(frames: Frames, digests: Sequence[str], judge: Inspector) -> tuple[Verdict, ...] | Unreadable:
    """Judge the stored frames of one part."""
    try:
        pictures = [frames.photograph(digest) for digest in digests]
        for picture in pictures:
            picture.judged(judge.recipe)
    except GonogoError as error:
        return Unreadable(missing=frozenset(each for each in digests if not frames.holds(each)), why=str(error))
    return tuple(judge.inspect(picture) for picture in pictures)


class Gaps:
    """Says why parts cannot be judged again; reads the ledger's tombstones when the first frame is missing."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._tombstones: frozenset[str] | None = None

    def not_judged(self, row: Row[VerdictRecord]) -> Skipped:
        """No view of this part was judged originally."""
        return Skipped(row=row, gap=Gap.NOT_JUDGED, why=f"not judged originally: {row.record.reason}")

    def unreadable(self, row: Row[VerdictRecord], found: Unreadable) -> Skipped:
        """Frames of this part are missing or damaged."""
        if self._tombstones is None:
            self._tombstones = _tombstones(self._ledger)
        retained = bool(found.missing) and found.missing <= self._tombstones
        return Skipped(row=row, gap=Gap.RETAINED if retained else Gap.LOST, why=found.why)


def recorded_bundle(row: Row[VerdictRecord]) -> tuple[str, str]:
    """Return the path and the SHA-256 of the bundle that judged a part.

    Raises:
        InputError: The row does not name it.
    """
    place, expected = row.record.bundle, row.record.bundle_sha256
    if place is None or expected is None:
        raise InputError(f"row {row.seq} does not name the bundle that judged it. Choose one with --bundle.")
    return place, expected


def require_recorded(row: Row[VerdictRecord], found: str) -> None:
    """Check that the bundle at the recorded path is the one that judged a part.

    Raises:
        InputError: It is another one.
    """
    place, expected = recorded_bundle(row)
    if found != expected:
        raise InputError(
            f"{place}: expected bundle {expected[:12]}, which judged row {row.seq}, "
            f"found {found[:12]}. Choose the bundle to judge with: --bundle"
        )


class _RecordedInspectors:
    """The original inspectors, each opened once."""

    def __init__(self) -> None:
        self._loaded: dict[str, Inspector] = {}

    def of(self, row: Row[VerdictRecord]) -> Inspector:
        place, expected = recorded_bundle(row)
        if expected not in self._loaded:
            inspector = Inspector.load(place)
            require_recorded(row, inspector.bundle_sha256)
            self._loaded[expected] = inspector
        return self._loaded[expected]


def _tombstones(ledger: Ledger) -> frozenset[str]:
    """The frames that retention deleted."""
    tombstones = (row.record for row in ledger.rows(kind=RowKind.TOMBSTONE))
    return frozenset(
        digest for record in tombstones if isinstance(record, Tombstone) for digest in record.frames_sha256
    )
