"""The revisions of a data set: a hash-chained list of what every change did to the records.

The list is ``revisions.jsonl`` beside the records. A revision names the changed and the removed records, the SHA-256 of
every picture and mask that is new, and the SHA-256 of ``metadata.jsonl`` after the change. So it costs as much as what
it changes, and no picture is copied. Pictures stay where they are when their records are removed, until
`gonogo.dataset.restoring.prune` deletes them.

A revision is appended before ``metadata.jsonl`` is replaced. A process that is killed between the two leaves the
records as they were, and the next change first adds a revision that says so. Another one is added where another program
edited the file.
"""

from __future__ import annotations

import getpass
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from gonogo.dataset.chain import (
    NO_HASH,
    Revision,
    appended,
    identity,
    latest_first,
    oldest_first,
    parse,
    parse_head,
    sealed_line,
)
from gonogo.dataset.changes import Changes, changes_between
from gonogo.dataset.records import METADATA, Dataset, Sample, locked, metadata_bytes
from gonogo.errors import DatasetError
from gonogo.files import MOST_TEXT_BYTES, parse_json, read_regular, write_beside
from gonogo.progress import track

SNAPSHOT_OF = "revision.json"
"""File in a copy of the records, as a training run of the server makes one: the revision that the copy shows."""
FOUND, OUTSIDE, INTERRUPTED, PRUNE = "found", "outside", "interrupted", "prune"
_MANY = 200
"""From this number of files on, hashing shows its progress."""
_NO_RECORDS: Mapping[str, Any] = {"changed": (), "removed": (), "files": {}, "order": None}


