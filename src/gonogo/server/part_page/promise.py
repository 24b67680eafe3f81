"""The inspector that judged a part: its limits and promise at that time, and whether it is signed."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from gonogo.bundle import SIGNATURE, read_bundle
from gonogo.config import settings
from gonogo.errors import BundleError, GonogoError
from gonogo.ledger import VerdictRecord
from gonogo.operating_point import from_json
from gonogo.schema import OperatingPoint
from gonogo.server.inspectors.bundles import OpenBundle, OpenBundles
from gonogo.server.parts.pictures import PartPictures
from gonogo.signing import SignaturePolicy, verify_bundle
from gonogo.validity import EVIDENCE, KEY, Standing, Validity, standing


@dataclass(frozen=True, kw_only=True)
class SignatureState:
    """What is known about the signature of a bundle."""

    signed: bool
    signer: str = ""
    """Name of the trusted key's owner; empty if the signature could not be verified."""
    at: datetime | None = None
    problem: str = ""
    """Why it could not be verified."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """The bundle that judged a part, as it was then."""

    name: str
    current: bool
    """Whether the bundle still is what it was; otherwise its limits have been changed since."""
    point: OperatingPoint | None
    """The limits and claims in force then."""
    certified_at: datetime | None
    """``None`` if the bundle does not state it."""
    expires_at: datetime | None
    parts: int | None
    """Number of parts after which the certificate ends."""
    then: Standing
    """Whether the certificate was valid when the part was judged, by its days."""
    now: Standing
    signature: SignatureState


class Promises:
    """Reads the promise of a part from its bundle."""

    def __init__(self, bundles: OpenBundles, pictures: PartPictures) -> None:
        self._bundles, self._pictures = bundles, pictures
        self._signatures: dict[tuple[str, bytes], SignatureState] = {}
        self._verifying = threading.Lock()

    def of(self, record: VerdictRecord, *, at: datetime, now: datetime) -> Promise | None:
        """Return it; ``None`` if there was no bundle, or it no longer exists or cannot be read.

        Args:
            record: The verdict.
            at: When the part was judged.
            now: The present time.
        """
        found = None if record.bundle_sha256 is None else self._pictures.find_bundle(record)
        opened = None if found is None else self._bundles.open(found[0])
        if opened is None:
            return None
        point, validity = _in_force(opened, str(record.bundle_sha256))
        return Promise(
            name=opened.name,
            current=opened.sha256 == record.bundle_sha256,
            point=point,
            certified_at=None if validity is None else validity.certified_at,
            expires_at=None if validity is None else validity.expires_at,
            parts=None if validity is None else validity.parts,
            then=standing(validity, now=at),
            now=standing(validity, now=now),
            signature=self._signature(opened),
        )

    def _signature(self, opened: OpenBundle) -> SignatureState:
        """Verify it with the keys that this machine trusts; the result is kept as long as it does not change."""
        try:
            data = (opened.path / SIGNATURE).read_bytes()
        except OSError:
            return SignatureState(signed=False)
        key = (opened.sha256, data)
        with self._verifying:
            if key not in self._signatures:
                self._signatures[key] = _verified(opened.path)
            return self._signatures[key]


def _verified(path: Path) -> SignatureState:
    policy = SignaturePolicy(required=True, trust_store=settings().trust_store, accept_revoked=True)
    try:
        found = verify_bundle(read_bundle(path), policy)
    except GonogoError as error:
        return SignatureState(signed=True, problem=str(error))
    assert found is not None, "required by the policy"
    problem = "the key has been revoked since" if found.revoked else ""
    return SignatureState(signed=True, signer=found.signer, at=found.signed, problem=problem)


def _in_force(opened: OpenBundle, sha256: str) -> tuple[OperatingPoint | None, Validity | None]:
    """The limits and the validity of one revision of a bundle."""
    if opened.sha256 == sha256:
        return opened.point, _validity(opened.evidence.get(KEY))
    revision = next((each for each in opened.manifest.revisions if each.bundle_sha256 == sha256), None)
    if revision is None:
        return None, None
    kept = None if revision.files is None else revision.files.get(EVIDENCE)
    evidence = None
    if kept is not None:
        try:
            evidence = json.loads((opened.path / kept).read_bytes()).get(KEY)
        except (OSError, ValueError, AttributeError):
            evidence = None
    return from_json(revision.operating_point), _validity(evidence)


def _validity(evidence: object) -> Validity | None:
    try:
        return None if evidence is None else Validity.model_validate(evidence)
    except ValidationError as error:
        raise BundleError(f"{EVIDENCE}: malformed ({str(error).splitlines()[0]}). Run gonogo certify again.") from error
