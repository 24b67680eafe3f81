"""What a bundle keeps for the guard and the alarm: ``drift.json`` and ``taught.npy``, under the bundle's seal."""

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
    """What later parts are compared with."""

    features: ReferenceFeatures
    guard: OutOfDistributionCheck | None
    """``None``: no single part is sent to a person for being unlike everything taught."""
    watches: tuple[Watch, ...]
    """Empty: no drift alarm."""
    bad_share: float
    """Most bad parts that arrive while nothing has changed."""
    parts: int
    """Good calibration parts that the watches rest on."""


class _Guard(Strict):
    farthest: float = Field(allow_inf_nan=False)
    share: float = Field(gt=0, lt=1)
    parts: int = Field(gt=0)


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
    """The files to put into a bundle, by name."""
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
    """Read a bundle's reference; ``None`` where it has none. The bundle's seal was checked before.

    Raises:
        BundleError: the files are malformed.
    """
    return _read(bundle, lambda name: (bundle / name).read_bytes()) if (bundle / DRIFT).is_file() else None


def read_sealed_reference(opened: Bundle, folder: str = "") -> DriftReference | None:
    """Read the reference of an opened bundle, or of a folder in it, from bytes that match its seal.

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
            f"{bundle / TAUGHT}: expected a float16 row per taught part, found {directions.dtype} {directions.shape}. "
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
    """The array in an ``.npy`` file; one whose header claims another size than the file has is refused before that.

    Raises:
        ValueError: no such file.
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
