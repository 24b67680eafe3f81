"""The searchable columns of a data set: derived once for each record, then filtered and sorted in memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gonogo.dataset import Sample
from gonogo.dataset.collected import COLUMN
from gonogo.schema import Label, State
from gonogo.server.dataset_store import Records, kept_blind
from gonogo.server.grid.predictions import Predicted
from gonogo.server.label.doubt import distance

OPEN, ABSENT = "open", "none"
"""Label of a picture without one, and of a picture that does not show one whole part."""
_CACHED_INDEXES = 8

Array = NDArray[Any]
"""One value for each row."""


class _Row(NamedTuple):
    sample: Sample
    label: str
    kind: str
    split: str
    part: str
    lot: str
    at: float
    mark: int
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class GridIndex:
    """One state of a data set with the predictions of one inspector; rows are numbered in file order."""

    rows: tuple[_Row, ...]
    predicted: Predicted | None
    columns: Mapping[str, tuple[dict[str, int], Array]]
    """For label, kind, split, part and lot: the codes of the values, and the code of every row."""
    at: Array
    """Seconds since 1970 at which a picture was collected from the line, or else labelled; NaN if unknown."""
    marks: Array
    """64-bit hash of each picture's name, label and split."""
    score: Array
    """NaN if not judged."""
    doubt: Array
    """Distance of the score from the nearest threshold; NaN if not judged."""
    verdict: Array
    """Code in `VERDICTS`; -1 if not judged."""
    disagrees: Array
    """Whether the label is good and the verdict no-go, or the reverse."""
    blind: Array
    """Whether the picture is not judged before it is labelled; see `kept_blind`."""
    _orders: dict[Hashable, Array] = field(default_factory=dict)

    def equal(self, column: str, value: str) -> Array:
        """Rows with a value in a column."""
        codes, column_codes = self.columns[column]
        return np.asarray(column_codes == codes.get(value, -1))

    def values(self, column: str) -> list[str]:
        """Sorted values of a column, without the empty one."""
        codes, column_codes = self.columns[column]
        present = set(np.unique(column_codes).tolist())
        return sorted(value for value, code in codes.items() if value and code in present)

    def containing(self, text: str) -> Array:
        """Rows whose name, part, lot, kind or labelling person contains a text, whatever the case."""
        wanted = text.casefold()
        return np.fromiter((wanted in row.text for row in self.rows), bool, len(self.rows))

    def order(self, key: str) -> Array:
        """Row numbers in the order of ``file``, ``name``, ``date``, ``score`` or ``doubt``; unknown values last."""
        if key not in self._orders:
            self._orders[key] = self._sorted(key)
        return self._orders[key]

    def _sorted(self, key: str) -> Array:
        if key == "name":
            names = [row.sample.file_name for row in self.rows]
            return np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
        if key == "file":
            return np.arange(len(self.rows))
        values = {"date": -self.at, "score": -self.score, "doubt": self.doubt}[key]
        return np.argsort(values, kind="stable")

    def nearest(self, near: Mapping[str, float]) -> Array:
        """Row numbers by distance, pictures without one last."""
        distances = np.fromiter((near.get(row.sample.file_name, np.nan) for row in self.rows), float, len(self.rows))
        return np.argsort(distances, kind="stable")

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Row number of each file."""
        return {row.sample.file_name: number for number, row in enumerate(self.rows)}

    def digest(self, rows: Array) -> str:
        """Hash of a selection, whatever its order; changes with its members and their labels and splits."""
        return f"{int(self.marks[rows].sum(dtype=np.uint64)):016x}"


VERDICTS = (State.GO, State.REVIEW, State.NO_GO, State.FAULT)


class GridIndexes:
    """Keeps the latest index of each data set; after a change only the changed records are read again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, object], GridIndex]] = {}
        self._lock = threading.Lock()

    def of(self, records: Records, predicted: Predicted | None) -> GridIndex:
        """Return the index of a data set's records and predictions."""
        with self._lock:
            known = self._known.pop(records.name, None)
            if known is None or known[0][0] != records.version or known[0][1] is not predicted:
                built = None if known is None else _patched(known[1], records, predicted)
                built = built or _built(records, None if known is None else known[1], predicted)
                known = ((records.version, predicted), built)
            self._known[records.name] = known
            while len(self._known) > _CACHED_INDEXES:
                self._known.pop(next(iter(self._known)))
            return known[1]


def mark(sample: Sample) -> int:
    """64-bit hash of a picture's name, label and split: what a change to many pictures relies on."""
    said = (sample.file_name, sample.label, sample.defect, sample.present, sample.split, sample.mask_file_name)
    return int.from_bytes(hashlib.blake2b(repr(said).encode("utf-8", "replace"), digest_size=8).digest())


