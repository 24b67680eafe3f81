"""Reads and writes operating points as JSON. A record whose counts do not support its claims is rejected."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from gonogo.config import Strict
from gonogo.errors import InputError
from gonogo.operating_point.binomial import allowed_errors, certifies
from gonogo.operating_point.rule import risk
from gonogo.schema import Claim, OperatingPoint

_Share = Annotated[float, Field(gt=0, lt=1)]
_Threshold = Annotated[float, Field(allow_inf_nan=False)]
_Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class _Claim(Strict):
    max_rate: _Share
    confidence: _Share
    parts: int = Field(ge=0)
    allowed: int | None = Field(ge=0)
    parts_missing: int = Field(ge=0)
    best_rate: float = Field(gt=0, le=1)


class _EscapeClaim(_Claim):
    error: Literal["escape"]


class _OverkillClaim(_Claim):
    error: Literal["overkill"]


class _Record(Strict):
    go_below: _Threshold | None
    no_go_above: _Threshold | None
    escape: _EscapeClaim
    overkill: _OverkillClaim
    joint: bool
    scores_sha256: _Digest
    data_fingerprint: str
    zones_sha256: _Digest = ""
    go_without_promise: bool = False
    rules_sha256: _Digest = ""


def to_json(point: OperatingPoint) -> dict[str, Any]:
    """Return the operating point as a JSON object; an infinite threshold is ``null``."""
    return {
        "go_below": _finite(point.go_below),
        "no_go_above": _finite(point.no_go_above),
        "escape": _claim_to_json(point.escape),
        "overkill": _claim_to_json(point.overkill),
        "joint": point.joint,
        "scores_sha256": point.scores_sha256,
        "data_fingerprint": point.data_fingerprint,
        **({"zones_sha256": point.zones_sha256} if point.zones_sha256 else {}),
        "go_without_promise": point.go_without_promise,
        "rules_sha256": point.rules_sha256,
    }


def from_json(record: object) -> OperatingPoint:
    """Read what `to_json` wrote.

    Raises:
        InputError: the record is malformed, or its counts do not support a claim.
    """
    try:
        read = _Record.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "record"
        raise _malformed(f"{where}: {first['msg']}") from error
    go_below = -math.inf if read.go_below is None else read.go_below
    no_go_above = math.inf if read.no_go_above is None else read.no_go_above
    if go_below > no_go_above:
        raise _malformed(f"expected go_below <= no_go_above, found {go_below} and {no_go_above}")
    escape, overkill = Claim(**read.escape.model_dump()), Claim(**read.overkill.model_dump())
    _check_without_promise(escape, overkill, read)
    _check_support(escape, read.joint, reachable=read.go_below is not None and not read.go_without_promise)
    _check_support(overkill, read.joint, reachable=read.no_go_above is not None)
    return OperatingPoint(
        go_below=go_below,
        no_go_above=no_go_above,
        escape=escape,
        overkill=overkill,
        joint=read.joint,
        scores_sha256=read.scores_sha256,
        data_fingerprint=read.data_fingerprint,
        zones_sha256=read.zones_sha256,
        go_without_promise=read.go_without_promise,
        rules_sha256=read.rules_sha256,
    )


def _check_without_promise(escape: Claim, overkill: Claim, read: _Record) -> None:
    """``go_without_promise`` requires an uncertified escape limit and a threshold that comes from good parts."""
    if not read.go_without_promise:
        return
    if escape.holds:
        raise _malformed("go_without_promise: expected false where an escape limit is certified, found true")
    if not overkill.holds or read.go_below is None:
        raise _malformed("go_without_promise: expected a threshold certified on good parts, found none")


def _check_support(claim: Claim, joint: bool, *, reachable: bool) -> None:
    """A claim may be more conservative than the rule (as after comparing several settings), never less."""
    if claim.holds != (claim.parts_missing == 0):
        raise _malformed(f"{claim.error}: parts_missing is {claim.parts_missing} but allowed is {claim.allowed}")
    if claim.allowed is None:
        if reachable:
            raise _malformed(f"{claim.error}: expected no threshold (null) where nothing is certified, found one")
        return
    delta = risk(claim.confidence, joint=joint)
    if claim.allowed > claim.parts or not certifies(claim.allowed, claim.parts, claim.max_rate, delta):
        most = allowed_errors(claim.parts, claim.max_rate, delta)
        raise _malformed(
            f"{claim.error}: {claim.allowed} of {claim.parts} parts on the wrong side do not certify "
            f"{claim.max_rate:g} at confidence {claim.confidence:g} (at most {'none can' if most is None else most})"
        )


def _malformed(what: str) -> InputError:
    return InputError(f"operating point: {what}. Certify it again on the calibrate split.")


def _claim_to_json(claim: Claim) -> dict[str, Any]:
    return {
        "error": claim.error,
        "max_rate": claim.max_rate,
        "confidence": claim.confidence,
        "parts": claim.parts,
        "allowed": claim.allowed,
        "parts_missing": claim.parts_missing,
        "best_rate": claim.best_rate,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
