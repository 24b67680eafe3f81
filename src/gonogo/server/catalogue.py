"""The inspectors of a workspace as people keep them: which one is in use, notes, the archive.

Everything is recorded in the ledger before it counts, and read back from there: notes and archive have no other store.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from gonogo import bundle
from gonogo.bundle import Bundle
from gonogo.errors import BundleError
from gonogo.ledger import Ledger, Where
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.signatures import DEPLOYED, Signatures, Signer, limits_of
from gonogo.server.workspace import Workspace
from gonogo.signing import verify_bundle
from gonogo.station.outcomes import signature_details

NOTE, ARCHIVED, RESTORED = "inspector_note", "inspector_archived", "inspector_restored"
LONGEST_NOTE = 2000


@dataclass(frozen=True, kw_only=True)
class InspectorNote:
    """What a person wrote about an inspector."""

    who: str
    at: datetime
    text: str


@dataclass(kw_only=True)
class _Kept:
    notes: dict[str, list[InspectorNote]] = field(default_factory=dict)
    archived: dict[str, bool] = field(default_factory=dict)
    after: int = 0


class Catalogue:
    """Deploys and archives inspectors, and keeps notes about them."""

    def __init__(self, workspace: Workspace, ledger_pool: LedgerPool, signatures: Signatures) -> None:
        self._workspace, self._ledger_pool, self._signatures = workspace, ledger_pool, signatures
        self._reading = threading.Lock()
        self._kept = _Kept()
        self.changing = threading.RLock()
        """Held while it is decided and recorded which inspector is in use, judges silently, or is archived."""

    def archived(self) -> frozenset[str]:
        """Names of the archived inspectors."""
        kept = self._caught_up()
        return frozenset(name for name, away in kept.archived.items() if away)

    def listed(self) -> list[Path]:
        """Paths of the inspectors that are not archived, by name."""
        away = self.archived()
        return [path for path in self._workspace.bundle_paths() if path.name not in away]

    def notes(self, name: str) -> list[InspectorNote]:
        """Notes about an inspector, the latest first."""
        return self._caught_up().notes.get(name, [])[::-1]

    def find(self, name: str) -> Path:
        """Return the path of an inspector.

        Raises:
            RefusedError: there is none of this name.
        """
        path = self._workspace.bundles / name
        if path not in self._workspace.bundle_paths():
            raise RefusedError(N_("There is no inspector %(name)s."), name=name[:200])
        return path

    def note(self, name: str, text: str, who: str) -> None:
        """Add a note.

        Raises:
            RefusedError: it is empty or too long.
        """
        path, text = self.find(name), text.strip()
        if not text or len(text) > LONGEST_NOTE:
            raise RefusedError(N_("A note has 1 to %(most)s characters."), most=LONGEST_NOTE)
        self._ledger_pool.act(NOTE, who, bundle=name, bundle_sha256=_sha256(path), text=text)

    def archive(self, name: str, who: str) -> None:
        """Hide an inspector from the lists; nothing is deleted.

        Raises:
            RefusedError: it is in use, or archived already.
        """
        with self.changing:
            path = self.find(name)
            if path == self._workspace.active_bundle():
                raise RefusedError(N_("%(name)s is in use. Deploy another one first."), name=name)
            if name in self.archived():
                raise RefusedError(N_("%(name)s is archived already."), name=name)
            self._ledger_pool.act(ARCHIVED, who, bundle=name, bundle_sha256=_sha256(path))

    def restore(self, name: str, who: str) -> None:
        """Bring an inspector back from the archive.

        Raises:
            RefusedError: it is not archived.
        """
        with self.changing:
            path = self.find(name)
            if name not in self.archived():
                raise RefusedError(N_("%(name)s is not archived."), name=name)
            self._ledger_pool.act(RESTORED, who, bundle=name, bundle_sha256=_sha256(path))

    def deploy(self, name: str, signer: Signer, *, seen_sha256: str = "", rollout: str | None = None) -> None:
        """Put an inspector into use; a station that follows ``active`` switches to it.

        A bundle without a signature gets that of the person who deploys it, also one that was in use before signatures
        were required.

        Args:
            name: Its folder's name.
            signer: The person.
            seen_sha256: The bundle that the person saw; empty if unknown.
            rollout: The trial whose evidence allows it, see `gonogo.server.shadow`; ``None`` without one.

        Raises:
            BundleError: it is damaged.
            RefusedError: there is none of this name, it is archived, it is not what the person saw, or it is in use
                already and would be signed once more.
            SignatureError: this machine demands a signature that it lacks.
        """
        with self.changing:
            path = self.find(name)
            if name in self.archived():
                raise RefusedError(N_("%(name)s is archived. Restore it first."), name=name)
            opened, active = bundle.read_bundle(path), self._workspace.active_bundle()
            if seen_sha256 and seen_sha256 != opened.sha256:
                raise RefusedError(N_("%(name)s has changed since you opened the page. Look at it again."), name=name)
            signs = signer.key is not None and opened.signature is None
            if signer.key is not None and active == path and not signs:
                raise RefusedError(N_("%(name)s is in use already. Nothing was changed."), name=name)
            signature = None if signs else verify_bundle(opened, self._workspace.signatures)
            before = _read(active)
            self._signatures.act(
                signer,
                DEPLOYED,
                bundle=name,
                bundle_sha256=opened.sha256,
                limits=limits_of(opened.manifest.operating_point),
                before=active.name if active else None,
                before_sha256=None if before is None else before.sha256,
                limits_before=None if before is None else limits_of(before.manifest.operating_point),
                signature=signature_details(signature) or None,
                rollout=rollout,
            )
            if signs:
                self._signatures.sign_bundle(signer, opened)
            self._workspace.activate(name)

    def _caught_up(self) -> _Kept:
        with self._reading, self._ledger_pool.reading() as ledger:
            head = ledger.head().seq
            _take(self._kept, ledger, head)
            return self._kept


def _take(kept: _Kept, ledger: Ledger, head: int) -> None:
    rows = [
        row
        for action in (NOTE, ARCHIVED, RESTORED)
        for row in ledger.actions(Where(action=action), after=kept.after, before=head + 1)
    ]
    for row in sorted(rows, key=lambda each: each.seq):
        name = str(row.record.details.get("bundle"))
        if row.record.action == NOTE:
            text = str(row.record.details.get("text", ""))
            kept.notes.setdefault(name, []).append(InspectorNote(who=row.record.who, at=row.at, text=text))
        else:
            kept.archived[name] = row.record.action == ARCHIVED
    kept.after = head


def _sha256(path: Path) -> str | None:
    """The bundle's hash; ``None`` for a damaged one, which can be noted and archived like any other."""
    found = _read(path)
    return None if found is None else found.sha256


def _read(path: Path | None) -> Bundle | None:
    try:
        return None if path is None else bundle.read_bundle(path)
    except BundleError:
        return None
