"""Undo for changes to many pictures: each change can be taken back for the pictures that nobody has changed since.

The latest changes are kept in memory. After a restart, the revisions of the data set restore them.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from gonogo.dataset import Sample
from gonogo.server.dataset_store import Datasets
from gonogo.server.language import N_, RefusedError

_KEPT = 10


@dataclass(frozen=True, kw_only=True)
class BulkChange:
    """One change to many pictures."""

    number: int
    who: str
    action: str
    before: Mapping[str, Sample]
    after: Mapping[str, Sample | None]
    """``None`` for a removed record."""
    order: tuple[str, ...]
    """All files of the data set in their order before the change, if records were removed."""


class UndoStacks:
    """The latest changes of each data set."""

    def __init__(self) -> None:
        self._changes: dict[str, deque[BulkChange]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def push(
        self, dataset: str, who: str, action: str, before: Mapping[str, Sample], after: Mapping[str, Sample]
    ) -> BulkChange:
        """Keep a change, given all records before and after it."""
        changed = {file: each for file, each in before.items() if after.get(file) is not each}
        removed = any(file not in after for file in changed)
        with self._lock:
            made = BulkChange(
                number=next(self._numbers),
                who=who,
                action=action,
                before=changed,
                after={file: after.get(file) for file in changed},
                order=tuple(before) if removed else (),
            )
            self._changes.setdefault(dataset, deque(maxlen=_KEPT)).append(made)
        return made

    def latest(self, dataset: str, who: str) -> BulkChange | None:
        """The latest change by this person that can be undone."""
        with self._lock:
            mine = [each for each in self._changes.get(dataset, ()) if each.who == who]
        return mine[-1] if mine else None

    def undo(self, datasets: Datasets, dataset: str, who: str, number: int) -> tuple[int, int]:
        """Take a change back; returns the number of pictures restored, and of those left as others have made them.

        Raises:
            RefusedError: the change is not known, or was undone already.
        """
        with self._lock:
            held = self._changes.get(dataset, deque())
            change = next((each for each in held if each.number == number and each.who == who), None)
            if change is not None:
                held.remove(change)
        if change is None:
            raise RefusedError(
                N_("This change can no longer be undone here. Restore the revision before it on the page Revisions.")
            )
        try:
            with datasets.changing(dataset, what="restore", who=who) as draft:
                now = draft.samples
                fresh = {file: each for file, each in change.before.items() if now.get(file) == change.after[file]}
                draft.put(fresh.values())
                if change.order:
                    ranks = {file: rank for rank, file in enumerate(change.order)}
                    files = sorted(draft.samples, key=lambda file: ranks.get(file, len(ranks)))
                    draft.samples = {file: draft.samples[file] for file in files}
        except BaseException:  # BLE001: kept for another try whatever happened, and raised again
            with self._lock:
                held.append(change)
            raise
        return len(fresh), len(change.before) - len(fresh)