@dataclass
class RecordsAt:
    """The records at one revision."""

    records: dict[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    """Records by file name, in file order."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every picture and mask that was named up to this revision, as far as it is known."""

    def apply(self, revision: Revision) -> None:
        """Go one revision forward."""
        for name in revision.removed:
            self.records.pop(name, None)
        self.records.update((str(record["file_name"]), record) for record in revision.changed)
        if revision.order is not None:
            self.records = {name: self.records[name] for name in revision.order}
        self.files.update(revision.files)

    def samples(self) -> tuple[Sample, ...]:
        """The records as samples."""
        return tuple(Sample.model_validate(record) for record in self.records.values())


def revisions(root: Path, *, last: int | None = None) -> tuple[Revision, ...]:
    """Return the revisions of a data set, the oldest first; empty if nothing was recorded yet.

    Args:
        root: The data set's folder.
        last: Only this many of the latest.

    Raises:
        DatasetError: The list is malformed.
    """
    lines = oldest_first(root) if last is None else reversed([*islice(latest_first(root), last)])
    return tuple(parse(line, root) for line in lines)


def latest(root: Path) -> Revision | None:
    """Return the last revision without its records; ``None`` if there is none."""
    line = next(latest_first(root), None)
    return None if line is None else parse_head(line, root)


def heads(root: Path, *, last: int) -> tuple[Revision, ...]:
    """Return the latest revisions, the newest first, without their records: a list costs little, whatever they hold."""
    return tuple(parse_head(line, root) for line in islice(latest_first(root), last))


def revision_of(dataset: Dataset) -> Revision | None:
    """Return the revision whose records a data set holds; ``None`` if they were not read, or not recorded."""
    snapshot = dataset.root / SNAPSHOT_OF
    if snapshot.is_file():
        return parse(snapshot.read_bytes(), snapshot)
    if not dataset.metadata_sha256:
        return None
    parsed = (parse(line, dataset.root) for line in latest_first(dataset.root))
    return next((each for each in parsed if each.state == dataset.metadata_sha256), None)


def name_snapshot(folder: Path, revision: Revision, *, dataset: str) -> None:
    """Write into a copy of the records which revision of which data set it shows."""
    details = {**revision.details, "dataset": dataset}
    shown = revision.model_copy(update={**_NO_RECORDS, "details": details})
    write_beside(folder / SNAPSHOT_OF, shown.model_dump_json().encode() + b"\n")


def records_at(root: Path, number: int) -> RecordsAt:
    """Return the records as they were at a revision.

    Raises:
        DatasetError: There is no such revision, or the list is malformed.
    """
    found, reached = RecordsAt(), 0
    for line in oldest_first(root):
        if reached == number:
            break
        revision = parse(line, root)
        found.apply(revision)
        reached = revision.number
    if reached != number or number < 1:
        raise DatasetError(f"{root}: expected a revision from 1 to {reached}, found {number}.")
    return found


def compare(root: Path, first: int, second: int) -> Changes:
    """Say what differs between two revisions, from the first to the second.

    Raises:
        DatasetError: There is no such revision.
    """
    old, new = records_at(root, first), records_at(root, second)
    return changes_between(old.records, new.records, files_before=old.files, files_after=new.files)


def catch_up(root: Path) -> Revision | None:
    """Record the present records as a revision if they are not one; return the last revision.

    ``None`` if there is no revision and none can be written, because the data set is read-only or empty.

    Raises:
        DatasetError: The data set is malformed.
    """
    if not os.access(root, os.W_OK):
        return latest(root)
    try:
        # Hashing the pictures of a large data set takes minutes, in which others can go on labelling.
        ready = {} if latest(root) is not None else _hashed(root, files_of(_json(each) for each in _present(root)))
        with locked(root):
            return _caught_up(root, _digest(root), known=ready)
    except OSError as error:
        raise DatasetError(f"{root}: cannot be written ({error.strerror or error}). Check the folder.") from error


def record_change(
    root: Path,
    samples: Iterable[Sample],
    *,
    what: str,
    who: str | None = None,
    details: Mapping[str, JsonValue] | None = None,
    before: Iterable[Sample] | None = None,
) -> Revision | None:
    """Replace the records of a data set, as a new revision. The caller holds `gonogo.dataset.locked`.

    Either both the revision and the records are written, or neither is. Equal records make no revision.

    Args:
        root: The data set's folder.
        samples: All records after the change.
        what: See `Revision.what`.
        who: The person; default: the user of this process.
        details: Facts about the change, for the list.
        before: The records in the file, if the caller has just read them.

    Returns:
        The revision; the last one if nothing changed.

    Raises:
        InputError: The records in the file are malformed, the disk is full or the folder is read-only; nothing was
            changed.
    """
    after = tuple(samples)
    content, here = metadata_bytes(after), _digest(root)
    # A page saves a label in between: the pictures of a data set without revisions are hashed at the next command.
    last = _caught_up(root, here, known={} if before is None else None)
    state = hashlib.sha256(content).hexdigest()
    if state == here and what != PRUNE:
        return last
    old = {sample.file_name: sample for sample in (_present(root) if before is None else before)}
    body = _body(root, last, old, after, what=what, who=who, details=details, known={}) | {"state": state}
    line = sealed_line(body)
    with appended(root, line):
        write_beside(root / METADATA, content)
    return parse(line, root)


def verify_chain(root: Path) -> list[str]:
    """Check the hashes of the list; return what does not fit, one sentence each."""
    faults, previous = [], NO_HASH
    for number, line in enumerate(oldest_first(root), start=1):
        revision = parse(line, root)
        if (revision.number, revision.previous, revision.sha256) != (number, previous, identity(parse_json(line))):
            faults.append(f"revision {number}: was changed after it was written.")
        previous = revision.sha256
    return faults


def verify_files(root: Path, at: RecordsAt) -> list[str]:
    """Compare the pictures and masks of a revision with their hashes; return what does not fit, one sentence each."""
    faults = []
    for name in track(sorted(files_of(at.records.values())), "Reading pictures"):
        found = file_sha256(root / name)
        if found is None:
            faults.append(f"{name}: is missing.")
        elif at.files.get(name, found) != found:
            faults.append(f"{name}: was replaced after it came into the data set.")
    return faults


def files_of(records: Iterable[Mapping[str, JsonValue]]) -> set[str]:
    """The pictures and masks that some records name; a mask that a drawing replaced is kept for its return."""
    keys = ("file_name", "mask_file_name", "mask_before")
    return {str(record[key]) for record in records for key in keys if record.get(key)}


def file_sha256(path: Path) -> str | None:
    """SHA-256 of a file; ``None`` if it is missing or unreadable."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _caught_up(root: Path, here: str, *, known: Mapping[str, str] | None) -> Revision | None:
    """Add a revision for records that no revision describes; return the last revision.

    Args:
        root: The data set's folder, locked.
        here: SHA-256 of the present ``metadata.jsonl``; empty if there is none.
        known: Hashes of files, as far as they are known; ``None`` to hash none if this is the first revision, which can
            take minutes.
    """
    last = latest(root)
    if not here or (last is not None and last.state == here):
        return last
    now = _present(root)
    if last is None and not now:
        return None
    before = {} if last is None else {each.file_name: each for each in records_at(root, last.number).samples()}
    back = last is not None and last.number > 1 and heads(root, last=2)[-1].state == here
    what = FOUND if last is None else INTERRUPTED if back else OUTSIDE
    if last is not None:
        known = known or {}
    body = _body(root, last, before, now, what=what, who="", details=None, known=known)
    line = sealed_line(body | {"state": here})
    with appended(root, line):
        pass
    return parse(line, root)


def _body(
    root: Path,
    last: Revision | None,
    before: Mapping[str, Sample],
    after: Sequence[Sample],
    *,
    what: str,
    who: str | None,
    details: Mapping[str, JsonValue] | None,
    known: Mapping[str, str] | None,
) -> dict[str, Any]:
    """The fields of a new revision but its hash and its state."""
    new = {sample.file_name: sample for sample in after}
    changed = {name: each for name, each in new.items() if before.get(name) is not each and before.get(name) != each}
    removed = [name for name in before if name not in new]
    natural = [name for name in before if name in new] + [name for name in new if name not in before]
    was = {name: _json(before[name]) for name in (*changed, *removed) if name in before}
    now = {name: _json(sample) for name, sample in changed.items()}
    return {
        "number": 1 if last is None else last.number + 1,
        "previous": NO_HASH if last is None else last.sha256,
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "who": user() if who is None else who,
        "what": what,
        "details": dict(details or {}),
        "pictures": len(new),
        "counts": changes_between(was, now).counts(),
        "changed": [*now.values()],
        "removed": removed,
        "files": {} if known is None else _hashed(root, files_of(now.values()) - files_of(was.values()), known),
        "order": None if natural == [*new] else [*new],
    }


def _json(sample: Sample) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = sample.model_dump(mode="json")
    return found


def _hashed(root: Path, names: set[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    ready = known or {}
    missing = sorted(names - ready.keys())
    shown = track(missing, "Hashing pictures") if len(missing) >= _MANY else missing
    new = {name: digest for name in shown if (digest := file_sha256(root / name)) is not None}
    return {name: digest for name, digest in ready.items() if name in names} | new


def _present(root: Path) -> tuple[Sample, ...]:
    return Dataset.read(root).samples if (root / METADATA).is_file() else ()


def _digest(root: Path) -> str:
    try:
        return hashlib.sha256(read_regular(root / METADATA, most_bytes=MOST_TEXT_BYTES)).hexdigest()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise DatasetError(f"{root / METADATA}: cannot be read ({error.strerror or error}). Check the file.") from error


def user() -> str:
    """Name of the user of this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
