"""Selects the parts that a report shows and embeds their photographs and heat maps as thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from gonogo.dataset import Dataset, Sample
from gonogo.evaluate import Evaluation, Judge
from gonogo.heatmap import HeatScale, overlay
from gonogo.images import encode_jpeg
from gonogo.images.geometry import scaled_region
from gonogo.progress import track
from gonogo.report.phrases import passes_nothing
from gonogo.schema import Frame, Label, Mask, Prediction, State, Verdict

_LONGEST_SIDE = 360
_MARKED_RGB = (0, 214, 230)
_MISTAKES_SHOWN, _OTHERS_SHOWN = 6, 3


@dataclass(frozen=True, kw_only=True)
class Card:
    """One part with its embedded pictures."""

    part: Prediction
    verdict: Verdict
    photograph: str
    """``data:`` URI of the photograph with the marked defect outlined."""
    heat: str
    """``data:`` URI of the photograph with its heat map."""
    marked: bool
    """Whether a person marked the defect."""


@dataclass(frozen=True, kw_only=True)
class PictureAlbum:
    """Parts shown together under one title."""

    title: str
    note: str
    parts: tuple[Prediction, ...]
    total: int
    """Number of such parts, including those not shown."""
    cards: tuple[Card, ...] = ()


def albums(evaluation: Evaluation, inspector: Judge, dataset: Dataset) -> tuple[PictureAlbum, ...]:
    """The worst mistakes, the hardest cases and a few typical parts, with their pictures.

    The parts shown are judged again by the same inspector, so that the evaluation need not keep frames in memory.
    """
    chosen = [*_mistakes(evaluation), *_undecided(evaluation), *_typical(evaluation)]
    samples = {sample.file_name: sample for sample in dataset.samples}
    shown = {part.file: part for album in chosen for part in album.parts}
    cards = {
        file: card
        for file, part in track(list(shown.items()), "Drawing")
        if (card := _card(inspector, dataset, samples[file], part)) is not None
    }
    return tuple(
        replace(album, cards=tuple(cards[part.file] for part in album.parts if part.file in cards)) for album in chosen
    )


def data_uri(picture: Frame) -> str:
    """Encode a picture as a JPEG ``data:`` URI."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(picture, quality=85)).decode()


def _mistakes(evaluation: Evaluation) -> list[PictureAlbum]:
    escapes = _ranked(evaluation, Label.BAD, State.GO)
    overkill = _ranked(evaluation, Label.GOOD, State.NO_GO)[::-1]
    return [
        _album("Bad parts that were passed", "Escapes, lowest score first.", escapes, _MISTAKES_SHOWN),
        _album("Good parts that were rejected", "Overkill, highest score first.", overkill, _MISTAKES_SHOWN),
    ]


def _undecided(evaluation: Evaluation) -> list[PictureAlbum]:
    if passes_nothing(evaluation.operating_point):
        titles = "Bad parts with the lowest scores", "Good parts with the highest scores"
        notes = "Bad parts that look most like good ones.", "Good parts that look most like bad ones."
    else:
        titles = "Bad parts sent to a person", "Good parts sent to a person"
        notes = "Lowest score first.", "Highest score first."
    bad = _ranked(evaluation, Label.BAD, State.REVIEW)
    good = _ranked(evaluation, Label.GOOD, State.REVIEW)[::-1]
    return [
        _album(title, note, found, _OTHERS_SHOWN)
        for title, note, found in zip(titles, notes, (bad, good), strict=True)
        if found
    ]


def _typical(evaluation: Evaluation) -> list[PictureAlbum]:
    passed = _ranked(evaluation, Label.GOOD, State.GO)
    rejected = _ranked(evaluation, Label.BAD, State.NO_GO)
    typical = []
    for title, found in (("Typical good parts, passed", passed), ("Typical bad parts, rejected", rejected)):
        if found:
            middle = found[max(0, len(found) // 2 - 1) :][:_OTHERS_SHOWN]
            note = "Parts with scores near the median."
            typical.append(PictureAlbum(title=title, note=note, parts=tuple(middle), total=len(found)))
    return typical


def _album(title: str, note: str, found: Sequence[Prediction], shown: int) -> PictureAlbum:
    return PictureAlbum(title=title, note=note, parts=tuple(found[:shown]), total=len(found))


def _ranked(evaluation: Evaluation, label: Label, state: State) -> list[Prediction]:
    found = [part for part in evaluation.parts if part.label is label and part.state is state]
    return sorted(found, key=lambda part: (0.0 if part.score is None else part.score, part.file))


def _card(inspector: Judge, dataset: Dataset, sample: Sample, part: Prediction) -> Card | None:
    photograph, verdict = inspector.inspect_file(dataset.path(sample))
    if photograph is None:
        return None
    mask = dataset.load_mask(sample, photograph.shape_hw)
    plain, heat = thumbnails(photograph.frame, verdict, mask, inspector.heat_scale)
    return Card(
        part=part,
        verdict=verdict,
        photograph=data_uri(plain),
        heat=data_uri(heat),
        marked=mask is not None and bool(mask.any()),
    )


def thumbnails(frame: Frame, verdict: Verdict, mask: Mask | None, scale: HeatScale) -> tuple[Frame, Frame]:
    """Thumbnails of the photograph with the marked defect outlined, and of the photograph with its heat map.

    Args:
        frame: uint8, height x width x 3.
        verdict: Verdict on this frame.
        mask: height x width, the marked defect; ``None`` if none was marked.
        scale: The inspector's colour scale.
    """
    height, width = frame.shape[:2]
    factor = _LONGEST_SIDE / max(height, width)
    size_wh = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(frame, size_wh, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    if verdict.region is not None:
        verdict = replace(verdict, region=scaled_region(verdict.region, size_wh[0] / width, size_wh[1] / height))
    heat = overlay(small, verdict, scale)
    if mask is not None:
        # Area interpolation and a low threshold, so that a hairline crack keeps its outline.
        share = cv2.resize(mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)
        outlines, _ = cv2.findContours((share > 0.1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        small = cv2.drawContours(small, outlines, -1, _MARKED_RGB, 1)
    return small, heat
