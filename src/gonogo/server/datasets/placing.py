"""The labelled pictures of a data set that zones are drawn on and tried on, with the place of the part in each."""

from __future__ import annotations

from collections.abc import Sequence

from gonogo.config.zones import DrawnOn
from gonogo.dataset import Sample
from gonogo.images.geometry import as_quad
from gonogo.images.zones import Place
from gonogo.schema import Box, Label, Region
from gonogo.server.dataset_store import Records
from gonogo.source import labelled_box, labelled_corners


def pictures_to_draw_on(records: Records, drawn_on: DrawnOn) -> tuple[list[Sample], dict[str, Region]]:
    """Return the pictures that show a whole part, good ones first, and the labelled part of each.

    Without a label of the part, the whole picture is meant; those pictures are left out if zones move with the part.
    """
    shown = [sample for sample in records.samples.values() if sample.present is not False]
    parts = _parts(shown) if drawn_on == "part" else {}
    if drawn_on == "part":
        shown = [sample for sample in shown if sample.file_name in parts]
    return sorted(shown, key=lambda sample: sample.label is not Label.GOOD), parts


def place_of(part: Region | None, size_wh: tuple[int, int]) -> Place:
    """The place that part coordinates refer to: the labelled part, or the whole picture."""
    return Place(region=part or Box.from_xyxy((0, 0, *size_wh)))


def _parts(samples: Sequence[Sample]) -> dict[str, Region]:
    """The labelled part of each picture that has one, as a learned region finds it: by quads only if all have quads."""
    boxes = {sample.file_name: box for sample in samples if (box := labelled_box(sample)) is not None}
    quads = {
        sample.file_name: as_quad(corners)
        for sample in samples
        if sample.file_name in boxes and (corners := labelled_corners(sample)) is not None
    }
    return {**quads} if len(quads) == len(boxes) else {**boxes}
