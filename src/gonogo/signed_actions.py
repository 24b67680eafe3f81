"""Actions that a person has signed: how they are made, and how a ledger's signatures are verified.

A signed action is an ordinary row whose details hold a `SignedAction` and its signature under the name ``signed``. The
statement repeats the whole record and names the ledger and one of the last rows before it, with its hash. So a
signature belongs to one row of one ledger: it does not fit a record that was changed, another row, a copy of its row,
or a ledger whose earlier rows were written anew.

The public keys are in the same ledger, in the actions ``signing_key_made`` and ``signing_key_revoked``. Each first use
of a key is signed with it. Nothing else, such as a server's database, decides which key is whose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from gonogo.config import Strict
from gonogo.ledger import Action, ChainHead, Ledger, Opened, Record
from gonogo.names import readable
from gonogo.signing import Envelope, SigningKey, is_signed_by, key_id_of, sign_statement

KEY_MADE, KEY_REVOKED = "signing_key_made", "signing_key_revoked"
"""Actions of keys; details ``key_id`` and ``public_key``, or ``key_id``, ``user`` and ``why``."""
SIGNED = "signed"
"""Name of the signature among the details of an action."""
MEANING, REASON = "meaning", "reason"
"""Names of what the signer wrote, among the details of a signed action."""
MOST_BETWEEN = 10_000
"""So many rows may stand between the row that a statement names and its own: stations write meanwhile."""


class SignedAction(Strict):
    """What is signed."""

    kind: Literal["gonogo action"] = "gonogo action"
    ledger: str
    """The random name in the ledger's first row."""
    after_seq: int = Field(ge=1)
    after_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Number and hash of the last row when it was signed."""
    at: AwareDatetime
    """Time of signing."""
    record: Mapping[str, JsonValue]
    """The whole action but the signature."""


@dataclass(frozen=True, kw_only=True)
class PersonalKey:
    """A person's public key, as the ledger has it."""

    key_id: str
    public: str
    """32 bytes, lower-case hexadecimal."""
    who: str
    at: datetime | None
    """When it was made; ``None`` while a ledger is verified, where times do not count."""
    seq: int
    """The row that made it known."""
    details: Mapping[str, JsonValue]
    revoked_seq: int | None = None
    """The row that revoked it; what was signed before stays valid."""
    revoked_at: datetime | None = None
    revoked_by: str = ""
    why: str = ""


Keys = dict[str, PersonalKey]
"""Keys of a ledger by `PersonalKey.key_id`."""


@dataclass(frozen=True, kw_only=True)
class PersonalSignature:
    """The signature of a row: verified, unless ``problem`` says why it is not."""

    who: str
    key_id: str
    at: datetime
    meaning: str
    reason: str
    problem: str = ""


def sign_action(action: Action, key: SigningKey, *, ledger: Ledger, now: datetime) -> Action:
    """Return an action with its signature, to be appended to this ledger at once."""
    opened = ledger.row(1)
    assert opened is not None, "every ledger has a first row"
    assert isinstance(opened.record, Opened), "which names it"
    head: ChainHead = ledger.head()
    statement = SignedAction(
        ledger=opened.record.ledger,
        after_seq=head.seq,
        after_sha256=head.sha256,
        at=now,
        record=action.model_dump(mode="json"),
    )
    signed = sign_statement(statement, key).model_dump(mode="json")
    return action.model_copy(update={"details": {**action.details, SIGNED: signed}})


def take_key(keys: Keys, seq: int, at: datetime | None, action: Action) -> str:
    """Add what a row says of keys to those of the rows before it.

    Returns:
        Why the row cannot be right; empty for all others, and for rows about something else.
    """
    if action.action not in (KEY_MADE, KEY_REVOKED):
        return ""
    key_id, public = str(action.details.get("key_id")), str(action.details.get("public_key"))
    if action.action == KEY_MADE:
        if key_id in keys:
            return f"row {seq}: the key {readable(key_id)} was already made in row {keys[key_id].seq}"
        try:
            right = key_id_of(public) == key_id
        except ValueError:
            right = False
        if not right:
            return f"row {seq}: the key has another name than its public key gives it"
        keys[key_id] = PersonalKey(
            key_id=key_id, public=public, who=action.who, at=at, seq=seq, details=dict(action.details)
        )
        return ""
    if key_id not in keys:
        return f"row {seq}: revokes the key {readable(key_id)}, which no row before has made"
    if keys[key_id].revoked_seq is None:
        keys[key_id] = replace(
            keys[key_id],
            revoked_seq=seq,
            revoked_at=at,
            revoked_by=action.who,
            why=str(action.details.get("why") or ""),
        )
    return ""


