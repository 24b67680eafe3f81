"""Check the label files with the tools' own readers: Datumaro, Label Studio's SDK and Ultralytics.

``make check-formats``; ``QUICK=1`` renders 40 boards instead of 120. Each tool gets an environment of its own below
``build/formats``. Every export is read by its tool and compared with the data set; then Datumaro writes each format
that it knows, and gonogo reads that. The last line holds the figures as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from command import print_figures, run
from gonogo.dataset import Dataset, ImportOptions, import_folder
from gonogo.dataset.exporting import Format, export_dataset
from gonogo.dataset.marks import NO_NAME, UNSPLIT
from gonogo.errors import UnfitError
from gonogo.progress import console, track
from gonogo.synthetic import write_dataset

QUICK = bool(os.environ.get("QUICK"))
ENVIRONMENTS = Path("build/formats")
PEERS = Path(__file__).resolve().parent / "peers"
PINNED = {
    "datumaro": ("datumaro==1.13.12",),
    "label_studio": ("label-studio-sdk==2.1.2",),
    "ultralytics": ("ultralytics==8.4.190",),
}
"""The tools that read the exports, by the name of their script."""
BOX_TOLERANCE = 0.01
"""Largest difference of an edge in pixels: Datumaro rounds coordinates to hundredths."""
BOXED_MASKS = {Format.COCO, Format.VOC}
"""Formats in which an outlined object also has a box."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one tool read one format: pictures where all of it is equal, of ``pictures``."""

    format: str
    tool: str
    pictures: int
    opened: int
    boxes: int
    masks: int
    labels: int | None
    """``None`` where the format has no place for good and bad."""
    splits: int

    @property
    def equal(self) -> bool:
        """Whether everything is equal in every picture."""
        counts = (self.opened, self.boxes, self.masks, self.splits, *(() if self.labels is None else (self.labels,)))
        return all(count == self.pictures for count in counts)


def main() -> None:
    """Export, read with the tools, convert with Datumaro and read that."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_dataset(work / "boards", 40 if QUICK else 120, seed=7, size_wh=(320, 240))
        dataset = Dataset.read(work / "boards")
        absent: dict[str, str] = {}
        rows = [*_read_by_tools(dataset, work, absent), *_written_by_datumaro(dataset, work, absent)]
    table = Table("format", "read by", "pictures", "opened", "boxes", "masks", "labels", "splits")
    for row in rows:
        cells = ["-" if value is None else str(value) for value in asdict(row).values()]
        table.add_row(*cells)
    console.print(table)
    for tool, reason in absent.items():
        console.print(f"{tool} was not installed: {reason}", markup=False)
    print_figures({"quick": QUICK, "rows": [asdict(row) for row in rows], "absent": absent})
    if not rows or not all(row.equal for row in rows):
        raise UnfitError("a tool read something else than was exported; see the table.")


def _read_by_tools(dataset: Dataset, work: Path, absent: dict[str, str]) -> list[Row]:
    """Let each tool read the formats it knows. Datumaro's YOLO has no polygons, so it reads one without masks."""
    unmasked = [sample.model_copy(update={"mask_file_name": None}) for sample in dataset.samples]
    boxes_only = Dataset(root=dataset.root, samples=tuple(unmasked))
    datumaro = dict.fromkeys((Format.COCO, Format.CVAT, Format.VOC, Format.DATUMARO), dataset)
    jobs = [("datumaro", to, data) for to, data in (datumaro | {Format.YOLO: boxes_only}).items()]
    jobs += [("label_studio", Format.LABEL_STUDIO, dataset), ("ultralytics", Format.YOLO, dataset)]
    rows = []
    for tool, to, data in track(jobs, "Reading with the tools"):
        python = _environment(tool, absent)
        if python is None:
            continue
        out = work / f"{tool}-{to}"
        export_dataset(data, out, to)
        given = [to.value] if tool == "datumaro" else []
        rows.append(_compared(data, _asked(python, tool, [*given, str(out)]), to, tool))
    return rows


