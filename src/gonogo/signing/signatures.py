"""The signature of a bundle: made, verified, and the policy that says whether one is required."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field

from gonogo.bundle import SIGNATURE, Bundle
from gonogo.config import Settings, Strict, settings
from gonogo.errors import SignatureError
from gonogo.files import write_beside
from gonogo.signing.envelopes import open_envelope, seal_statement
from gonogo.signing.keys import SigningKey
from gonogo.signing.trust_store import Use, read_trust_store


class BundleStatement(Strict):
    """What is signed: the seal's hash covers every file of the bundle, so every byte that can change a judgement."""

    kind: Literal["gonogo bundle"] = "gonogo bundle"
    bundle_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    name: str
    """Name of the bundle, from its manifest."""
    signed: AwareDatetime
    """Time of signing, as the signer's clock states it."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A verified signature."""

    key_id: str
    signer: str
    """Name of the key's owner in this machine's trust store."""
    signed: datetime
    revoked: bool = False
    """Whether the key has been revoked since; see `SignaturePolicy.accept_revoked`."""


@dataclass(frozen=True, kw_only=True)
class SignaturePolicy:
    """Whether bundles must be signed, and by whom."""

    required: bool
    trust_store: Path = Path("trust.json")
    accept_revoked: bool = False
    """Also accept a revoked key: only for a bundle in use, so that a revocation does not stop a line."""


NOT_REQUIRED = SignaturePolicy(required=False)
"""For the lab: a bundle is signed after it is made."""


def machine_policy(machine: Settings | None = None) -> SignaturePolicy:
    """Return the policy in the settings of this machine; by default those of the environment."""
    machine = machine or settings()
    return SignaturePolicy(required=machine.require_signature, trust_store=machine.trust_store)


def sign_bundle(bundle: Bundle, key: SigningKey, *, now: datetime) -> BundleStatement:
    """Sign an opened bundle; an earlier signature is replaced. The bundle's identity does not change.

    Raises:
        InputError: the signature cannot be written.
    """
    statement = BundleStatement(bundle_sha256=bundle.sha256, name=bundle.manifest.name, signed=now)
    write_beside(bundle.root / SIGNATURE, seal_statement(statement, key))
    return statement


def verify_bundle(bundle: Bundle, policy: SignaturePolicy) -> Signature | None:
    """Verify the signature of an opened bundle.

    Returns:
        ``None`` if the policy requires no signature; then none is looked at.

    Raises:
        SignatureError: the bundle is not signed, the signature is of another bundle or does not verify, the key is not
            trusted, or the trust store is missing or empty.
    """
    if not policy.required:
        return None
    if bundle.signature is None:
        raise SignatureError(
            f"{bundle.root}: expected a signed bundle, found no {SIGNATURE}. This machine accepts only signed bundles: "
            f"let someone with a trusted key run: gonogo bundle sign {bundle.root}"
        )
    store = read_trust_store(policy.trust_store)
    name = str(bundle.root / SIGNATURE)
    statement, key = open_envelope(
        bundle.signature, BundleStatement, store, Use.BUNDLE, name=name, accept_revoked=policy.accept_revoked
    )
    if statement.bundle_sha256 != bundle.sha256:
        raise SignatureError(
            f"{name}: signs bundle {statement.bundle_sha256[:16]} ({statement.name}), found {bundle.sha256[:16]}: the "
            "bundle was changed after it was signed, or the signature is another bundle's. Examine and sign it again."
        )
    return Signature(key_id=key.key_id, signer=key.name, signed=statement.signed, revoked=key.revoked is not None)


def without_signature(before: Bundle, after: Bundle) -> str:
    """Return the sentence for people whose signed bundle was changed, or led to another one; empty if it was not."""
    if before.signature is None or after.signature is not None:
        return ""
    changed = before.root == after.root
    what = "was removed, because the bundle has changed" if changed else "of the old bundle does not cover the new one"
    return f"The signature {what}. Sign it again with: gonogo bundle sign {after.root}"
