"""Pictures from the line: why each was collected, and which splits it may enter.

A picture that a rule selected (no-go, review, near a threshold) is no random sample of the parts to come, so it may
only enter train. A part of a designated random sample may enter any split.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, ValidationError

from gonogo.dataset.records import Dataset, Sample, Split
from gonogo.errors import DatasetError

COLUMN = "collected"
"""Column of ``metadata.jsonl``."""
FOLDER = "collected"
"""Folder in the data set; pictures are named by their SHA-256."""


class Why(StrEnum):
    """Rule by which a picture was collected, the least valuable first."""

    GO = "go"
    """A go that was drawn at random."""
    NEAR = "near"
    """A score near a threshold."""
    NO_GO = "no_go"
    REVIEW = "review"
    SAMPLE = "sample"
    """Part of a designated random sample of all parts; see `gonogo.certification.sampling`."""


class Collected(BaseModel):
    """Where a picture came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    why: Why
    station: str
    row: int
    """Number of the verdict's row in the ledger."""
    row_sha256: str
    at: str
    """Time of the verdict, UTC, ISO 8601."""
    bundle_sha256: str | None = None
    state: str | None = None
    """The verdict; ``None`` for a designated sample, whose people must not see it."""
    score: float | None = None
    sample: str | None = None
    """Name of the designated random sample."""


def provenance(sample: Sample) -> Collected | None:
    """Return where a collected picture came from; ``None`` for any other picture.

    Raises:
        DatasetError: The column is malformed.
    """
    found = (sample.model_extra or {}).get(COLUMN)
    if found is None:
        return None
    try:
        return Collected.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (COLUMN, *first["loc"])))
        raise DatasetError(f"{sample.file_name}: {where}: {first['msg']}. Correct the record.") from error


def train_only(sample: Sample) -> bool:
    """Whether a picture was selected by a rule, so that it proves nothing about the parts to come."""
    found = provenance(sample)
    return found is not None and found.why is not Why.SAMPLE


def misplaced(samples: Sequence[Sample]) -> list[str]:
    """Describe the collected pictures that are in another split than train, one sentence each."""
    placed = ((sample, provenance(sample)) for sample in samples if sample.split not in (None, Split.TRAIN))
    return [
        f"{sample.file_name} is in {sample.split}, but was collected by a rule ({found.why}): it is no random sample "
        "of the line and may only be in train. Split again: gonogo dataset split"
        for sample, found in placed
        if found is not None and found.why is not Why.SAMPLE
    ]


def refuse_collected(dataset: Dataset) -> None:
    """Raise if a picture that a rule selected would certify or test.

    Raises:
        DatasetError: There is one; the message names it and why it was collected.
    """
    found = misplaced(dataset.samples)
    if found:
        more = f" ({len(found)} such pictures.)" if len(found) > 1 else ""
        raise DatasetError(f"{dataset.root}: {found[0]}{more}")
