"""Signed statements: a text, the key that signed it, and the signature over the text's exact bytes."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from gonogo.config import Strict
from gonogo.errors import SignatureError
from gonogo.names import readable
from gonogo.signing.keys import SigningKey
from gonogo.signing.trust_store import TrustedKey, TrustStore, Use

Statement = TypeVar("Statement", bound=Strict)
"""Each kind of statement has a field with a value of its own, so that none can be taken for another kind."""


class Envelope(Strict):
    """A statement as it is stored: as text, so that nothing depends on how JSON is written again."""

    statement: Annotated[str, Field(max_length=1_000_000)]
    key_id: str = Field(pattern="^[0-9a-f]{16}$")
    signature: str = Field(pattern="^[0-9a-f]{128}$")


def sign_statement(statement: Strict, key: SigningKey) -> Envelope:
    """Sign a statement."""
    text = statement.model_dump_json()
    return Envelope(statement=text, key_id=key.key_id, signature=key.sign(text.encode()))


def seal_statement(statement: Strict, key: SigningKey) -> bytes:
    """Sign a statement; the result is one JSON object in a line."""
    return sign_statement(statement, key).model_dump_json().encode() + b"\n"


def open_envelope(
    data: bytes, kind: type[Statement], store: TrustStore, use: Use, *, name: str, accept_revoked: bool = False
) -> tuple[Statement, TrustedKey]:
    """Verify a signed statement and return it with the key that signed it.

    Args:
        data: What `seal_statement` returned.
        kind: The kind of statement that is expected.
        store: The trusted keys.
        use: What the key must be trusted for.
        name: Name of the file, for messages.
        accept_revoked: Also accept a key that has been revoked.

    Raises:
        SignatureError: the file is malformed, the key is unknown, revoked or trusted for something else, or the
            signature is not of this statement.
    """
    try:
        envelope = Envelope.model_validate_json(data)
    except ValidationError as error:
        raise SignatureError(f"{name}: not a signature ({_first(error)}). Sign it again.") from error
    key = store.find(envelope.key_id)
    if key is None:
        raise SignatureError(
            f"{name}: signed with key {envelope.key_id}, which this machine does not know. If you trust its owner, add "
            "the key with: gonogo bundle keys add"
        )
    who = f"key {key.key_id} of {readable(key.name)}"
    if use not in key.uses:
        raise SignatureError(
            f"{name}: signed with {who}, which may sign only {' and '.join(key.uses)}, not {use}. Use another key."
        )
    if not is_signed_by(envelope, key.key):
        raise SignatureError(
            f"{name}: the signature is not that of {who}: it was changed after signing. Sign it again."
        )
    if key.revoked is not None and not accept_revoked:
        because = f": {readable(key.why)}" if key.why else ""
        raise SignatureError(
            f"{name}: signed with {who}, which was revoked on {key.revoked:%Y-%m-%d}{because}. Use another key."
        )
    try:
        return kind.model_validate_json(envelope.statement), key
    except ValidationError as error:
        raise SignatureError(f"{name}: the signed statement is of another kind ({_first(error)}).") from error


def is_signed_by(envelope: Envelope, public: str) -> bool:
    """Whether the signature is that of a public key (64 hexadecimal digits) over the statement's exact bytes."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(envelope.signature), envelope.statement.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
