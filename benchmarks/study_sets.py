"""Shared by the studies: data sets of real photographs or rendered boards, and result rows saved as they finish.

The photographs are named by ``--data FOLDER`` (``make study-... DATA=FOLDER``); without it the studies render boards.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from gonogo.dataset import Dataset, ImportOptions, Sample, import_folder, with_groups
from gonogo.progress import console
from gonogo.schema import Label
from gonogo.synthetic import write_close_ups

SETS = {
    "cookies": ImportOptions(good="good", mask_suffix="_mask.png"),
    "aliens": ImportOptions(good="good"),
    "magnetic_tile": ImportOptions(good="MT_Free", mask_suffix=".png"),
}
"""Import options of each folder of photographs. The exposures of one magnetic tile are grouped by their surface, as the
numbers in the file names differ."""
RENDERED = "rendered"
RENDERED_PARTS = 240
QUICK_PICTURES = 60

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Given:
    """Options of a study."""

    out: Path
    data: Path | None
    quick: bool
    only: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the data sets, small ones first; a quick run uses the first."""
        names = (RENDERED,) if self.data is None else tuple(name for name in SETS if (self.data / name).is_dir())
        chosen = tuple(name for name in names if not self.only or name in self.only)
        return chosen[:1] if self.quick else chosen

    def features(self, name: str) -> Path:
        """Return the folder for the features of a data set."""
        return self.out / "features" / (f"{name}-quick" if self.quick else name)

    def dataset(self, name: str) -> Dataset:
        """Return a data set with near-duplicate groups; imported on the first call."""
        folder = self.out / "sets" / name
        if not folder.exists():
            source = self.out / "photos" / name if self.data is None else self.data / name
            if self.data is None and not source.exists():
                write_close_ups(source, RENDERED_PARTS)
            options = ImportOptions(mask_suffix="_mask.png") if self.data is None else SETS[name]
            import_folder(source, folder, options)
        found = Dataset.read(folder)
        grouped = replace(found, samples=with_groups(found))
        return thinned(grouped) if self.quick else grouped


def read_arguments(description: str | None, *, extra: Callable[[argparse.ArgumentParser], None] | None = None) -> Any:
    """Parse the options that all studies share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path("study"), help="Folder for imported sets, features and rows.")
    parser.add_argument("--data", type=Path, default=None, help="Folder of real photographs. Default: rendered boards.")
    parser.add_argument("--only", action="append", default=[], help="Only this data set; may be repeated.")
    parser.add_argument("--quick", action="store_true", help="Only the first data set, few pictures, few repetitions.")
    if extra is not None:
        extra(parser)
    options = parser.parse_args()
    options.given = Given(out=options.out, data=options.data, quick=options.quick, only=tuple(options.only))
    return options


def thinned(dataset: Dataset) -> Dataset:
    """Return some pictures of each class."""
    kept: list[Sample] = []
    for label in (Label.GOOD, Label.BAD):
        kept += [sample for sample in dataset.samples if sample.label is label][: QUICK_PICTURES // 2]
    return replace(dataset, samples=tuple(kept))


@dataclass
class Rows:
    """Result rows in a file, one per line, written as they finish; an interrupted run continues from there."""

    path: Path
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def opened(cls, given: Given, name: str) -> Rows:
        """Return the finished rows."""
        given.out.mkdir(parents=True, exist_ok=True)
        path = given.out / f"{name}{'-quick' if given.quick else ''}.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return cls(path=path, rows=[json.loads(line) for line in lines])

    def once(self, key: Mapping[str, Any], measure: Callable[[], Row]) -> Row:
        """Return the row with this key; measure it if it is missing."""
        for row in self.rows:
            if all(row.get(name) == value for name, value in key.items()):
                return row
        row = {**key, **measure()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows.append(row)
        console.print(json.dumps(row), markup=False, highlight=False)
        return row

    def where(self, **key: Any) -> list[Row]:
        """Return the rows with these values."""
        return [row for row in self.rows if all(row.get(name) == value for name, value in key.items())]


def interval(values: Sequence[float], *, test_share: float) -> tuple[float, float, float]:
    """Return mean and 95 % interval of a figure over several splits of the same pictures.

    The splits share pictures, so the t interval counts the variance ``1 / n + test / train`` times (Nadeau and Bengio,
    2003, "Inference for the Generalization Error", equation 9).
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean, mean
    factor = np.sqrt(1 / len(values) + test_share / (1 - test_share))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) * factor)
    return mean, mean - half, mean + half
