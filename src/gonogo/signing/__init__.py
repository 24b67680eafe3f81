"""Signatures: who vouches for a bundle or a release, and whom this machine trusts.

A seal shows that a bundle is complete; anyone who can write the folder can seal a changed one anew. A signature is an
Ed25519 signature over the seal's hash, so it covers every file that can change a judgement. It lies in the bundle as
``signature.json``, outside the seal: signing does not change the bundle's identity. Policy is the machine's, never the
bundle's: a bundle whose signature was deleted is refused where one is required.
"""

from __future__ import annotations

from gonogo.signing.envelopes import Envelope, is_signed_by, open_envelope, seal_statement, sign_statement
from gonogo.signing.keys import (
    PublicKey,
    SigningKey,
    fingerprint_of,
    key_id_of,
    make_key_pair,
    open_signing_key,
    read_public_key,
)
from gonogo.signing.signatures import (
    NOT_REQUIRED,
    Signature,
    SignaturePolicy,
    machine_policy,
    sign_bundle,
    verify_bundle,
    without_signature,
)
from gonogo.signing.trust_store import TrustedKey, TrustStore, Use, add_key, read_trust_store, revoke_key

__all__ = [
    "NOT_REQUIRED",
    "Envelope",
    "PublicKey",
    "Signature",
    "SignaturePolicy",
    "SigningKey",
    "TrustStore",
    "TrustedKey",
    "Use",
    "add_key",
    "fingerprint_of",
    "is_signed_by",
    "key_id_of",
    "machine_policy",
    "make_key_pair",
    "open_envelope",
    "open_signing_key",
    "read_public_key",
    "read_trust_store",
    "revoke_key",
    "seal_statement",
    "sign_bundle",
    "sign_statement",
    "verify_bundle",
    "without_signature",
]
