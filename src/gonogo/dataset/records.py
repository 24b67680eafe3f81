"""The records of a data set (label, split, part, box, mask), and the file that stores them.

A data set is a folder of pictures plus ``metadata.jsonl`` in the Hugging Face imagefolder convention, so that
``datasets.load_dataset("imagefolder", data_dir=...)`` reads it too: ``file_name`` becomes its ``image`` column and
``mask_file_name`` its ``mask`` column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from gonogo import images, locks
from gonogo.config import Depth
from gonogo.errors import DatasetError
from gonogo.files import MOST_TEXT_BYTES, parse_json, read_regular, read_text, write_beside
from gonogo.schema import Box, Frame, Label, Mask

METADATA = "metadata.jsonl"
LEVELS = "levels.json"
"""File with the levels of 16-bit pictures, see `gonogo.config.Depth`."""
_LOCK = ".lock"

Pixels = Annotated[float, Field(allow_inf_nan=False)]


class Split(StrEnum):
    """Purpose of a picture. Thresholds are certified on ``CALIBRATE`` alone, claims are checked on ``TEST``."""

    TRAIN = "train"
    VAL = "val"
    CALIBRATE = "calibrate"
    TEST = "test"


class Sample(BaseModel):
    """One picture of a data set: one line of ``metadata.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    file_name: str
    """Path relative to the data set's folder, with forward slashes."""
    label: Label | None = None
    """``None`` if nobody has labelled the part yet."""
    defect: str | None = None
    """Defect kind of a bad part."""
    part: str | None = None
    """Identity of the physical item; pictures of one part count once. For ``None``, see ``part_id``."""
    lot: str | None = None
    camera: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,40}$")
    """Name of the camera, if several look at the part: as in ``[[cameras]]`` of the station."""
    mask_file_name: str | None = None
    box_xyxy: tuple[Pixels, Pixels, Pixels, Pixels] | None = None
    """Region of interest in frame pixels."""
    quad: tuple[tuple[Pixels, Pixels], ...] | None = None
    """Corners of a rotated region, clockwise from the part's top left, in frame pixels."""
    present: bool | None = None
    """``False`` if the picture does not show exactly one whole part; a learned region is trained to refuse these."""
    split: Split | None = None
    group: int | None = None
    """Near-duplicate group: pictures of one data set with the same number show the same part."""

    @field_validator("file_name", "mask_file_name")
    @classmethod
    def _stays_inside(cls, value: str | None) -> str | None:
        if value is not None and (not value or value.startswith("/") or "\\" in value or ".." in value.split("/")):
            raise ValueError(f"expected a path inside the data set with forward slashes, found {value!r}")
        return value

    @field_validator("quad")
    @classmethod
    def _has_four_corners(cls, value: tuple[tuple[float, float], ...] | None) -> tuple[tuple[float, float], ...] | None:
        if value is not None and len(value) != 4:
            raise ValueError(f"expected four corners, found {len(value)}")
        return value

    @model_validator(mode="after")
    def _names_the_part_that_a_camera_saw(self) -> Sample:
        if self.camera is not None and self.part is None:
            raise ValueError(
                f"expected a part beside the camera {self.camera}, because the pictures of several cameras belong "
                "together by their part, found none (--part-regex)"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_an_unnamed_camera(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the camera where there is none: records and fingerprints stay those of earlier versions."""
        found: dict[str, Any] = write(self)
        return {name: value for name, value in found.items() if name != "camera" or value is not None}

    @property
    def part_id(self) -> str:
        """Identity of the part: its name, otherwise the near-duplicate group, otherwise the file name.

        Pictures of one part are not independent, so counting them separately would overstate the evidence.
        """
        if self.part is not None:
            return self.part
        return self.file_name if self.group is None else f"group {self.group}"

    @property
    def box(self) -> Box | None:
        """The labelled region of interest."""
        return None if self.box_xyxy is None else Box.from_xyxy(self.box_xyxy)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder of labelled pictures. Holds the records only; pictures are read on demand."""

    root: Path
    samples: tuple[Sample, ...]
    depth: Depth | None = None
    """Levels of its 16-bit pictures; ``None`` for pictures of 8 bits."""
    study: bool = False
    """Whether this is a temporary study, whose judged pictures are not recorded (see `record_judged`)."""
    metadata_sha256: str = field(default="", compare=False, repr=False)
    """SHA-256 of the file that the records were read from; empty if they were not read. It names their revision."""

    @classmethod
    def read(cls, root: str | Path) -> Dataset:
        """Read ``metadata.jsonl`` of a data set folder.

        Raises:
            DatasetError: The folder or ``metadata.jsonl`` is missing, a line is malformed, or a picture repeats.
        """
        root = Path(root)
        path = root / METADATA
        if not path.is_file():
            raise DatasetError(
                f"{root}: expected a data set folder with {METADATA}, found "
                f"{'no such file in it' if root.is_dir() else 'no such folder'}. "
                "Make one with: gonogo dataset import SRC --out DATASET"
            )
        content = _read_bytes(path)
        lines = enumerate(_text_lines(content, path), start=1)
        samples = tuple(_parse(line, path, number) for number, line in lines if line.strip())
        names = [sample.file_name for sample in samples]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DatasetError(f"{path}: {twice} is listed more than once. Keep one line per picture.")
        metadata_sha256 = hashlib.sha256(content).hexdigest()
        return cls(root=root, samples=samples, depth=read_levels(root), metadata_sha256=metadata_sha256)

    def write(self) -> None:
        """Write ``metadata.jsonl`` of a new data set; `gonogo.dataset.record_change` changes an existing one."""
        write_metadata(self.root, self.samples)

    def split(self, *splits: Split) -> tuple[Sample, ...]:
        """Return the samples of some splits, in file order."""
        return tuple(sample for sample in self.samples if sample.split in splits)

    def without_part(self, *, training: bool) -> tuple[Sample, ...]:
        """Return half of the pictures that do not show exactly one whole part.

        They are never judged and have no split. A learned region is trained to refuse every second one, starting with
        the first, and is tested on the others.
        """
        shown = [sample for sample in self.samples if sample.present is False]
        return tuple(shown[::2] if training else shown[1::2])

    def path(self, sample: Sample) -> Path:
        """Path of a sample's picture."""
        return self.root / sample.file_name

    def load(self, sample: Sample) -> Frame:
        """Decode a sample's picture.

        Raises:
            ImageError: The file is missing or cannot be decoded.
        """
        return images.load_picture(self.path(sample), depth=self.depth)

    def load_mask(self, sample: Sample, shape_hw: tuple[int, int]) -> Mask | None:
        """Decode a sample's defect mask; ``None`` if it has none.

        Raises:
            ImageError: The mask is unreadable, or its size differs from the picture's.
        """
        if sample.mask_file_name is None:
            return None
        return images.load_mask(self.root / sample.mask_file_name, shape_hw=shape_hw)


def read_levels(root: Path) -> Depth | None:
    """Read the levels of a data set's 16-bit pictures; ``None`` if it has none.

    Raises:
        DatasetError: the file is damaged.
    """
    path = root / LEVELS
    try:
        return Depth.model_validate_json(read_text(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DatasetError(
            f'{path}: expected {{"black": ..., "white": ...}}, found a file that cannot be read ({error}). Set the '
            f"levels again: gonogo dataset levels {root}"
        ) from error


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Lock a data set's records for a read-modify-write cycle.

    Blocks while another process holds the lock. The lock is released when the block or the process ends.
    """
    with (root / _LOCK).open("ab") as file:
        locks.lock(file)
        yield


def write_metadata(root: Path, samples: Iterable[Sample]) -> None:
    """Write the records of a new data set or of a copy; `gonogo.dataset.record_change` changes an existing one."""
    write_beside(root / METADATA, metadata_bytes(samples))


def metadata_bytes(samples: Iterable[Sample]) -> bytes:
    """The content of ``metadata.jsonl``: one JSON object per line, with keys in the declared order."""
    return "".join(f"{sample.model_dump_json()}\n" for sample in samples).encode()


def fingerprint(dataset: Dataset, samples: Sequence[Sample]) -> str:
    """SHA-256 over the records and picture bytes of some samples, and over the levels; independent of their order."""
    digests = [] if dataset.depth is None else [hashlib.sha256(dataset.depth.model_dump_json().encode()).hexdigest()]
    for sample in samples:
        record = sample.model_dump_json().encode()
        digests.append(hashlib.sha256(record + b"\0" + images.read_bytes(dataset.path(sample))).hexdigest())
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def read_json_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text file.

    Raises:
        DatasetError: The file is unreadable, or not UTF-8.
    """
    return _text_lines(_read_bytes(path), path)


def _read_bytes(path: Path) -> bytes:
    try:
        return read_regular(path, most_bytes=MOST_TEXT_BYTES)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error}). Check the file.") from error


def _text_lines(content: bytes, path: Path) -> list[str]:
    try:
        return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: expected UTF-8 text, found byte {error.object[error.start]:#04x}.") from error


def _parse(line: str, path: Path, number: int) -> Sample:
    try:
        return Sample.model_validate(parse_json(line))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DatasetError(f"{path}, line {number}: {where}: {first['msg']}. Correct the line.") from error
    except ValueError as error:
        raise DatasetError(f"{path}, line {number}: expected a JSON object ({error}). Correct the line.") from error