def label_of(sample: Sample) -> str:
    """``good``, ``bad``, ``none`` for a picture without one whole part, or ``open``."""
    if sample.label is not None:
        return sample.label.value
    return ABSENT if sample.present is False else OPEN


def _row(sample: Sample) -> _Row:
    extra = sample.model_extra or {}
    collected = extra.get(COLUMN)
    who, kind = str(extra.get("labelled_by") or ""), sample.defect or ""
    text = "\n".join((sample.file_name, sample.part or "", sample.lot or "", kind, who)).casefold()
    return _Row(
        sample=sample,
        label=label_of(sample),
        kind=kind,
        split="none" if sample.split is None else sample.split.value,
        part=sample.part or "",
        lot=sample.lot or "",
        at=_seconds(collected.get("at") if isinstance(collected, dict) else extra.get("labelled_at")),
        mark=mark(sample),
        text=text,
    )


def _seconds(said: object) -> float:
    try:
        at = datetime.fromisoformat(str(said))
    except ValueError:
        return float("nan")
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _built(records: Records, known: GridIndex | None, predicted: Predicted | None) -> GridIndex:
    before = {} if known is None else {row.sample.file_name: row for row in known.rows}
    rows = []
    for file, sample in records.samples.items():
        row = before.get(file)
        rows.append(row if row is not None and row.sample is sample else _row(sample))
    columns = list(zip(*rows, strict=True)) or [()] * len(_Row._fields)
    named = dict(zip(_Row._fields, columns, strict=True))
    coded = {name: _coded(named[name]) for name in ("label", "kind", "split", "part", "lot")}
    score, doubt, verdict = _judged(named["sample"], predicted)
    return GridIndex(
        rows=tuple(rows),
        predicted=predicted,
        columns=coded,
        at=np.array(named["at"], float),
        marks=np.array(named["mark"], np.uint64),
        score=score,
        doubt=doubt,
        verdict=verdict,
        disagrees=_disagrees(coded["label"], verdict),
        blind=np.fromiter((kept_blind(sample) for sample in named["sample"]), bool, len(rows)) & (verdict < 0),
    )


def _patched(known: GridIndex, records: Records, predicted: Predicted | None) -> GridIndex | None:
    """The index after a change to a few records; ``None`` if the names, the predictions or many records changed."""
    samples = tuple(records.samples.values())
    if known.predicted is not predicted or len(samples) != len(known.rows):
        return None
    rows = list(known.rows)
    changed = [number for number, sample in enumerate(samples) if rows[number].sample is not sample]
    if len(changed) > len(rows) // 4 or any(rows[n].sample.file_name != samples[n].file_name for n in changed):
        return None
    columns = {name: (dict(codes), array.copy()) for name, (codes, array) in known.columns.items()}
    at, marks, blind = known.at.copy(), known.marks.copy(), known.blind.copy()
    for number in changed:
        row = rows[number] = _row(samples[number])
        at[number], marks[number] = row.at, row.mark
        blind[number] = kept_blind(row.sample) and known.verdict[number] < 0
        for name, (codes, array) in columns.items():
            array[number] = codes.setdefault(getattr(row, name), len(codes))
    return replace(
        known,
        rows=tuple(rows),
        columns=columns,
        at=at,
        marks=marks,
        blind=blind,
        disagrees=_disagrees(columns["label"], known.verdict),
        _orders={key: order for key, order in known._orders.items() if key != "date"},
    )


def _disagrees(labels: tuple[dict[str, int], Array], verdict: Array) -> Array:
    codes, column = labels
    good, bad = (column == codes.get(label.value, -1) for label in Label)
    go, no_go = (verdict == VERDICTS.index(state) for state in (State.GO, State.NO_GO))
    return np.asarray((good & no_go) | (bad & go))


def _coded(values: Iterable[str]) -> tuple[dict[str, int], Array]:
    listed = tuple(values)
    codes = {value: number for number, value in enumerate(dict.fromkeys(listed))}
    return codes, np.fromiter((codes[value] for value in listed), np.int32, len(listed))


def _judged(samples: tuple[Sample, ...], predicted: Predicted | None) -> tuple[Array, Array, Array]:
    """Score, doubt and verdict of every row."""
    score, doubt = np.full(len(samples), np.nan), np.full(len(samples), np.nan)
    verdict = np.full(len(samples), -1, np.int8)
    if predicted is None:
        return score, doubt, verdict
    for number, sample in enumerate(samples):
        if sample.file_name not in predicted.scores:
            continue
        found = predicted.scores[sample.file_name]
        verdict[number] = VERDICTS.index(predicted.state(found))
        if found is not None:
            score[number], doubt[number] = found, distance(found, predicted.point)
    return score, doubt, verdict
