"""The results of a study as one HTML page, one CSV file and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gonogo.experiment.cell import Row
from gonogo.experiment.comparing import Difference, differences
from gonogo.experiment.curves import LossPanel, loss_panels, views_plot
from gonogo.experiment.preset import TOPOLOGIES, reductions
from gonogo.files import write_beside
from gonogo.names import no_formula
from gonogo.report import render_page

PAGE, TABLE = "report.html", "table.csv"
RATES = ("accuracy", "precision", "recall", "fnr", "fpr")


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that the page shows."""

    rows: Sequence[Row]
    differences: Sequence[Difference]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Results:
        """Order the rows as in the table: by approach, topology, initialisation, augmentation and seed."""
        ordered = sorted(rows, key=_place)
        return cls(rows=ordered, differences=differences(ordered))


def write_tables(rows: Sequence[Row], folder: Path, *, data_name: str, waiting: int = 0) -> None:
    """Write ``report.html`` and ``table.csv`` to the folder of a study.

    Args:
        rows: The rows, in any order.
        folder: The folder.
        data_name: Name of the data set.
        waiting: Cells of the grid that are not finished.

    Raises:
        InputError: The files cannot be written.
    """
    results = Results.of(rows)
    page = render_page(
        "experiment.html",
        templates=Path(__file__).parent / "templates",
        results=results,
        data_name=data_name,
        waiting=waiting,
        rates=RATES,
        reductions=reductions,
        reduced=sorted({text for row in results.rows for text in reductions(row.cell)}),
        panels=_panels(results),
        views_plot=views_plot(results.differences, results.rows),
    )
    write_beside(folder / PAGE, page.encode())
    write_beside(folder / TABLE, as_csv(results.rows).encode())


def as_csv(rows: Sequence[Row]) -> str:
    """One line per cell; an empty cell has its reason in the last column."""
    records = [flat(row) for row in rows]
    written = io.StringIO()
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(written, names, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: no_formula(it) if isinstance(it, str) else it for name, it in record.items()})
    return written.getvalue()


def flat(row: Row) -> dict[str, Any]:
    """A row as one flat record, for CSV and JSON."""
    cell, measured, timing = row.cell, row.measured, row.timing
    record: dict[str, Any] = {
        "approach": str(cell.approach),
        "topology": cell.topology,
        "initialisation": str(cell.initialisation),
        "crops": cell.augmentation.crops,
        "rotations": cell.augmentation.rotations,
        "augmentation": cell.views,
        "side_px": cell.side_px,
        "seed": cell.seed,
        "epochs": cell.protocol.epochs,
        "reduced": "; ".join(reductions(cell)),
    }
    rates = {} if measured is None else measured.counts.rates()
    for name in RATES:
        rate = rates.get(name)
        record |= {name: None, f"{name}_low": None, f"{name}_high": None} if rate is None else rate.to_json(name)
    low, high = (None, None) if measured is None else measured.auroc_interval or (None, None)
    record |= {"auroc": measured and measured.auroc, "auroc_low": low, "auroc_high": high}
    record |= {
        "best_epoch": measured and measured.best_epoch,
        "test_parts": measured and measured.counts.parts,
        "train_pictures": measured and measured.pictures[0],
        "shown_whole": measured and measured.whole,
        "normalisation": measured and measured.normalisation,
        "seconds": timing and timing.seconds,
        "parameters": measured and measured.parameters,
        "size_mb": measured and measured.size_mb,
        "torch_ms": timing and timing.torch_ms,
        "openvino_ms": timing and timing.openvino_ms,
        "ratio": ratio(row),
        "device": timing and timing.device,
        "threads": timing and timing.threads,
        "versions": timing and timing.versions,
        "key": cell.key,
        "empty_because": row.empty_because,
    }
    return record


def flat_difference(found: Difference) -> dict[str, Any]:
    """A paired difference as one flat record."""
    among = found.among
    where = {"approach": str(among.approach), "topology": among.topology, "augmentation": among.views}
    where |= {"initialisation": str(among.initialisation)}
    where[found.option] = f"{found.value} - {found.baseline}"
    return {
        "compared": found.option,
        **where,
        "figure": found.figure,
        "seeds": found.seeds,
        "baseline_mean": found.baseline_mean,
        "mean": found.mean,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
    }


def ratio(row: Row) -> float | None:
    """How many times faster OpenVINO is than torch."""
    timing = row.timing
    if timing is None or timing.torch_ms is None or not timing.openvino_ms:
        return None
    return round(timing.torch_ms / timing.openvino_ms, 2)


def _place(row: Row) -> tuple[Any, ...]:
    cell = row.cell
    order = TOPOLOGIES.index(cell.topology) if cell.topology in TOPOLOGIES else len(TOPOLOGIES)
    views = (cell.augmentation.views, cell.augmentation.crops, cell.views)
    return (str(cell.approach), order, cell.topology, str(cell.initialisation), cell.side_px, views, cell.seed)


def _panels(results: Results) -> list[LossPanel]:
    return loss_panels([row for row in results.rows if row.measured is not None])
