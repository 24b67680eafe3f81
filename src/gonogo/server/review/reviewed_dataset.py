"""The data set of reviewed parts: the frames of every decided part with their labels.

The ledger is authoritative and the update is idempotent. Boxes or kinds that an engineer adds on the label page are
kept until the part is decided again.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gonogo import images
from gonogo.dataset import Sample, Split
from gonogo.errors import GonogoError
from gonogo.files import write_beside
from gonogo.ledger import Ledger
from gonogo.server.dataset_store import Datasets
from gonogo.server.language import RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.review.decisions import Decisions, ReviewDecision

REVIEWED = "reviewed"
"""The data set's name in the workspace."""
_FOLDER = "images"
_COLLECT_SHARE = 20  # limits collecting to 5 % of the time
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp"}
_SUFFIXES |= {"MPO": ".jpg", "GIF": ".gif", "AVIF": ".avif", "HEIF": ".heic"}


class Collector:
    """Updates the data set in the calling thread."""

    def __init__(self, ledger_pool: LedgerPool, decisions: Decisions, datasets: Datasets) -> None:
        self._ledger_pool, self._decisions, self._datasets = ledger_pool, decisions, datasets
        self._running = threading.Lock()
        self._done, self._due = 0, 0.0

    def run(self, *, at_once: bool = False) -> None:
        """Update the data set, unless another thread is already doing so.

        Args:
            at_once: Wait for other threads and always update. Otherwise a large data set, which is slow to write, is
                updated less often, and a later call catches up.
        """
        if not self._running.acquire(blocking=at_once):
            return
        try:
            begun = time.monotonic()
            standing, seen = self._decisions.snapshot()
            if seen == self._done or (begun < self._due and not at_once):
                return
            with self._ledger_pool.reading() as ledger:
                collect(ledger, standing, self._datasets)
            self._done, ended = seen, time.monotonic()
            self._due = ended + _COLLECT_SHARE * (ended - begun)
        finally:
            self._running.release()

    def there(self) -> bool:
        """Whether the data set exists."""
        return REVIEWED in self._datasets.names()

    def count(self) -> int:
        """Number of labelled pictures in it."""
        if not self.there():
            return 0
        return sum(sample.label is not None for sample in self._datasets.read(REVIEWED).samples.values())

    def copy_into(self, name: str, *, who: str) -> Copied:
        """See `copy_into`."""
        return copy_into(self._datasets, name, who=who)


def collect(ledger: Ledger, standing: Mapping[int, ReviewDecision], datasets: Datasets) -> None:
    """Update the data set from the decisions.

    Every picture of a part gets the part's label and goes into the train split: doubtful parts are not a random sample
    of the line, so they cannot be used for certification. A picture loses its label if the decision is undone.
    """
    if REVIEWED not in datasets.names():
        with contextlib.suppress(RefusedError):  # another thread created it first
            datasets.create(REVIEWED)
    wanted = {digest: each for each in standing.values() for digest in each.frames_sha256}  # the latest decision counts
    with datasets.changing(REVIEWED, what="review", who="gonogo") as draft:
        mine = {Path(name).stem: sample for name, sample in draft.samples.items() if _row_of(sample) is not None}
        draft.put(_revised(mine, wanted))
        for digest in wanted.keys() - mine.keys():
            if (name := _copy(ledger, digest, draft.before.root)) is not None:
                draft.put([_said(Sample(file_name=name, split=Split.TRAIN), wanted[digest])])


@dataclass(frozen=True, kw_only=True)
class Copied:
    """Result of copying reviewed pictures into another data set."""

    added: int
    there: int
    """Number of pictures copied earlier."""
    held_back: int
    """Number of pictures not copied because their parts are in the val, calibrate or test split there (leakage)."""


def copy_into(datasets: Datasets, name: str, *, who: str) -> Copied:
    """Copy the reviewed pictures into the train split of another data set; running it twice is safe.

    Raises:
        RefusedError: no such data set.
    """
    source = datasets.read(REVIEWED)
    added = there = held_back = 0
    with datasets.changing(name, what="review", who=who) as draft:
        root = draft.before.root
        proving = [sample for sample in draft.samples.values() if sample.split not in (None, Split.TRAIN)]
        parts = {sample.part for sample in proving if sample.part}
        same = {_sha256(root / sample.file_name) for sample in proving if (root / sample.file_name).is_file()}
        for sample in source.samples.values():
            target = f"{REVIEWED}/{Path(sample.file_name).name}"
            copied, row = draft.samples.get(target), _row_of(sample)
            if copied is not None:
                there += 1
                if _row_of(copied) != row:
                    draft.put([sample.model_copy(update={"file_name": target})])
            elif sample.label is None:
                continue
            elif sample.part in parts or Path(sample.file_name).stem in same:
                held_back += 1
            else:
                added += 1
                (root / REVIEWED).mkdir(exist_ok=True)
                shutil.copyfile(source.root / sample.file_name, root / target)
                draft.put([sample.model_copy(update={"file_name": target, "split": Split.TRAIN})])
    return Copied(added=added, there=there, held_back=held_back)


def _revised(mine: Mapping[str, Sample], wanted: Mapping[str, ReviewDecision]) -> Iterator[Sample]:
    for digest, sample in mine.items():
        decision = wanted.get(digest)
        if decision is None and _row_of(sample) != 0:
            yield Sample.model_validate({**sample.model_dump(), "label": None, "defect": None, "decision_row": 0})
        elif decision is not None and _row_of(sample) != decision.row:
            yield _said(sample, decision)


def _row_of(sample: Sample) -> int | None:
    found = (sample.model_extra or {}).get("decision_row")
    return found if isinstance(found, int) else None


def _said(sample: Sample, decision: ReviewDecision) -> Sample:
    said = {
        "label": decision.label,
        "defect": decision.defect,
        "part": decision.part,
        "lot": decision.lot,
        "decision_row": decision.row,
        "labelled_by": decision.who,
        "labelled_at": decision.at.isoformat(timespec="milliseconds"),
    }
    return Sample.model_validate({**sample.model_dump(), **said})


def _copy(ledger: Ledger, digest: str, root: Path) -> str | None:
    with contextlib.suppress(GonogoError):  # the frame was deleted by the retention limit
        data = ledger.frames.read(digest)
        name = f"{_FOLDER}/{digest}{_SUFFIXES[images.read_header(data).format]}"
        write_beside(root / name, data)
        return name
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
