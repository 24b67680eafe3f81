"""Adds pictures decided in review to the train split of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gonogo import images
from gonogo.dataset import Dataset, Sample, Split, locked, record_change
from gonogo.errors import GonogoError
from gonogo.files import write_beside
from gonogo.workflow.collecting import SUFFIXES
from gonogo.workflow.made_with import sha256_of

FOLDER = "reviewed"
"""Folder in the data set for these pictures, named by their SHA-256; the server uses the same names."""


@dataclass(frozen=True, kw_only=True)
class Decided:
    """One picture and the decision of a person about its part."""

    sha256: str
    data: bytes
    sample: Sample


@dataclass(frozen=True, kw_only=True)
class Grown:
    """A data set with added pictures. The picture files are written, the records are not yet."""

    dataset: Dataset
    added: tuple[Sample, ...]
    """New or relabelled records; all in train."""
    written: tuple[Path, ...]
    """Picture files that were written."""
    there: int
    """Number of pictures that the data set already has with the same label."""
    held_back: int
    """Number of pictures of parts used to certify or test: training on them would invalidate the certificate."""
    gone: int
    """Number of decided pictures that were deleted by retention."""
    seen: Mapping[str, Sample]
    """The records before, by file name."""

    def keep(self) -> None:
        """Write the records; other concurrent changes are kept."""
        if not self.added:
            return
        with locked(self.dataset.root):
            now = Dataset.read(self.dataset.root)
            fresh = {sample.file_name: sample for sample in self.added}
            # A picture that a person labelled since keeps that label.
            known = [
                fresh.pop(sample.file_name, sample) if self.seen.get(sample.file_name) == sample else sample
                for sample in now.samples
            ]
            names = {sample.file_name for sample in known}
            new = (sample for name, sample in fresh.items() if name not in names)
            record_change(now.root, (*known, *new), what="review", before=now.samples)

    def discard(self) -> None:
        """Delete the added pictures."""
        for path in self.written:
            path.unlink(missing_ok=True)


def grow(dataset: Dataset, ledger: Path) -> Grown:
    """Add the decided pictures of a ledger to the train split.

    Parts are reviewed because they are doubtful or because a rule selects them, so they are not a random sample of the
    line and cannot be used to certify or test. Pictures of parts in val, calibrate or test are held back.

    Raises:
        LedgerError: the ledger cannot be opened.
        MissingExtraError: the package that reads ledgers is not installed.
    """
    decided, gone = _decided(ledger)
    proving = [sample for sample in dataset.samples if sample.split not in (None, Split.TRAIN)]
    parts = {sample.part for sample in proving if sample.part is not None}
    digests = {sha256_of(dataset.path(sample)): sample for sample in dataset.samples if dataset.path(sample).is_file()}
    added, written, there, held_back = dict[str, Sample](), list[Path](), 0, 0
    for each in decided:
        known = digests.get(each.sha256)
        if each.sample.part in parts or (known is not None and known.split not in (None, Split.TRAIN)):
            held_back += 1
        elif known is not None and (known.split, known.label) == (Split.TRAIN, each.sample.label):
            there += 1
        elif known is not None:
            update = {"label": each.sample.label, "defect": each.sample.defect, "split": Split.TRAIN}
            added[known.file_name] = known.model_copy(update=update)
        else:
            path = dataset.path(each.sample)
            if not path.is_file():
                path.parent.mkdir(exist_ok=True)
                write_beside(path, each.data)
                written.append(path)
            added[each.sample.file_name] = each.sample
    kept = [added.get(sample.file_name, sample) for sample in dataset.samples]
    names = {sample.file_name for sample in dataset.samples}
    return Grown(
        dataset=replace(dataset, samples=(*kept, *(s for name, s in added.items() if name not in names))),
        added=tuple(added.values()),
        written=tuple(written),
        there=there,
        held_back=held_back,
        gone=gone,
        seen={sample.file_name: sample for sample in dataset.samples},
    )


def _decided(path: Path) -> tuple[list[Decided], int]:
    """Every decided picture with its latest decision, and the number of deleted pictures."""
    from gonogo.ledger import REVIEW, Ledger, VerdictRecord, Where  # apsw, of the extra line

    found, gone = dict[str, Decided](), 0
    with Ledger.open(path, create=False, read_only=True) as ledger:
        for row in ledger.actions(Where(action=REVIEW, latest=True)):
            decision = row.record
            verdict = None if decision.about is None or decision.label is None else ledger.row(decision.about)
            if verdict is None or not isinstance(verdict.record, VerdictRecord):
                continue  # the decision was withdrawn
            judged = verdict.record
            for view in judged.views:
                if view.frame_sha256 is None:
                    continue
                try:
                    data = ledger.frames.read(view.frame_sha256)
                    suffix = SUFFIXES[images.read_header(data).format]
                except (GonogoError, KeyError):
                    gone += 1
                    continue
                record = {
                    "file_name": f"{FOLDER}/{view.frame_sha256}{suffix}",
                    "label": decision.label,
                    "defect": decision.defect,
                    "part": judged.part or f"{judged.station} {judged.trigger_id}",
                    "lot": judged.lot,
                    "split": Split.TRAIN,
                    "decision_row": row.seq,
                    "labelled_by": decision.who,
                }
                sample = Sample.model_validate(record)
                found[view.frame_sha256] = Decided(sha256=view.frame_sha256, data=data, sample=sample)
    return list(found.values()), gone


def new_or_relabelled(dataset: Dataset, known: dict[str, str]) -> Iterator[Sample]:
    """Train and val pictures that are new or relabelled, given the earlier label of each digest."""
    for sample in dataset.split(Split.TRAIN, Split.VAL):
        if sample.label is not None and known.get(sha256_of(dataset.path(sample))) != sample.label.value:
            yield sample
