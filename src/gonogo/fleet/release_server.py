"""The release server moves a roll-out. Each move is recorded in the ledger, then published as a signed release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from gonogo.bundle import Bundle, read_bundle
from gonogo.errors import LedgerError, UnfitError
from gonogo.fleet.evidence import EvidenceReader, Place
from gonogo.fleet.releases import RUNNING, Release, Terms, first_release
from gonogo.fleet.rollout import Decision, Event, Evidence, Verdict, decide, following
from gonogo.fleet.shelf import Shelf
from gonogo.ledger import Action, Ledger
from gonogo.operating_point import describe_claims, vacuous
from gonogo.signing import SignaturePolicy, SigningKey, read_trust_store, verify_bundle

MOVED = "fleet"
"""Action of every move of a roll-out."""
BY_ITSELF = "gonogo fleet"
"""Who moved it where no person did."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The latest release of a channel, its evidence, and what that says."""

    release: Release
    evidence: Evidence
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class ReleaseServer:
    """One channel of the release server."""

    shelf: Shelf
    channel: str
    trust_store: Path
    ledger: Path
    """Ledger of the release server, where every move is recorded."""
    places: tuple[Place, ...]
    """Ledgers with the stations' rows; the release server's own may be among them."""
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def start(
        self, path: Path, key: SigningKey, *, canaries: tuple[str, ...], terms: Terms, who: str, why: str
    ) -> Release:
        """Start the roll-out of a signed bundle, in stage shadow.

        Raises:
            UnfitError: another roll-out is running, the channel has no bundle yet, or this one is in use already.
            SignatureError: the bundle is not signed with a trusted key.
        """
        bundle = self._signed(path)
        with self.shelf.changing(self.channel):
            latest = self._latest()
            if latest is None:
                raise UnfitError(
                    f"channel {self.channel}: has no bundle to compare with. Put the first one into use with: --first"
                )
            if bundle.sha256 == latest.bundle_sha256:
                raise UnfitError(f"{path}: bundle {bundle.sha256[:16]} is already the one of channel {self.channel}.")
            release = following(
                latest,
                Event.START,
                who=who,
                why=why,
                made=self.now(),
                candidate_sha256=bundle.sha256,
                canaries=canaries,
                terms=terms,
                promise=promise_of(bundle),
            )
            self.shelf.put_bundle(bundle)
            return self._publish(latest, release, Event.START, key)

    def put_first(self, path: Path, key: SigningKey, *, who: str, why: str) -> Release:
        """Put the first bundle of a channel into use on all its stations, without a roll-out.

        Raises:
            UnfitError: the channel has a bundle.
            SignatureError: the bundle is not signed with a trusted key.
        """
        bundle = self._signed(path)
        with self.shelf.changing(self.channel):
            if self._latest() is not None:
                raise UnfitError(f"channel {self.channel}: has a bundle already. Omit --first to start a roll-out.")
            release = first_release(bundle.sha256, channel=self.channel, who=who, why=why, made=self.now())
            self.shelf.put_bundle(bundle)
            return self._publish(None, release, Event.START, key)

    def judge(self) -> Judgement:
        """Read the evidence of the present stage and decide on it.

        Raises:
            UnfitError: the channel has no release.
        """
        latest = self._latest()
        if latest is None:
            raise UnfitError(f"channel {self.channel}: has no release. Start with: gonogo fleet start")
        evidence = EvidenceReader(self.places, latest).read() if latest.stage in RUNNING else Evidence()
        return judgement_of(latest, evidence)

    def _judge_if_possible(self) -> Judgement:
        """Like `judge`, but without evidence where a ledger cannot be read: a person can always stop."""
        try:
            return self.judge()
        except LedgerError:
            latest = self._latest()
            if latest is None:
                raise
            return judgement_of(latest, Evidence())

    def promote(self, key: SigningKey, *, who: str, why: str) -> Judgement:
        """Move the candidate to the next stage.

        Returns:
            The new release, with the evidence that it rests on.

        Raises:
            UnfitError: the evidence does not allow it; the message lists what is missing.
        """
        with self.shelf.changing(self.channel):
            found = self.judge()
            if found.release.stage in RUNNING and found.decision.verdict is not Verdict.READY:
                must = "must be stopped" if found.decision.verdict is Verdict.STOP else "is not ready"
                raise UnfitError(f"roll-out {found.release.rollout} {must}: {' '.join(found.decision.reasons)}")
            return self._move(found, Event.PROMOTE, key, who=who, why=why)

    def stop(self, key: SigningKey, *, who: str, why: str) -> Judgement:
        """Stop the running roll-out: all stations use the old bundle."""
        with self.shelf.changing(self.channel):
            return self._move(self._judge_if_possible(), Event.STOP, key, who=who, why=why)

    def roll_back(self, key: SigningKey, *, who: str, why: str, to: str | None = None) -> Judgement:
        """Return all stations to the previous bundle, or to another one that the shelf has.

        Raises:
            UnfitError: there is no previous bundle, or the shelf does not have the other one.
        """
        with self.shelf.changing(self.channel):
            found = self._judge_if_possible()
            changes = {}
            if to is not None:
                if found.release.stage in RUNNING:
                    raise UnfitError(f"roll-out {found.release.rollout} is running. Omit --to, or stop it first.")
                if not self.shelf.holds(to):
                    raise UnfitError(f"{self.shelf.root}: expected the SHA-256 of a bundle there, found {to!r}.")
                changes = {"bundle_sha256": to}
            return self._move(found, Event.ROLL_BACK, key, who=who, why=why, **changes)

    def stop_if_needed(self, key: SigningKey) -> Judgement:
        """Stop the roll-out if the evidence demands it; this is all that happens without a person."""
        with self.shelf.changing(self.channel):
            found = self.judge()
            if found.release.stage not in RUNNING or found.decision.verdict is not Verdict.STOP:
                return found
            return self._move(found, Event.STOP, key, who=BY_ITSELF, why=" ".join(found.decision.reasons))

    def _move(
        self, found: Judgement, event: Event, key: SigningKey, *, who: str, why: str, **changes: Any
    ) -> Judgement:
        release = following(found.release, event, who=who, why=why, made=self.now(), **changes)
        self._publish(found.release, release, event, key, found)
        return Judgement(release=release, evidence=found.evidence, decision=found.decision)

    def _publish(
        self, before: Release | None, release: Release, event: Event, key: SigningKey, found: Judgement | None = None
    ) -> Release:
        """Record a move, then publish it. If the second fails, the row stands and the move can be made again."""
        details: dict[str, JsonValue] = {
            "event": event.value,
            "rollout": release.rollout,
            "channel": release.channel,
            "sequence": release.sequence,
            "from": None if before is None else before.stage.value,
            "to": release.stage.value,
            "bundle_sha256": release.bundle_sha256,
            "candidate_sha256": None if before is None else release.candidate_sha256 or before.candidate_sha256,
            "why": release.why,
            "terms": release.terms.model_dump(mode="json"),
            "promise": release.promise,
            "release_key": key.key_id,
            "evidence": None if found is None else asdict(found.evidence),
            "reasons": [] if found is None else list(found.decision.reasons),
        }
        with Ledger.open(self.ledger) as ledger:
            ledger.append_action(Action(action=MOVED, who=release.who, details=details))
        self.shelf.publish(release, key)
        return release

    def _latest(self) -> Release | None:
        return self.shelf.latest(self.channel, read_trust_store(self.trust_store))

    def _signed(self, path: Path) -> Bundle:
        bundle = read_bundle(path)
        verify_bundle(bundle, SignaturePolicy(required=True, trust_store=self.trust_store))
        return bundle


def judgement_of(release: Release, evidence: Evidence) -> Judgement:
    """Decide on the evidence of a release."""
    decision = decide(release.stage, evidence, release.terms, promised=release.promise is not None)
    return Judgement(release=release, evidence=evidence, decision=decision)


def promise_of(bundle: Bundle) -> str | None:
    """Return what a bundle's own certificate promises about escapes; ``None`` if it promises nothing."""
    point = bundle.manifest.operating_point
    if point is None or not point.escape.holds or vacuous(point, point.escape):
        return None
    return describe_claims(point.escape)
