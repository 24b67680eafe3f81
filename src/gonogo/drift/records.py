"""Reads and writes the drift reference of a bundle: ``drift.json`` and ``taught.npy``, covered by its seal."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from gonogo.bundle import Bundle
from gonogo.config import Strict
from gonogo.drift.alarm import Watch
from gonogo.drift.out_of_distribution import NEIGHBOURS, OutOfDistributionCheck, ReferenceFeatures
from gonogo.errors import BundleError

DRIFT = "drift.json"
TAUGHT = "taught.npy"


@dataclass(frozen=True, kw_only=True)
class DriftReference:
    """Reference for the out-of-distribution check and the drift alarm."""

    features: ReferenceFeatures
    guard: OutOfDistributionCheck | None
    """``None`` if there is no out-of-distribution check."""
    watches: tuple[Watch, ...]
    """Empty if there is no drift alarm."""
    bad_share: float
    """Largest share of bad parts on the line without drift."""
    parts: int
    """Number of good calibration parts that the watches were fitted on."""


class _Guard(Strict):
    farthest: float = Field(allow_inf_nan=False)
    share: float = Field(gt=0, lt=1)
    parts: int = Field(gt=0)
    good_parts: int = Field(default=0, ge=0)
    false_alarms: int = Field(default=0, ge=0)


class _Watch(Strict):
    sign: Literal["score", "distance", "brightness", "sharpness"]
    above: bool
    limit: float = Field(allow_inf_nan=False)
    rate: float = Field(gt=0, lt=1)


class _Record(Strict):
    format: Literal[1] = 1
    guard: _Guard | None
    watches: tuple[_Watch, ...] = Field(strict=False)
    bad_share: float = Field(ge=0, lt=1)
    parts: int = Field(ge=0)


def to_files(reference: DriftReference) -> dict[str, bytes]:
    """Return the files to add to a bundle, by name."""
    record = _Record(
        guard=None if reference.guard is None else _Guard(**asdict(reference.guard)),
        watches=tuple(_Watch(**asdict(watch)) for watch in reference.watches),
        bad_share=reference.bad_share,
        parts=reference.parts,
    )
    vectors = io.BytesIO()
    np.save(vectors, reference.features.directions.astype(np.float16), allow_pickle=False)
    return {DRIFT: record.model_dump_json(indent=2).encode() + b"\n", TAUGHT: vectors.getvalue()}


def read_reference(bundle: Path) -> DriftReference | None:
    """Read the reference of a bundle whose seal was already checked; ``None`` if it has none.

    Raises:
        BundleError: the files are malformed.
    """
    return _read(bundle, lambda name: (bundle / name).read_bytes()) if (bundle / DRIFT).is_file() else None


def read_watches(data: bytes) -> tuple[Watch, ...]:
    """Read the limits alone, from the contents of ``drift.json``; empty if they are malformed."""
    try:
        record = _Record.model_validate_json(data)
    except ValidationError:
        return ()
    return tuple(Watch(**watch.model_dump()) for watch in record.watches)


def read_sealed_reference(opened: Bundle, folder: str = "") -> DriftReference | None:
    """Read the reference of an opened bundle, or of a folder in it, with a check against the seal.

    See `read_reference`.
    """
    prefix = f"{folder}/" if folder else ""
    if f"{prefix}{DRIFT}" not in opened.digests:
        return None
    return _read(opened.root / folder, lambda name: opened.data(f"{prefix}{name}"))


def _read(bundle: Path, data: Callable[[str], bytes]) -> DriftReference:
    try:
        record = _Record.model_validate_json(data(DRIFT))
        directions = _array(data(TAUGHT))
    except (ValidationError, OSError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise BundleError(f"{bundle}: {DRIFT} or {TAUGHT} is malformed ({what}). Run gonogo certify again.") from error
    if directions.ndim != 2 or directions.dtype != np.float16 or len(directions) < NEIGHBOURS:
        raise BundleError(
            f"{bundle / TAUGHT}: expected one float16 row per part, found {directions.dtype} {directions.shape}. "
            "Run gonogo certify again."
        )
    return DriftReference(
        features=ReferenceFeatures(directions=directions.astype(np.float32)),
        guard=None if record.guard is None else OutOfDistributionCheck(**record.guard.model_dump()),
        watches=tuple(Watch(**watch.model_dump()) for watch in record.watches),
        bad_share=record.bad_share,
        parts=record.parts,
    )


def _array(data: bytes) -> np.ndarray:
    """Read an ``.npy`` file, after checking that its header matches the size of the file.

    Raises:
        ValueError: the file is not a valid ``.npy`` file.
    """
    file = io.BytesIO(data)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("expected version 1.0 of the format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    claimed, held = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if dtype.hasobject or claimed != held:
        raise ValueError(f"expected an array of {held:,} bytes, found a header for {claimed:,}")
    file.seek(0)
    array: np.ndarray = np.load(file, allow_pickle=False)
    return array
