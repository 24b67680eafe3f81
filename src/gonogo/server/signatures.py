"""Personal signatures: who may sign a change of what judges, and the changes that were signed.

A person's login is one component, the passphrase of the signing key the other. The key is opened for one change and
signs the row of the ledger that records it, and the bundle. Where the workspace requires signatures, nothing that
decides about parts changes without one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import JsonValue
from starlette.exceptions import HTTPException

from gonogo.bundle import Bundle
from gonogo.errors import LedgerError, SignatureError
from gonogo.ledger import Action, Ledger, Opened, Record, Row, Where
from gonogo.schema import OperatingPoint
from gonogo.server.access import ENGINEERS
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.hashing import BusyError
from gonogo.server.auth.people import User
from gonogo.server.auth.signing_keys import SigningKeys, WrongPassphraseError
from gonogo.server.auth.visitor import Visitor
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.signature_fields import SignatureFields
from gonogo.server.workspace import Workspace
from gonogo.signed_actions import (
    KEY_MADE,
    KEY_REVOKED,
    MEANING,
    REASON,
    Keys,
    PersonalKey,
    PersonalSignature,
    sign_action,
    signature_of,
    take_key,
)
from gonogo.signing import SigningKey, Use, read_trust_store, sign_bundle

REFUSED = "signature_refused"
"""The action that records a wrong passphrase, or a key that is not the person's."""
LIMITS_SET, DEPLOYED = "operating_point", "deploy"
"""Actions that put limits into force; details ``after`` and ``bundle_sha256`` name the bundle."""


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Who makes a change, with the opened key that signs it. Without a key it is recorded unsigned."""

    who: str
    user: User | None = None
    key: SigningKey | None = field(default=None, repr=False)
    meaning: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a page says about signing."""

    required: bool
    key: PersonalKey | None
    """The visitor's key; ``None`` without a usable one."""
    trusted: bool
    """Whether this workspace's trust store has the key; without a requirement, every key will do."""

    @property
    def shown(self) -> bool:
        """Whether the form asks for a signature."""
        return self.key is not None and self.trusted

    @property
    def missing(self) -> bool:
        """Whether the visitor cannot make the change."""
        return self.required and not self.shown


@dataclass(frozen=True, kw_only=True)
class SignedChange:
    """A signed row, for the pages of what it put into force."""

    seq: int
    signature: PersonalSignature


