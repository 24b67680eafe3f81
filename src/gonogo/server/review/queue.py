"""The review queue: assigns each doubtful part to one person and records each decision exactly once.

A deal assigns one part to one person for a limited time under a random ticket. A ticket reveals nothing about the
part, so a blind check looks like a new part. Deals survive a restart, so a decision that a browser kept while the
server was down is still accepted.
"""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gonogo.ledger import REVIEW, Action, Ledger, Row, VerdictRecord, Where
from gonogo.schema import Label, State
from gonogo.server.database import Database
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.review.decisions import BLIND_CHECK, Decisions, ReviewDecision

LEASE_S = 120.0
"""A part stays assigned for this long after the last request of the page."""
CHECK_SHARE = 0.1
"""Blind checks per new part."""
_MOST_OWED = 3
"""Maximum number of due blind checks kept while no decided part is available."""
MOST_HELD = 8
_KEEP_S = 86_400.0
_RESCAN_S = 60.0
_QUEUE = Where(states=(State.REVIEW,), undecided=True)


class GoneError(RefusedError):
    """The ticket is unknown or belongs to another person; the part must be dealt again."""


class TakenError(RefusedError):
    """Someone else has decided the part in the meantime."""


@dataclass(frozen=True, kw_only=True)
class Deal:
    """One part assigned to one person."""

    ticket: str
    who: str
    seq: int
    """Row of the verdict."""
    blind: bool
    """Whether it is a blind check. Never sent to the page."""
    answer: int | None
    """Row of the action that recorded the answer."""


