"""The workspace's data sets, with concurrent reads and serialized writes.

Records are read from memory unless the file has changed. A change holds the data set's lock, within and between
processes (`gonogo.dataset.locked`), and ends with one atomic write of ``metadata.jsonl``.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pydantic import TypeAdapter, ValidationError

from gonogo.dataset import Dataset, Revision, Sample, Split, catch_up, locked, record_change
from gonogo.dataset.chain import REVISIONS
from gonogo.dataset.checking import MIN_TRAIN_PER_LABEL
from gonogo.dataset.history import heads, latest
from gonogo.dataset.records import METADATA, read_levels
from gonogo.errors import InputError
from gonogo.files import write_beside
from gonogo.schema import Label
from gonogo.server.language import N_, RefusedError
from gonogo.source import is_boxed

KINDS = "kinds.json"
MOST_KINDS = 40
LONGEST_KIND = 60
MOST_REVISIONS = 200
"""Number of the latest revisions that pages list."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KIND_LIST = TypeAdapter(list[str])
NEEDED = {Label.GOOD: 2 * MIN_TRAIN_PER_LABEL, Label.BAD: 2 * MIN_TRAIN_PER_LABEL}
"""Minimum per label for training; half of them are in the train split."""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What a data set holds, counted."""

    name: str
    pictures: int = 0
    good: int = 0
    bad: int = 0
    without_part: int = 0
    kinds: tuple[tuple[str, int], ...] = ()
    """Bad pictures by kind, most frequent first; ``""`` for no kind."""
    boxes: int = 0
    """Pictures of one whole part with a labelled box."""
    used_kinds: tuple[str, ...] = ()
    """Every kind of defect in use, sorted."""
    masks: int = 0
    splits: tuple[tuple[Split, int], ...] = ()
    first: str = ""
    """File name of a picture to show."""
    problem: str = ""

    @property
    def open(self) -> int:
        """Number of unlabelled pictures."""
        return self.pictures - self.good - self.bad - self.without_part

    @property
    def missing(self) -> dict[Label, int]:
        """Number of pictures that training still needs, by label."""
        have = {Label.GOOD: self.good, Label.BAD: self.bad}
        return {label: needed - have[label] for label, needed in NEEDED.items() if have[label] < needed}


@dataclass(frozen=True, kw_only=True)
class Records:
    """Snapshot of a data set."""

    name: str
    root: Path
    samples: Mapping[str, Sample]
    """Records by file name, in file order."""
    version: int
    """Increases with every change; see `since`."""
    changed_at: Mapping[str, int]
    """The version at which a picture's record last changed."""

    @property
    def dataset(self) -> Dataset:
        """The same data as a `gonogo.dataset.Dataset`."""
        return Dataset(root=self.root, samples=tuple(self.samples.values()), depth=read_levels(self.root))

    @functools.cached_property
    def overview(self) -> Overview:
        """The counts of this snapshot, made when first asked for."""
        return _counted(self.name, list(self.samples.values()))

    def find(self, file: str) -> Sample:
        """Return a picture's record.

        Raises:
            RefusedError: there is no such picture.
        """
        if file not in self.samples:
            raise RefusedError(N_("There is no picture %(file)s in this data set."), file=file[:200])
        return self.samples[file]

    def since(self, version: int) -> list[Sample]:
        """Records changed after a version; all records if the version is from an earlier run of the server."""
        return [self.samples[file] for file, changed in self.changed_at.items() if changed > version]


class DatasetDraft:
    """Mutable draft of a data set during a change."""

    def __init__(self, before: Records) -> None:
        self.before = before
        self.samples = dict(before.samples)
        self.revision: Revision | None = None
        """The revision that holds the draft, after the change; ``None`` if the data set has none."""

    def put(self, samples: Iterable[Sample]) -> None:
        """Add records; a record with the same file name is replaced."""
        self.samples.update((sample.file_name, sample) for sample in samples)

    def remove(self, files: Iterable[str]) -> None:
        """Remove records; the pictures stay on the disk, so that an earlier revision can be restored."""
        for file in files:
            del self.samples[file]


