"""Records the pictures an inspector was made with, by SHA-256, so that later comparisons can exclude them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from gonogo import images
from gonogo.bundle import Bundle
from gonogo.config import Strict
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import BundleError, InputError
from gonogo.files import write_beside
from gonogo.schema import Label

MADE_WITH = "made_with.json"


class Used(Strict):
    """One labelled picture that the inspector was trained or certified on."""

    sha256: str
    part: str | None
    """``None`` if the part has no name."""
    label: Label = Field(strict=False)
    split: Split = Field(strict=False)
    score: float | None = Field(default=None, allow_inf_nan=False)
    """Out-of-fold score; ``None`` for calibrate pictures and if there is none."""


class MadeWith(Strict):
    """Contents of ``made_with.json``."""

    format: Literal[1] = 1
    pictures: tuple[Used, ...] = Field(strict=False)

    @cached_property
    def by_digest(self) -> Mapping[str, Used]:
        """The pictures by the SHA-256 of their files."""
        return {each.sha256: each for each in self.pictures}

    @cached_property
    def parts(self) -> frozenset[str]:
        """Names of the parts that have one."""
        return frozenset(each.part for each in self.pictures if each.part is not None)

    def includes(self, sample: Sample, sha256: str) -> bool:
        """Whether the inspector was made with this picture, under any name, or with another picture of the part."""
        return sha256 in self.by_digest or (sample.part is not None and sample.part in self.parts)


def write_made_with(folder: Path, dataset: Dataset, left_out: Mapping[str, float]) -> None:
    """Record the labelled pictures of train, val and calibrate.

    Args:
        folder: Folder of the new bundle.
        dataset: The data set it is made with.
        left_out: Out-of-fold scores by file name.
    """
    used = [
        Used(
            sha256=sha256_of(dataset.path(sample)),
            part=sample.part,
            label=sample.label,
            split=sample.split,
            score=left_out.get(sample.file_name),
        ).model_dump(mode="json")
        for sample in dataset.split(Split.TRAIN, Split.VAL, Split.CALIBRATE)
        if sample.label is not None and sample.split is not None
    ]
    record = {"format": 1, "pictures": used}
    write_beside(folder / MADE_WITH, json.dumps(record, allow_nan=False, indent=0).encode() + b"\n")


def read_made_with(opened: Bundle) -> MadeWith:
    """Read which pictures a bundle was made with.

    Raises:
        InputError: the bundle has no such record.
        BundleError: the file is malformed.
    """
    if MADE_WITH not in opened.digests:
        raise InputError(
            f"{opened.root}: expected {MADE_WITH} with the pictures the inspector was made with, found none. The "
            "bundle was made by an earlier version of gonogo, or not by gonogo train. Train again: gonogo train"
        )
    try:
        return MadeWith.model_validate_json(opened.data(MADE_WITH))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{opened.root / MADE_WITH}: malformed ({where}: {first['msg']}). Train again.") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a picture file.

    Raises:
        ImageError: the file cannot be read.
    """
    return hashlib.sha256(images.read_bytes(path)).hexdigest()