def signature_of(seq: int, action: Action, keys: Keys, *, ledger: str) -> PersonalSignature | None:
    """Verify the signature of one row, but for what other rows say; see `SignatureCheck`.

    Args:
        seq: Number of the row.
        action: Its record.
        keys: The keys of the ledger, those included that were revoked later.
        ledger: Name of the ledger, from its first row.

    Returns:
        ``None`` if the action is not signed.
    """
    found = _read(action)
    if found is None:
        return None
    envelope, statement, problem = found
    if envelope is None or statement is None:
        return PersonalSignature(
            who=action.who, key_id="", at=datetime.min, meaning="", reason="", problem=f"row {seq}: {problem}"
        )
    problem = _problem(seq, action, envelope, statement, keys.get(envelope.key_id), ledger)
    return PersonalSignature(
        who=action.who,
        key_id=envelope.key_id,
        at=statement.at,
        meaning=str(action.details.get(MEANING) or ""),
        reason=str(action.details.get(REASON) or ""),
        problem=problem and f"row {seq}: {problem}",
    )


def _problem(
    seq: int, action: Action, envelope: Envelope, statement: SignedAction, key: PersonalKey | None, ledger: str
) -> str:
    if key is None or key.seq > seq:
        return f"signed with key {envelope.key_id}, which no row before has made"
    if key.who != action.who:
        return f"signed with the key of {readable(key.who)}, recorded for {readable(action.who)}"
    if not is_signed_by(envelope, key.public):
        return f"the signature is not that of key {key.key_id} of {readable(key.who)}: one of the two was changed"
    if statement.record != _without_signature(action):
        return "the signature is of another record: it was copied there, or the record was changed"
    if statement.ledger != ledger:
        return "the signature is of a row of another ledger"
    if key.revoked_seq is not None and key.revoked_seq < seq:
        return f"signed with key {key.key_id} of {readable(key.who)}, which row {key.revoked_seq} had revoked"
    return ""


class SignatureCheck:
    """A `gonogo.ledger.RecordCheck` of every personal signature of one ledger."""

    def __init__(self) -> None:
        self.verified = 0
        """Number of right signatures so far."""
        self._keys: Keys = {}
        self._ledger = ""
        self._hashes: dict[int, str] = {}
        self._seen: dict[str, int] = {}

    def __call__(self, seq: int, sha256: str, record: Record) -> Iterator[str]:
        """See `gonogo.ledger.RecordCheck`."""
        if isinstance(record, Opened):
            self._ledger = record.ledger
        if isinstance(record, Action):
            yield from self._check(seq, record)
        self._hashes[seq] = sha256
        self._hashes.pop(seq - MOST_BETWEEN, None)

    def _check(self, seq: int, action: Action) -> Iterator[str]:
        if problem := take_key(self._keys, seq, None, action):
            yield problem
            return
        found = signature_of(seq, action, self._keys, ledger=self._ledger)
        if found is None:
            if action.action == KEY_MADE:
                yield f"row {seq}: makes a key known without its signature"
            return
        problem = found.problem or self._misplaced(seq, action)
        if problem:
            yield problem
        else:
            self.verified += 1

    def _misplaced(self, seq: int, action: Action) -> str:
        found = _read(action)
        assert found is not None, "verified before"
        envelope, statement, _ = found
        assert envelope is not None, "verified before"
        assert statement is not None, "verified before"
        first = self._seen.setdefault(envelope.signature, seq)
        if first != seq:
            return f"row {seq}: the signature was copied from row {first}"
        if self._hashes.get(statement.after_seq) != statement.after_sha256:
            return (
                f"row {seq}: was signed after another row {statement.after_seq} than the present one: rows before it "
                "were written anew, or it was kept back"
            )
        return ""


def _read(action: Action) -> tuple[Envelope | None, SignedAction | None, str] | None:
    """Read the signature of an action: both parts, or why it cannot be read; ``None`` without one."""
    stored = action.details.get(SIGNED)
    if stored is None:
        return None
    try:
        envelope = Envelope.model_validate(stored)
        return envelope, SignedAction.model_validate_json(envelope.statement), ""
    except ValidationError as error:
        return None, None, f"the signature cannot be read ({error.errors()[0]['msg']})"


def _without_signature(action: Action) -> dict[str, JsonValue]:
    details = {name: value for name, value in action.details.items() if name != SIGNED}
    dumped: dict[str, JsonValue] = action.model_copy(update={"details": details}).model_dump(mode="json")
    return dumped