@dataclass
class _CachedDataset:
    """Cached state of one data set."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    signature: tuple[int, ...] = ()
    records: Records | None = None
    heads: tuple[Revision, ...] = ()
    heads_signature: tuple[int, ...] = ()


class Datasets:
    """The data sets of a workspace."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._held: dict[str, _CachedDataset] = {}
        self._guard = threading.Lock()

    def names(self) -> list[str]:
        """Sorted names of all data sets."""
        return sorted(path.parent.name for path in self._root.glob(f"*/{METADATA}"))

    def create(self, name: str) -> None:
        """Create an empty data set.

        Raises:
            RefusedError: the name is taken or invalid.
        """
        name = checked_name(name)
        if (self._root / name).exists():
            raise RefusedError(N_("The data set %(name)s already exists."), name=name)
        write_beside(self._root / name / METADATA, b"")

    def root_of(self, name: str) -> Path:
        """Return the folder of a data set.

        Raises:
            RefusedError: there is none of this name.
        """
        # Compared with the existing folders, so that no name points outside this folder.
        if name not in self.names():
            raise RefusedError(N_("There is no data set %(name)s."), name=name[:64])
        return self._root / name

    def read(self, name: str) -> Records:
        """Return the current state of a data set.

        Raises:
            RefusedError: there is none of this name.
            DatasetError: its file is malformed.
        """
        held = self._of(name)
        with held.lock:
            return self._refreshed(name, held)

    @contextmanager
    def changing(self, name: str, *, what: str = "label", who: str = "gonogo") -> Iterator[DatasetDraft]:
        """Change a data set: the draft becomes a revision at the end of the block, unless the block raises.

        Args:
            name: The data set.
            what: See `gonogo.dataset.Revision.what`.
            who: The person, or the program.

        Raises:
            RefusedError: there is none of this name.
            InputError: the file cannot be written; nothing was changed.
        """
        held, root = self._of(name), self.root_of(name)
        with held.lock, locked(root):
            draft = DatasetDraft(self._refreshed(name, held))
            yield draft
            if len(draft.samples) != len(draft.before.samples) or any(
                draft.before.samples.get(file) is not sample for file, sample in draft.samples.items()
            ):
                before = draft.before.samples.values()
                record_change(root, draft.samples.values(), what=what, who=who, before=before)
                self._remember(name, held, draft.samples)
            draft.revision = latest(root)

    def revision_heads(self, name: str) -> tuple[Revision, ...]:
        """The latest revisions without their records, the newest first; changes by other programs are recorded first.

        Raises:
            DatasetError: The records or the list of revisions are malformed.
        """
        held, root = self._of(name), self.root_of(name)
        if held.heads_signature != _history_signature(root):
            self.read(name)
            catch_up(root)
            signature = _history_signature(root)
            held.heads, held.heads_signature = heads(root, last=MOST_REVISIONS), signature
        return held.heads

    def kinds(self, name: str) -> list[str]:
        """The defect kinds of a data set: those with number keys first, then others in use."""
        listed, used = self.listed_kinds(name), self.read(name).overview.used_kinds
        return [*listed, *(kind for kind in used if kind not in listed)]

    def listed_kinds(self, name: str) -> list[str]:
        """The defect kinds with number keys, in the order of the keys."""
        path = self.root_of(name) / KINDS
        try:
            return _KIND_LIST.validate_json(path.read_bytes()) if path.is_file() else []
        except (OSError, ValidationError) as error:
            raise InputError(f"{path}: expected a list of names ({error}). Correct or remove it.") from error

    def set_kinds(self, name: str, kinds: Iterable[str]) -> list[str]:
        """Set the defect kinds in the order of their number keys; kinds in use are kept.

        Raises:
            RefusedError: there are too many kinds, or a name is too long or not printable.
        """
        chosen = list(dict.fromkeys(kind.strip() for kind in kinds if kind.strip()))
        for kind in chosen:
            if len(kind) > LONGEST_KIND or not kind.isprintable():
                raise RefusedError(
                    N_("A kind of defect must have 1 to %(longest)s printable characters."), longest=LONGEST_KIND
                )
        if len(chosen) > MOST_KINDS:
            raise RefusedError(N_("A data set has at most %(most)s kinds of defect."), most=MOST_KINDS)
        write_beside(self.root_of(name) / KINDS, _KIND_LIST.dump_json(chosen))
        return self.kinds(name)

    def _of(self, name: str) -> _CachedDataset:
        self.root_of(name)
        with self._guard:
            return self._held.setdefault(name, _CachedDataset())

    def _refreshed(self, name: str, held: _CachedDataset) -> Records:
        """Return the records from memory, or read them again if another program changed the file."""
        if held.records is None or held.signature != _signature(self._root / name):
            found = Dataset.read(self._root / name)
            self._remember(name, held, {sample.file_name: sample for sample in found.samples})
        assert held.records is not None
        return held.records

    def _remember(self, name: str, held: _CachedDataset, samples: Mapping[str, Sample]) -> None:
        before = held.records
        # Starts at the clock, so that versions of an earlier run of the server are older than all of this run.
        version = max(time.time_ns() // 1_000_000, before.version + 1 if before else 0)
        known: Mapping[str, Sample] = before.samples if before else {}
        changed_at = {
            file: before.changed_at[file] if before and _same(known.get(file), sample) else version
            for file, sample in samples.items()
        }
        held.signature = _signature(self._root / name)
        held.records = Records(
            name=name,
            root=self._root / name,
            samples=MappingProxyType(dict(samples)),
            version=version,
            changed_at=changed_at,
        )


def _counted(name: str, samples: list[Sample]) -> Overview:
    labels = Counter(sample.label for sample in samples)
    kinds = Counter(sample.defect or "" for sample in samples if sample.label is Label.BAD)
    splits = Counter(sample.split for sample in samples)
    good = (sample.file_name for sample in samples if sample.label is not Label.BAD)
    return Overview(
        name=name,
        pictures=len(samples),
        good=labels[Label.GOOD],
        bad=labels[Label.BAD],
        without_part=sum(decided(sample) and sample.label is None for sample in samples),
        kinds=tuple(kinds.most_common()),
        used_kinds=tuple(sorted({sample.defect for sample in samples if sample.defect})),
        boxes=sum(map(is_boxed, samples)),
        masks=sum(sample.mask_file_name is not None for sample in samples),
        splits=tuple((split, splits[split]) for split in Split if splits[split]),
        first=next(good, samples[0].file_name if samples else ""),
    )


def checked_name(name: str) -> str:
    """Check the name of a data set or an inspector; it must be safe in paths and commands.

    Raises:
        RefusedError: the name is invalid.
    """
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise RefusedError(N_("A name must have 1 to 64 characters: letters a to z, digits, hyphens and underscores."))
    return name


def decided(sample: Sample) -> bool:
    """Whether the picture is labelled."""
    return sample.label is not None or sample.present is False


def kept_blind(sample: Sample) -> bool:
    """Whether a picture must not be judged before a person has labelled it, because it is to prove something."""
    return not decided(sample) and sample.split in (Split.CALIBRATE, Split.TEST)


def _same(before: Sample | None, sample: Sample) -> bool:
    return before is sample or before == sample  # most are the same object, and comparing their fields takes time


def _history_signature(root: Path) -> tuple[int, ...]:
    path = root / REVISIONS
    found = path.stat() if path.is_file() else None
    return _signature(root) + (() if found is None else (found.st_mtime_ns, found.st_size, found.st_ino))


def _signature(root: Path) -> tuple[int, ...]:
    found = (root / METADATA).stat()
    return (found.st_mtime_ns, found.st_size, found.st_ino)
