"""Draws a sheet of training pictures as the network sees them: cropped and resized to its input size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gonogo import images
from gonogo.bundle import SUFFIX
from gonogo.dataset import Sample, Split
from gonogo.files import write_beside
from gonogo.schema import Frame, Label
from gonogo.sheet import GAP, Panel, PanelRow, draw_sheet
from gonogo.source import TrainingSource

SHOWN = 8
"""Number of pictures, half of them bad if there are enough."""
_MOST_COLUMNS = 4
_WIDEST = 2400


def sheet_of(bundle: Path) -> Path:
    """Path of the sheet of a bundle: ``tile.training.png`` next to ``tile.inspector``."""
    return bundle.with_name(f"{bundle.name.removesuffix(SUFFIX)}.training.png")


def write_training_sheet(source: TrainingSource, path: Path) -> None:
    """Write a PNG of some training pictures, exactly as the network sees them, each under its label.

    Args:
        source: Source of the training pictures.
        path: Output file; overwritten if it exists.

    Raises:
        InputError: the file cannot be written.
    """
    chosen = chosen_samples(source.dataset.split(Split.TRAIN))
    pictures = list(source.plain(chosen))
    write_beside(path, images.encode_png(_sheet(source, [title_of(sample) for sample in chosen], pictures)))


def chosen_samples(samples: Sequence[Sample], count: int = SHOWN) -> list[Sample]:
    """Pictures spread evenly over the split: bad ones first, then good ones."""
    bad = [sample for sample in samples if sample.label is Label.BAD]
    good = [sample for sample in samples if sample.label is Label.GOOD]
    some_bad = list(_evenly(bad, min(len(bad), max(count // 2, count - len(good)))))
    return [*some_bad, *_evenly(good, min(len(good), count - len(some_bad)))]


def _evenly(samples: Sequence[Sample], count: int) -> Iterator[Sample]:
    yield from (samples[index * len(samples) // count] for index in range(count))


def title_of(sample: Sample) -> str:
    """Label, defect kind and file name of a sample."""
    kind = f", {sample.defect}" if sample.label is Label.BAD and sample.defect else ""
    return f"{sample.label}{kind}: {Path(sample.file_name).name}"


def _sheet(source: TrainingSource, titles: Sequence[str], pictures: Sequence[Frame]) -> Frame:
    width, height = source.size_wh
    columns = max(1, min(_MOST_COLUMNS, len(pictures), _WIDEST // (width + GAP)))
    panels = [Panel(title=title, picture=picture) for title, picture in zip(titles, pictures, strict=True)]
    rows = [PanelRow(panels=tuple(panels[first : first + columns])) for first in range(0, len(panels), columns)]
    return draw_sheet([PanelRow(title=f"What the network sees: {width} x {height} pixels"), *rows])