class ReviewQueue:
    """Assigns doubtful parts and records decisions.

    Args:
        database: Stores the deals.
        ledger_pool: The ledger with parts and decisions.
        decisions: The valid decisions.
        now: The clock.
        comparable: Whether a decided part can be a blind check, because it shows the current product.
        check_share: Number of blind checks per new part.
        dice: Random generator that chooses them.
    """

    def __init__(
        self,
        database: Database,
        ledger_pool: LedgerPool,
        decisions: Decisions,
        *,
        now: Callable[[], float],
        comparable: Callable[[ReviewDecision], bool],
        check_share: float = CHECK_SHARE,
        dice: random.Random | None = None,
    ) -> None:
        self._database, self._ledger_pool, self._decisions, self._now = database, ledger_pool, decisions, now
        self.check_share = check_share
        self.dice = dice or random.Random(secrets.randbits(64))
        self.comparable = comparable
        self._deciding = threading.Lock()
        self._floor, self._floor_until = 0, 0.0

    def deal(self, who: str, *, want: int, holding: Sequence[str] = ()) -> tuple[list[Deal], list[str]]:
        """Renew a person's deals and assign further parts.

        Args:
            who: The person.
            want: Number of further parts, at most `MOST_HELD`.
            holding: Tickets that their page already has.

        Returns:
            The deals for the page: first earlier deals that the page does not have (it was reloaded), then new ones,
            the longest-waiting parts first, sometimes followed by a blind check. And the tickets of ``holding`` whose
            parts someone else has or has decided in the meantime.
        """
        now, until = self._now(), self._now() + LEASE_S
        with self._database.transaction():
            self._database.run("DELETE FROM deals WHERE until < ?", now - _KEEP_S)
            mine = [deal for deal in self._deals("who = ? AND answer IS NULL", who) if self._waits(deal)]
            mine = [deal for deal in mine if self._renew(deal, until)]
            held = {deal.ticket for deal in mine}
            mine = [deal for deal in mine if deal.ticket not in holding]
            missing = min(want, MOST_HELD) - len(mine)
            fresh = self._fresh(who, missing, until) if missing > 0 else []
        return mine + fresh, [ticket for ticket in holding if ticket not in held]

    def find(self, who: str, ticket: str) -> Deal:
        """Return a deal of this person.

        Raises:
            GoneError: there is no such deal.
        """
        found = self._deals("ticket = ? AND who = ?", ticket, who)
        if not found:
            raise GoneError(N_("This part was assigned to you too long ago. It will be shown again."))
        return found[0]

    def asked_about(self, who: str, seq: int) -> bool:
        """Whether this person has been asked about a part and has not answered yet."""
        return bool(self._deals("seq = ? AND who = ? AND answer IS NULL AND until >= ?", seq, who, self._now()))

    def decide(self, who: str, ticket: str, label: Label, defect: str | None, *, took_ms: int | None = None) -> None:
        """Record a decision; sending it twice is safe.

        Raises:
            TakenError: someone else decided first; nothing was recorded.
            GoneError: no such ticket.
        """
        with self._deciding:
            deal = self.find(who, ticket)
            with self._ledger_pool.reading() as ledger:
                if deal.answer is not None:
                    self._require_same(ledger, deal, label, defect)
                    return
                standing = None if deal.blind else ledger.decision(deal.seq)
                expected = ledger.decision(deal.seq) if deal.blind else None
            if standing is not None and standing.record.details.get("ticket") != ticket:
                self._database.run("DELETE FROM deals WHERE ticket = ?", ticket)
                raise _taken(standing, who)
            if standing is None:
                known = {} if expected is None else {"expected": str(expected.record.label), "by": expected.record.who}
                standing = self._ledger_pool.act(
                    BLIND_CHECK if deal.blind else REVIEW,
                    who,
                    about=deal.seq,
                    label=label,
                    defect=defect,
                    ticket=ticket,
                    ms=took_ms,
                    **known,
                )
            self._database.run("UPDATE deals SET answer = ? WHERE ticket = ?", standing.seq, ticket)

    def take_back(self, who: str, ticket: str) -> None:
        """Undo a decision and assign the part to this person again; undoing twice is safe.

        Raises:
            TakenError: someone has changed it since.
            GoneError: no such ticket.
        """
        with self._deciding:
            deal = self.find(who, ticket)
            if deal.answer is not None:
                with self._ledger_pool.reading() as ledger:
                    standing = None if deal.blind else ledger.decision(deal.seq)
                if standing is not None and standing.seq != deal.answer:
                    raise _taken(standing, who)
                self._ledger_pool.act(BLIND_CHECK if deal.blind else REVIEW, who, about=deal.seq, ticket=ticket)
            self._floor = min(self._floor, deal.seq - 1)
            self._renew(deal, self._now() + LEASE_S)

    def _fresh(self, who: str, count: int, until: float) -> list[Deal]:
        lent = {
            seq
            for (seq,) in self._database.run(
                "SELECT seq FROM deals WHERE answer IS NULL AND (until >= ? OR who = ?)", self._now(), who
            )
        }
        rows = iter(self._waiting(lent, count))
        made: list[Deal] = []
        # Pages request one part at a time, so a due check is kept until the next request.
        owed = before = sum(owed for (owed,) in self._database.run("SELECT count FROM owed_checks WHERE who = ?", who))
        while len(made) < count:
            seq = self._checkable(who, {each.seq for each in made} | lent) if owed else None
            row = next(rows, None) if seq is None else None
            if seq is not None:
                made.append(self._make(who, seq, until, blind=True))
                owed -= 1
            elif row is not None:
                made.append(self._make(who, row.seq, until, blind=False))
                owed = min(_MOST_OWED, owed + (self.dice.random() < self.check_share))
            else:
                break
        if owed != before:
            self._database.run("INSERT OR REPLACE INTO owed_checks VALUES (?, ?)", who, owed)
        return made

    def _waiting(self, lent: set[int], count: int) -> list[Row[VerdictRecord]]:
        if self._now() > self._floor_until:  # a decision may have been undone by other means
            self._floor, self._floor_until = 0, self._now() + _RESCAN_S
        with self._ledger_pool.reading() as ledger:
            rows = list(ledger.verdicts(_QUEUE, after=self._floor, limit=count + len(lent)))
        if rows:
            self._floor = rows[0].seq - 1
        return [row for row in rows if row.seq not in lent][:count]

    def _checkable(self, who: str, busy: set[int]) -> int | None:
        """Choose a decided part for a blind check: preferably decided by someone else, never checked by this person."""
        asked = self._decisions.checked(who) | busy
        known = [
            each
            for each in self._decisions.standing().values()
            if each.seq not in asked and each.state is State.REVIEW and each.frames_sha256 and self.comparable(each)
        ]
        others = [each for each in known if each.who != who]
        # Skip the person's latest decisions, which they still remember.
        choice = others or [each for each in known if each.who == who][:-20]
        return self.dice.choice(choice).seq if choice else None

    def _make(self, who: str, seq: int, until: float, *, blind: bool) -> Deal:
        ticket = secrets.token_urlsafe(12)
        self._database.run(
            "INSERT INTO deals (ticket, who, seq, blind, until) VALUES (?, ?, ?, ?, ?)", ticket, who, seq, blind, until
        )
        return Deal(ticket=ticket, who=who, seq=seq, blind=blind, answer=None)

    def _waits(self, deal: Deal) -> bool:
        with self._ledger_pool.reading() as ledger:
            return deal.blind or ledger.decision(deal.seq) is None

    def _renew(self, deal: Deal, until: float) -> bool:
        """Extend a deal; returns ``False`` if someone else has the part."""
        with self._database.transaction():
            others = self._deals(
                "seq = ? AND who <> ? AND answer IS NULL AND until >= ?", deal.seq, deal.who, self._now()
            )
            if others and not deal.blind:
                return False
            self._database.run("UPDATE deals SET answer = NULL, until = ? WHERE ticket = ?", until, deal.ticket)
        return True

    def _require_same(self, ledger: Ledger, deal: Deal, label: Label, defect: str | None) -> None:
        given = ledger.row(deal.answer or 0)
        said = given.record if given is not None else None
        if not isinstance(said, Action) or (said.label, said.defect) != (label, defect):
            raise RefusedError(N_("You already decided this part. Undo that first."))

    def _deals(self, condition: str, *values: str | int | float) -> list[Deal]:
        rows = self._database.run(
            f"SELECT ticket, who, seq, blind, answer FROM deals WHERE {condition} ORDER BY number", *values
        )
        return [
            Deal(ticket=ticket, who=who, seq=seq, blind=bool(blind), answer=answer)
            for ticket, who, seq, blind, answer in rows
        ]


def _taken(standing: Row[Action], who: str) -> TakenError:
    said = standing.record
    if said.who == who:
        return TakenError(N_("You already decided this part in another tab."))
    if said.label is Label.GOOD:
        message = N_("%(who)s already decided this part: good. Your decision was not recorded.")
    elif said.defect is None:
        message = N_("%(who)s already decided this part: bad. Your decision was not recorded.")
    else:
        message = N_("%(who)s already decided this part: bad, %(defect)s. Your decision was not recorded.")
    return TakenError(message, who=said.who, defect=said.defect or "")