def _written_by_datumaro(dataset: Dataset, work: Path, absent: dict[str, str]) -> list[Row]:
    """Let Datumaro write its formats, and import what it wrote; it drops part, lot and labels in some."""
    python = _environment("datumaro", absent)
    if python is None:
        return []
    export_dataset(dataset, work / "source", Format.DATUMARO)
    rows = []
    for to in track((Format.COCO, Format.CVAT, Format.VOC, Format.DATUMARO), "Reading what Datumaro wrote"):
        out = work / f"by-datumaro-{to}"
        _asked(python, "datumaro", ["datumaro", str(work / "source"), to.value, str(out)])
        options = ImportOptions(annotations=out, unlabelled=True)
        source = out / ("JPEGImages" if to is Format.VOC else "images")
        again = import_folder(source, work / f"again-{to}", options).dataset
        rows.append(_compared(dataset, _described(again), to, "gonogo (Datumaro wrote it)"))
    return rows


def _compared(dataset: Dataset, found: Mapping[str, Any], to: Format, tool: str) -> Row:
    """Count the pictures that the tool read as they are in the data set."""
    opened = boxes = masks = labels = splits = 0
    labelled = to not in (Format.COCO, Format.YOLO)
    truth = _described(dataset)
    for stem, known in truth.items():
        read = found.get(stem, {"opened": False, "boxes": [], "masks": {}, "labels": [], "split": None})
        opened += bool(read["opened"])
        drawn = [box for box in read["boxes"] if not box[5] and not (to in BOXED_MASKS and box[0] in known["masks"])]
        boxes += _boxes_equal(known["boxes"], drawn)
        areas = {name: round(area, 3) for name, area in read["masks"].items() if name != "background"}
        masks += areas == known["masks"]
        labels += [name for name in read["labels"] if name != "unlabelled"] == known["labels"]
        splits += read["split"] == known["split"]
    counts = {"opened": opened, "boxes": boxes, "masks": masks, "splits": splits}
    return Row(format=to, tool=tool, pictures=len(truth), labels=labels if labelled else None, **counts)


def _boxes_equal(known: Sequence[list[Any]], read: Sequence[list[Any]]) -> bool:
    pairs = list(zip(sorted(known), sorted(read), strict=False))
    return len(known) == len(read) and all(
        one[0] == other[0] and all(abs(a - b) <= BOX_TOLERANCE for a, b in zip(one[1:5], other[1:5], strict=True))
        for one, other in pairs
    )


def _described(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Describe a data set as the tools' scripts do."""
    found = {}
    for sample in dataset.samples:
        mask = dataset.load_mask(sample, dataset.load(sample).shape[:2])
        name = str((sample.model_extra or {}).get("object_name") or NO_NAME)
        found[Path(sample.file_name).stem] = {
            "split": str(sample.split or UNSPLIT),
            "boxes": [] if sample.box_xyxy is None else [[name, *sample.box_xyxy, False]],
            "masks": {} if mask is None else {str(sample.defect): int(mask.sum())},
            "labels": [] if sample.label is None else [str(sample.label)],
            "opened": True,
        }
    return found


def _asked(python: Path, tool: str, given: Sequence[str]) -> dict[str, Any]:
    """Run a tool's script in its environment and return what it printed."""
    command = [str(python), str(PEERS / f"{tool}_reader.py"), *given]
    quiet = {**os.environ, "YOLO_CONFIG_DIR": str(ENVIRONMENTS / tool)}  # its settings stay out of the home folder
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200, env=quiet)
    if ended.returncode:
        raise UnfitError(f"{tool} could not read {given}: {ended.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


def _environment(tool: str, absent: dict[str, str]) -> Path | None:
    """Return the Python of a tool's environment, which is made once; ``None`` if it cannot be installed."""
    if tool in absent:
        return None
    folder = ENVIRONMENTS / tool
    ready = folder / "ready"
    python = folder / "bin" / "python"
    wanted = " ".join(PINNED[tool])
    if ready.is_file() and ready.read_text("utf-8") == wanted:
        return python
    uv = shutil.which("uv") or ".uv/bin/uv"
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *PINNED[tool]],
    ):
        console.print(" ".join(command), markup=False, highlight=False)
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            absent[tool] = ended.stderr.strip()[-500:]
            return None
    ready.write_text(wanted, "utf-8")
    return python


if __name__ == "__main__":
    run(main)
