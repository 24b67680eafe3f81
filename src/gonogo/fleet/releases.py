"""A release: which bundle the stations of a channel use, and which new one is on its way; signed and numbered."""

from __future__ import annotations

import fnmatch
import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from gonogo.config import Strict
from gonogo.ledger.records import Digest, Moment, Name
from gonogo.names import readable
from gonogo.signing import SigningKey, TrustedKey, TrustStore, Use, open_envelope, seal_statement

Channel = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


class Stage(StrEnum):
    """Stage of a roll-out. `SHADOW` and `CANARY` have a candidate; the others are its ends."""

    SHADOW = "shadow"
    """The candidate judges silently beside the bundle in use, on every station."""
    CANARY = "canary"
    """The candidate answers on the canary stations, and the old bundle judges silently beside it."""
    DONE = "done"
    """The candidate has become the bundle of all stations."""
    STOPPED = "stopped"
    """The roll-out was stopped; all stations use the old bundle."""
    ROLLED_BACK = "rolled_back"
    """All stations use the bundle of before the last roll-out."""


RUNNING = frozenset((Stage.SHADOW, Stage.CANARY))


class Terms(Strict):
    """Terms of a roll-out, fixed and signed before its first part."""

    alpha: Share = 0.05
    """Largest probability of a wrong decision by the bounds, in each stage: half for flips, half for bad flips."""
    max_flips: Share = 0.05
    """Largest share of parts that the candidate judges go and the old bundle does not; above it, the roll-out stops."""
    max_bad_flips: Share = 0.001
    """Most *bad* parts, as a share of all parts, that the candidate may pass while the old bundle does not."""
    min_settled: int = Field(default=20, ge=1)
    """Parts of each stage that a person must have decided before the next stage; flips count, and other parts do."""
    min_live: int = Field(default=200, ge=1)
    """Parts that the candidate must have answered on canary stations before all stations use it."""
    people: int = Field(default=1, ge=1, le=5)
    """Different people who must call a flip good before it counts as good; one who calls it bad is enough."""
    max_crashes: int = Field(default=2, ge=0)
    """Most crashes of the process that judges silently with the candidate."""


class Release(Strict):
    """What the stations of a channel shall do."""

    kind: Literal["gonogo release"] = "gonogo release"
    format: Literal[1] = 1
    channel: Channel
    sequence: int = Field(ge=1)
    """Grows with every release of the channel; a station never takes a smaller one than its last."""
    stage: Stage
    bundle_sha256: Digest
    """Bundle of every station, except of the canary stations in stage canary."""
    candidate_sha256: Digest | None = None
    previous_sha256: Digest | None = None
    """Bundle to roll back to; ``None`` if there is none."""
    started: int = Field(ge=1)
    """Sequence number of the roll-out's first release; with the channel it names the roll-out."""
    canaries: tuple[Name, ...] = ()
    """Names of the canary stations; ``*`` matches any characters."""
    terms: Terms = Terms()
    promise: str | None = None
    """The candidate's own certificate in words; ``None`` if it promises nothing about escapes."""
    made: Moment
    """For people only: no decision depends on a clock."""
    who: Name
    why: str = Field(max_length=2000)

    @field_validator("canaries", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _fits_its_stage(self) -> Release:
        if (self.candidate_sha256 is not None) != (self.stage in RUNNING):
            raise ValueError(f"expected a candidate in the stages shadow and canary only, found stage {self.stage}")
        if self.candidate_sha256 == self.bundle_sha256:
            raise ValueError("expected a candidate other than the bundle in use")
        if self.stage is Stage.CANARY and not self.canaries:
            raise ValueError("expected canary stations in stage canary")
        return self

    @property
    def rollout(self) -> str:
        """Name of the roll-out."""
        return f"{self.channel}-{self.started}"

    @property
    def digest(self) -> str:
        """SHA-256 of the release's contents: two releases with one number are two, whoever signed them."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def is_canary(self, station: str) -> bool:
        """Whether a station is a canary station."""
        return any(fnmatch.fnmatchcase(station, pattern) for pattern in self.canaries)


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What one station shall do."""

    active: str
    """SHA-256 of the bundle that answers."""
    shadow: str | None
    """SHA-256 of the bundle that judges silently beside it."""


def assignment_of(release: Release, station: str) -> Assignment:
    """Return what a release asks of a station."""
    if release.candidate_sha256 is None:
        return Assignment(active=release.bundle_sha256, shadow=None)
    if release.stage is Stage.CANARY and release.is_canary(station):
        return Assignment(active=release.candidate_sha256, shadow=release.bundle_sha256)
    return Assignment(active=release.bundle_sha256, shadow=release.candidate_sha256)


class SeenRelease(Strict):
    """The last release that a station has taken, as its ledger has it."""

    channel: str
    sequence: int
    digest: str


def objection(release: Release, *, channel: str, seen: SeenRelease | None) -> str:
    """Say why a station does not take a verified release; empty if it does, or has taken it already."""
    if release.channel != channel:
        return f"expected a release of channel {channel}, found one of {readable(release.channel)}: it was moved."
    if seen is None or seen.channel != channel or release.sequence > seen.sequence:
        return ""
    if release.sequence < seen.sequence:
        return (
            f"expected release {seen.sequence} of channel {channel} or a later one, found {release.sequence}: an old "
            "release was put back, or the server was restored from a copy. To return to an older bundle, publish a new "
            "release with: gonogo fleet rollback"
        )
    if release.digest != seen.digest:
        return (
            f"found two different releases of channel {channel} with number {release.sequence}: two servers publish, "
            "or a key is misused. The one that was taken first stays; publish a new one from one release server."
        )
    return ""


def sign_release(release: Release, key: SigningKey) -> bytes:
    """Return the signed release, as it is published."""
    return seal_statement(release, key)


def open_release(data: bytes, store: TrustStore, *, name: str) -> tuple[Release, TrustedKey]:
    """Verify a published release.

    Raises:
        SignatureError: it is malformed, or not signed with a key that is trusted for releases.
    """
    return open_envelope(data, Release, store, Use.RELEASE, name=name)


def first_release(bundle_sha256: str, *, channel: str, who: str, why: str, made: datetime) -> Release:
    """Return the first release of a channel, which puts a bundle into use without a roll-out."""
    return Release(
        channel=channel,
        sequence=1,
        started=1,
        stage=Stage.DONE,
        bundle_sha256=bundle_sha256,
        who=who,
        why=why,
        made=made,
    )