class Signatures:
    """The personal keys of a workspace, and what was signed with them."""

    def __init__(self, workspace: Workspace, ledger_pool: LedgerPool, accounts: Accounts) -> None:
        self._policy, self._ledger_pool, self._accounts = workspace.signatures, ledger_pool, accounts
        self.private = SigningKeys(accounts.database, accounts.people.hashing)
        self.changing = threading.RLock()
        """Held while a key is made, revoked or used, so that nothing is signed with a key that is revoked."""
        self._reading = threading.Lock()
        self._keys: Keys = {}
        self._in_force: dict[str, int] = {}
        self._after, self._ledger = 0, ""

    @property
    def required(self) -> bool:
        """Whether nothing that decides about parts may change without a signature."""
        return self._policy.required

    # --- what is known

    def keys(self) -> Keys:
        """Every key that was ever made, by its short name."""
        self._catch_up()
        return dict(self._keys)

    def keys_of(self, name: str) -> list[PersonalKey]:
        """The keys of a person, the latest first."""
        return sorted((each for each in self.keys().values() if each.who == name), key=lambda each: -each.seq)

    def key_of(self, user: User) -> PersonalKey | None:
        """The key with which a person can sign now; ``None`` without one."""
        locked = self.private.of(user.id)
        key = None if locked is None else self.keys().get(locked.key_id)
        return key if key is not None and key.who == user.name and key.revoked_seq is None else None

    def offer(self, me: Visitor) -> Offer:
        """What a page says about signing to this visitor."""
        key = None if me.user is None or me.role not in ENGINEERS else self.key_of(me.user)
        return Offer(required=self.required, key=key, trusted=key is not None and not self._distrust(key))

    def of_rows(self, rows: Iterable[Row[Record]]) -> dict[int, PersonalSignature]:
        """Verify the signatures of those rows that have one, by their numbers."""
        keys, found = self.keys(), {}
        for row in rows:
            if isinstance(row.record, Action):
                signature = signature_of(row.seq, row.record, keys, ledger=self._ledger)
                if signature is not None:
                    found[row.seq] = signature
        return found

    def in_force(self, bundle_sha256: str | None) -> SignedChange | None:
        """The signed row that put the limits of a bundle into force; ``None`` if none was signed."""
        self._catch_up()
        seq = self._in_force.get(bundle_sha256 or "")
        if seq is None:
            return None
        with self._ledger_pool.reading() as ledger:
            row = ledger.row(seq)
        found = {} if row is None else self.of_rows([row])
        return SignedChange(seq=seq, signature=found[seq]) if seq in found else None

    def _catch_up(self) -> None:
        with self._reading, self._ledger_pool.reading() as ledger:
            head = ledger.head().seq
            if not self._ledger:
                self._ledger = _name_of(ledger)
            rows = [
                row
                for action in (KEY_MADE, KEY_REVOKED, LIMITS_SET, DEPLOYED)
                for row in ledger.actions(Where(action=action), after=self._after, before=head + 1)
            ]
            for row in sorted(rows, key=lambda each: each.seq):
                take_key(self._keys, row.seq, row.at, row.record)
                self._take_change(row)
            self._after = head

    def _take_change(self, row: Row[Action]) -> None:
        """Remember the row that set the limits of a bundle, else the first that deployed it, if it is signed."""
        said = row.record.details
        if said.get("signed") is None:
            return
        if row.record.action == LIMITS_SET:
            self._in_force[str(said.get("after"))] = row.seq
        elif row.record.action == DEPLOYED:
            self._in_force.setdefault(str(said.get("bundle_sha256")), row.seq)

    # --- signing

    def signer(self, me: Visitor, asked: SignatureFields, *, about: str) -> Signer:
        """Open the key of a visitor for one change.

        Args:
            me: The person or program.
            asked: What they typed.
            about: What they want to change, for the record of a wrong passphrase.

        Raises:
            RefusedError: a signature is required and this visitor cannot give one, or something is missing or wrong.
        """
        if not (self.required or asked.given):
            return Signer(who=me.name)
        if me.user is None:
            raise RefusedError(N_("This change needs the signature of a person. A program cannot sign."))
        key = self.key_of(me.user)
        if key is None:
            raise RefusedError(
                N_("This change needs your signature, and you have no signing key. Make one on the page Signing key.")
            )
        if why := self._distrust(key):
            raise RefusedError(why, key=key.key_id)
        if not asked.reason.strip():
            raise RefusedError(N_("Write the reason for the change, then sign it. Nothing was changed."))
        if not asked.given:
            raise RefusedError(N_("Type the passphrase of your signing key to sign the change. Nothing was changed."))
        opened = self.open(me.user, asked.passphrase.get_secret_value(), about=about)
        return Signer(who=me.user.name, user=me.user, key=opened, meaning=asked.meaning, reason=asked.reason.strip())

    def open(self, user: User, passphrase: str, *, about: str) -> SigningKey:
        """Open a person's private key; wrong passphrases are counted, slowed and recorded.

        Raises:
            RefusedError: the passphrase is wrong, or there were too many wrong ones.
        """
        throttle, locked, key = self._accounts.throttle, self.private.of(user.id), self.key_of(user)
        if locked is None or key is None:
            raise RefusedError(N_("You have no signing key. Make one on the page Signing key."))
        subjects = throttle.of_passphrase(user.id)
        try:
            with self._accounts.people.hashing.turn(known=True):
                if (wait_s := throttle.begin(subjects)) > 0:
                    raise RefusedError(
                        N_("Too many wrong passphrases. Try again in %(seconds)s seconds."), seconds=math.ceil(wait_s)
                    )
                opened = self.private.unlock(locked, passphrase)
        except BusyError as error:
            raise HTTPException(503, headers={"Retry-After": "2"}) from error
        except WrongPassphraseError as error:
            self._ledger_pool.act(REFUSED, user.name, key_id=key.key_id, what="passphrase", change=about)
            raise RefusedError(N_("Wrong passphrase. Nothing was changed.")) from error
        if opened.public != key.public:
            self._ledger_pool.act(REFUSED, user.name, key_id=key.key_id, what="another key", change=about)
            raise RefusedError(
                N_("Your private key is not the one in the audit log: the database was changed. Tell your auditor.")
            )
        throttle.succeeded(subjects)
        return opened

    def act(self, signer: Signer, action: str, *, station: str | None = None, **details: JsonValue) -> Row[Action]:
        """Record an action with its signature; it is on disk when this returns.

        Args:
            signer: The person, with the opened key.
            action: One word, such as ``deploy``.
            station: The station that it concerns.
            details: Further details.

        Raises:
            RefusedError: the person or the key may not sign any more.
            LedgerError: the action could not be recorded and must not be carried out.
        """
        if signer.key is None and station is None:
            return self._ledger_pool.act(action, signer.who, about=None, label=None, defect=None, **details)
        if signer.key is None:
            return self._ledger_pool.append(Action(action=action, who=signer.who, station=station, details=details))
        with self.changing:
            self.require_standing(signer)
            said = {**details, MEANING: signer.meaning, REASON: signer.reason}
            return self._append_signed(Action(action=action, who=signer.who, station=station, details=said), signer.key)

    def require_standing(self, signer: Signer) -> None:
        """Refuse a person who was locked out, or whose role or key was taken away, since the key was opened.

        Raises:
            RefusedError: so it is.
        """
        if signer.key is None or signer.user is None:
            return
        user = self._accounts.people.find(signer.user.id)
        key = self.key_of(user)
        if user.disabled or user.role not in ENGINEERS or key is None or key.public != signer.key.public:
            raise RefusedError(
                N_("Nothing was changed: since you signed, your signing key was revoked or your account was changed.")
            )
        if why := self._distrust(key):
            raise RefusedError(why, key=key.key_id)

    def sign_bundle(self, signer: Signer, bundle: Bundle) -> None:
        """Sign a bundle with the key of the person who changed it; without a key it stays as it is."""
        if signer.key is not None:
            sign_bundle(bundle, signer.key, now=datetime.now(UTC))

    def _append_signed(self, action: Action, key: SigningKey) -> Row[Action]:
        with self._ledger_pool.reading() as ledger:
            signed = sign_action(action, key, ledger=ledger, now=datetime.now(UTC))
        return self._ledger_pool.append(signed)

    def _distrust(self, key: PersonalKey) -> str:
        """Why a key may not sign here; empty if it may. Placeholder: ``key``."""
        if not self.required:
            return ""
        try:
            trusted = read_trust_store(self._policy.trust_store).find(key.key_id)
        except SignatureError:
            trusted = None
        if (
            trusted is None
            or trusted.revoked is not None
            or trusted.key != key.public
            or Use.BUNDLE not in trusted.uses
        ):
            return N_(
                "This change needs a signature that the stations trust, and they do not trust your key %(key)s. "
                "Download its public key on the page Signing key, and let it be added: gonogo bundle keys add"
            )
        return ""

    # --- keys

    def add_key(self, user: User, key: SigningKey, passphrase: str, **details: JsonValue) -> PersonalKey:
        """Give a person a new key, which replaces the earlier one.

        Args:
            user: The person.
            key: The new key.
            passphrase: It is not stored.
            details: Further details of the record.

        Raises:
            LedgerError: it could not be recorded; nothing has changed.
        """
        locked = self.private.lock(key, passphrase)
        with self.changing, self._accounts.database.transaction():
            self._revoke_all(user, user.name, "replaced")
            self.private.put(user.id, locked)
            said = {"key_id": key.key_id, "public_key": key.public, **details}
            row = self._append_signed(Action(action=KEY_MADE, who=user.name, details=said), key)
        made = self.keys().get(key.key_id)
        if made is None:
            raise LedgerError(f"row {row.seq}: the key {key.key_id} is not in the ledger. Make a new one.")
        return made

    def set_passphrase(self, user: User, key: SigningKey, passphrase: str) -> None:
        """Encrypt a key under a new passphrase; the key stays the same."""
        locked = self.private.lock(key, passphrase)
        with self.changing, self._accounts.database.transaction():
            now = self.key_of(user)
            if now is None or now.key_id != key.key_id:
                raise RefusedError(N_("The key was revoked in the meantime."))
            self.private.put(user.id, locked)
            self._ledger_pool.act("signing_key_passphrase", user.name, key_id=key.key_id)

    def revoke(self, user: User, by: str, why: str) -> None:
        """Revoke a person's key: the private key is deleted, the public one stays, and so does what was signed.

        Raises:
            RefusedError: there is none.
        """
        with self.changing, self._accounts.database.transaction():
            if not self._revoke_all(user, by, why.strip()[:200]):
                raise RefusedError(N_("%(name)s has no signing key."), name=user.name)
            self.private.remove(user.id)

    def _revoke_all(self, user: User, by: str, why: str) -> int:
        """Record that the present key is revoked; more than one only if the database was changed by hand."""
        present = [key for key in self.keys_of(user.name) if key.revoked_seq is None]
        for key in present:
            self._ledger_pool.act(KEY_REVOKED, by, user=user.name, key_id=key.key_id, why=why)
        return len(present)


def limits_of(point: OperatingPoint | None) -> dict[str, JsonValue] | None:
    """The limits of an operating point for a record; ``None`` for a threshold that is infinite."""
    if point is None:
        return None
    values = {"go_below": point.go_below, "no_go_above": point.no_go_above}
    finite: dict[str, JsonValue] = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {**finite, "max_escape": point.escape.max_rate, "max_overkill": point.overkill.max_rate}


def _name_of(ledger: Ledger) -> str:
    row = ledger.row(1)
    return row.record.ledger if row is not None and isinstance(row.record, Opened) else ""
