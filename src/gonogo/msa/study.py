"""Reads an attribute agreement study: one decision per appraiser, trial and part."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from gonogo.array_types import Bool, Float64, Int64
from gonogo.errors import InputError
from gonogo.files import MOST_TEXT_BYTES, read_regular

REQUIRED = ("appraiser", "trial", "part", "decision", "reference")
OPTIONAL = ("reference_value", "picture_sha256", "picture")


class StudyDecision(IntEnum):
    """Decision of an appraiser. ``REVIEW`` is neither a miss nor a false alarm, but not a correct answer either."""

    GOOD = 0
    BAD = 1
    REVIEW = 2


_DECISIONS = {
    "good": StudyDecision.GOOD,
    "go": StudyDecision.GOOD,
    "bad": StudyDecision.BAD,
    "no_go": StudyDecision.BAD,
    "review": StudyDecision.REVIEW,
}
_REFERENCES = {"good": StudyDecision.GOOD, "bad": StudyDecision.BAD}


@dataclass(frozen=True, kw_only=True)
class Study:
    """A complete crossed study: every appraiser judged every part in every trial."""

    appraisers: tuple[str, ...]
    trials: tuple[str, ...]
    parts: tuple[str, ...]
    decisions: Int64[np.ndarray, "appraisers trials parts"]
    """`StudyDecision` values."""
    reference: Int64[np.ndarray, " parts"]
    """``StudyDecision.GOOD`` or ``StudyDecision.BAD``."""
    reference_value: Float64[np.ndarray, " parts"] | None = None
    """A measured quantity that determines the reference, such as the length of a scratch in mm."""
    same_picture: Bool[np.ndarray, " appraisers"] | None = None
    """Whether each appraiser judged the same stored picture of each part in all trials; ``None`` if unknown."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    line: int
    appraiser: str
    trial: str
    part: str
    decision: StudyDecision
    reference: StudyDecision
    value: float | None
    picture: str


def read_study(path: str | Path) -> Study:
    """Read a study from CSV (UTF-8, commas, a header line, one decision per line).

    Columns: ``appraiser``, ``trial``, ``part`` (any text), ``decision`` (good or go, bad or no_go, review),
    ``reference`` (good, bad); optionally ``reference_value`` (a number per part) and ``picture_sha256`` or ``picture``
    (the picture that was judged). Other columns are ignored.

    Raises:
        InputError: the file is missing or malformed, a decision is missing or duplicated, or references contradict each
            other.
    """
    path = Path(path)
    rows = list(_rows(path))
    if not rows:
        raise InputError(
            f"{path}: expected one decision per line, found none. Write one line per appraiser, trial and part."
        )
    appraisers, trials, parts = (
        tuple(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("appraiser", "trial", "part")
    )
    if len(parts) < 2:
        raise InputError(f"{path}: expected at least 2 parts, found {len(parts)}. A study usually has about 50.")
    table = _cells(path, rows)
    for cell in ((a, t, p) for a in appraisers for t in trials for p in parts):
        if cell not in table:
            raise InputError(
                f"{path}: appraiser {cell[0]} has no decision on part {cell[2]} in trial {cell[1]}. "
                "Every appraiser must judge every part in every trial: add the line, or remove that part or trial."
            )
    of_part = _references(path, rows)
    values = [of_part[part].value for part in parts]
    return Study(
        appraisers=appraisers,
        trials=trials,
        parts=parts,
        decisions=np.array([[[table[a, t, p].decision for p in parts] for t in trials] for a in appraisers]),
        reference=np.array([of_part[part].reference for part in parts]),
        reference_value=None if None in values else np.array(values, dtype=np.float64),
        same_picture=_same_picture(table, appraisers, trials, parts),
    )


def _rows(path: Path) -> Iterator[_Row]:
    try:
        text = read_regular(path, most_bytes=MOST_TEXT_BYTES).decode("utf-8-sig")
        with io.StringIO(text, newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path}, line 1: expected the columns {', '.join(REQUIRED)} separated by commas, "
                    f"{', '.join(missing)} not found. Correct the header."
                )
            for record in reader:
                yield _row(path, reader.line_num, record)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Give a readable CSV file.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text. Save the table as CSV UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"{path}: not readable as CSV ({error}). Save the table as CSV with commas.") from error


def _row(path: Path, line: int, record: dict[str, str | None]) -> _Row:
    text = {name: (record.get(name) or "").strip() for name in (*REQUIRED, *OPTIONAL)}
    for name in REQUIRED:
        if not text[name]:
            raise InputError(f"{path}, line {line}: {name} is empty. Fill it in or remove the line.")
    for name, known in (("decision", _DECISIONS), ("reference", _REFERENCES)):
        if text[name].lower() not in known:
            raise InputError(f"{path}, line {line}: {name}: expected {', '.join(known)}, found {text[name]!r}.")
    return _Row(
        line=line,
        appraiser=text["appraiser"],
        trial=text["trial"],
        part=text["part"],
        decision=_DECISIONS[text["decision"].lower()],
        reference=_REFERENCES[text["reference"].lower()],
        value=_value(path, line, text["reference_value"]),
        picture=text["picture_sha256"] or text["picture"],
    )


def _value(path: Path, line: int, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {line}: reference_value: expected a number such as 0.35, found {text!r}.")
    return value


def _cells(path: Path, rows: list[_Row]) -> dict[tuple[str, str, str], _Row]:
    table: dict[tuple[str, str, str], _Row] = {}
    for row in rows:
        first = table.setdefault((row.appraiser, row.trial, row.part), row)
        if first is not row:
            raise InputError(
                f"{path}, line {row.line}: appraiser {row.appraiser} already decided on part {row.part} in trial "
                f"{row.trial} on line {first.line}. Keep one, or give the trials different numbers."
            )
    return table


def _references(path: Path, rows: list[_Row]) -> dict[str, _Row]:
    of_part: dict[str, _Row] = {}
    for row in rows:
        first = of_part.setdefault(row.part, row)
        if (first.reference, first.value) != (row.reference, row.value):
            raise InputError(
                f"{path}, line {row.line}: the reference of part {row.part} differs from line {first.line}. "
                "A part must have one reference and one reference value: correct them."
            )
    with_value = [part for part, row in of_part.items() if row.value is not None]
    if with_value and len(with_value) < len(of_part):
        without = next(row for row in of_part.values() if row.value is None)
        raise InputError(
            f"{path}, line {without.line}: part {without.part} has no reference_value but others have. "
            "Fill it in for every part, or remove the column."
        )
    return of_part


def _same_picture(
    table: dict[tuple[str, str, str], _Row],
    appraisers: tuple[str, ...],
    trials: tuple[str, ...],
    parts: tuple[str, ...],
) -> Bool[np.ndarray, " appraisers"] | None:
    if len(trials) < 2 or not all(row.picture for row in table.values()):
        return None
    return np.array([all(len({table[a, t, p].picture for t in trials}) == 1 for p in parts) for a in appraisers])
