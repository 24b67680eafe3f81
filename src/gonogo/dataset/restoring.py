"""Brings an earlier revision of a data set back, removes records, and deletes pictures that nothing names any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gonogo.dataset.chain import Revision
from gonogo.dataset.collected import provenance
from gonogo.dataset.history import (
    PRUNE,
    catch_up,
    file_sha256,
    files_of,
    record_change,
    records_at,
    revisions,
)
from gonogo.dataset.records import Dataset, Sample, locked
from gonogo.errors import DatasetError
from gonogo.progress import track

_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Restored:
    """Result of restoring a revision."""

    revision: Revision
    """The new revision, or the last one if the records were equal already."""
    left_out: tuple[str, ...]
    """Pictures that are gone, and whose records were not restored."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """Result of deleting files that no kept revision names."""

    files: tuple[str, ...]
    freed_bytes: int


def restore_revision(root: Path, number: int, *, who: str | None = None, without_missing: bool = False) -> Restored:
    """Make a new revision that equals an earlier one.

    Unlabelled pictures that were collected from a line and dropped for their disk budget are always left out.

    Args:
        root: The data set's folder.
        number: The earlier revision.
        who: The person; default: the user of this process.
        without_missing: Leave out records whose picture or mask was pruned, instead of refusing.

    Raises:
        DatasetError: There is no such revision, or pictures of it are gone; nothing was changed.
    """
    with locked(root):
        Dataset.read(root)  # a malformed file must not be replaced silently
        wanted = records_at(root, number)
        gone = {
            name
            for name in track(sorted(files_of(wanted.records.values())), "Checking pictures")
            if (found := file_sha256(root / name)) is None or found != wanted.files.get(name, found)
        }
        samples = wanted.samples()
        lacking = [sample for sample in samples if gone & files_of([sample.model_dump(mode="json")])]
        missing = [s.file_name for s in lacking if not (without_missing or _only_collected(s))]
        if missing:
            raise DatasetError(
                f"{root}: {len(missing)} pictures of revision {number} were pruned or replaced: "
                f"{_listed(missing)}. Copy them back, or restore the others with --without-missing."
            )
        left_out = {sample.file_name for sample in lacking}
        kept = [sample for sample in samples if sample.file_name not in left_out]
        made = record_change(root, kept, what="restore", who=who, details={"revision": number})
    assert made is not None, "there is at least the restored revision"
    return Restored(revision=made, left_out=tuple(sorted(left_out)))


def remove_pictures(root: Path, names: Sequence[str], *, who: str | None = None) -> Revision | None:
    """Remove records; the pictures stay until `prune`, so that the revision before can be restored.

    Raises:
        DatasetError: A picture is not in the data set; nothing was changed.
    """
    with locked(root):
        now = Dataset.read(root)
        unknown = sorted(set(names) - {sample.file_name for sample in now.samples})
        if unknown:
            raise DatasetError(
                f"{root}: expected file names as in metadata.jsonl, found {_listed(unknown)}. Nothing was removed."
            )
        kept = [sample for sample in now.samples if sample.file_name not in set(names)]
        return record_change(root, kept, what="remove", who=who, before=now.samples)


def prune(root: Path, *, keep: int, who: str | None = None, dry_run: bool = False) -> Pruned:
    """Delete pictures and masks that only old revisions name, and record it.

    Files that no revision ever named are left alone.

    Args:
        root: The data set's folder.
        keep: Number of latest revisions whose files stay.
        who: The person; default: the user of this process.
        dry_run: Delete nothing.

    Raises:
        DatasetError: The data set is malformed, or ``keep`` is below 1.
    """
    if keep < 1:
        raise DatasetError(f"--keep: expected at least 1 revision, found {keep}.")
    catch_up(root)
    with locked(root):
        now = Dataset.read(root)
        listed = revisions(root)
        ever: set[str] = set()
        for revision in listed:
            ever |= files_of(revision.changed)
        used = files_of(sample.model_dump(mode="json") for sample in now.samples)
        state = records_at(root, max(1, len(listed) - keep + 1)) if listed else None
        used |= set() if state is None else files_of(state.records.values())
        for revision in listed[len(listed) - keep + 1 :]:
            used |= files_of(revision.changed)
        going = sorted(name for name in ever - used if (root / name).is_file())
        freed = sum((root / name).stat().st_size for name in going)
        if going and not dry_run:
            # First the record: a process that is killed leaves files, never a revision that hides their loss.
            details = {"files": len(going), "bytes": freed, "keep": keep}
            record_change(root, now.samples, what=PRUNE, who=who, details=details, before=now.samples)
            for name in going:
                (root / name).unlink(missing_ok=True)
    return Pruned(files=tuple(going), freed_bytes=freed)


def _only_collected(sample: Sample) -> bool:
    return sample.label is None and provenance(sample) is not None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
