"""Golden frames: pictures with exact scores that a bundle must reproduce at every start. Certification chooses them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gonogo import bundle, images
from gonogo.dataset import Dataset
from gonogo.images import Photograph
from gonogo.inspector import Inspector
from gonogo.manifest import Golden
from gonogo.schema import Box, Frame, Label, OperatingPoint, Prediction, Verdict

GOLDEN_PIXELS = 500_000
"""Golden frames are scaled down to about this many pixels because they are judged at every start; see `_kept`."""

Chosen = tuple[tuple[Golden, ...], dict[str, bytes]]
"""Manifest entries of the golden frames, and their files by name."""


def choose_golden(
    inspector: Inspector, dataset: Dataset, pictures: Sequence[Prediction], point: OperatingPoint | None
) -> Chosen:
    """Choose golden frames among judged pictures and record their scores.

    The golden frames are the lowest and highest scores of both classes, the pictures next to each threshold on either
    side (where a changed graph first changes a verdict), and the picture with the lowest score of every defect kind.
    For a cascade, also the picture with the lowest score judged by each of the two networks.

    Args:
        inspector: The inspector that judged the pictures.
        dataset: The data set of the pictures.
        pictures: Judged pictures with their labels.
        point: The operating point to cover.
    """
    names = {} if inspector.cascade is None else dict(_either_network(inspector, dataset, pictures))
    names |= _extremes(pictures) | _beside_thresholds(pictures, point) | _kinds(pictures)
    chosen: dict[str, str] = {}
    for name, file in names.items():
        if file not in chosen.values():
            chosen[name] = file
    golden, files = [], {}
    for name, file in chosen.items():
        data, suffix, score = _kept(inspector, dataset, file)
        kept = f"{bundle.GOLDEN}/{name}{suffix}"
        files[kept] = data
        golden.append(Golden(file=kept, score=score))
    return tuple(golden), files


def _extremes(pictures: Sequence[Prediction]) -> dict[str, str]:
    found: dict[str, str] = {}
    for label in Label:
        ranked = _ranked([picture for picture in pictures if picture.label is label])
        if ranked:
            found |= {f"{label}-low": ranked[0][1], f"{label}-high": ranked[-1][1]}
    return found


def _beside_thresholds(pictures: Sequence[Prediction], point: OperatingPoint | None) -> dict[str, str]:
    found: dict[str, str] = {}
    ranked = _ranked(pictures)
    for name, line in () if point is None else (("go", point.go_below), ("no-go", point.no_go_above)):
        if not math.isfinite(line):
            continue
        below = [file for score, file in ranked if score < line]
        above = [file for score, file in ranked if score >= line]
        found |= {f"{name}-line-below": below[-1]} if below else {}
        found |= {f"{name}-line-above": above[0]} if above else {}
    return found


def _kinds(pictures: Sequence[Prediction]) -> dict[str, str]:
    kinds = sorted({picture.defect for picture in pictures if picture.defect is not None})
    found = {}
    for number, kind in enumerate(kinds, start=1):
        if ranked := _ranked([picture for picture in pictures if picture.defect == kind]):
            found[f"kind-{number:02d}"] = ranked[0][1]
    return found


def _either_network(
    inspector: Inspector, dataset: Dataset, pictures: Sequence[Prediction]
) -> Iterator[tuple[str, str]]:
    missing = {False: "student", True: "teacher"}
    for _, file in _ranked(pictures):
        if not missing:
            return
        doubted = bool(inspector.inspect(_photograph(dataset, file)).doubt)
        if doubted in missing:
            yield missing.pop(doubted), file


def _ranked(pictures: Sequence[Prediction]) -> list[tuple[float, str]]:
    """Score and file of the pictures that have a score, lowest first."""
    return sorted((picture.score, picture.file) for picture in pictures if picture.score is not None)


def _kept(inspector: Inspector, dataset: Dataset, file: str) -> tuple[bytes, str, float]:
    """The golden frame for a picture: its bytes, file suffix and expected score.

    If the recipe reduces pictures while decoding, or has levels for 16 bits, the original file is kept, so that
    decoding is checked too.
    """
    own = _photograph(dataset, file)
    expected = inspector.inspect(own)
    if inspector.recipe.encoded_only or inspector.recipe.depth is not None:
        assert own.data is not None, "it was read from a file"
        return own.data, Path(file).suffix.lower(), _score(expected)
    frame = _reduced(own.frame) if inspector.recipe.tiling is None else own.frame  # scaling would change the windows
    found = inspector.inspect(frame)
    if found.score is None or bool(found.doubt) is not bool(expected.doubt):
        # Scaling changes the outcome, as with a region fixed in pixels or a score close to a limit: keep full size.
        frame, found = own.frame, expected
    return images.encode_png(frame), ".png", _score(found)


def _score(verdict: Verdict) -> float:
    assert verdict.score is not None, "it was judged a moment ago"
    return verdict.score


def _photograph(dataset: Dataset, file: str) -> Photograph:
    path = dataset.path(next(sample for sample in dataset.samples if sample.file_name == file))
    return Photograph(images.read_bytes(path), name=str(path))


def _reduced(frame: Frame) -> Frame:
    height, width = frame.shape[:2]
    factor = math.sqrt(GOLDEN_PIXELS / (height * width))
    if factor >= 1:
        return frame
    return images.crop_resize(frame, Box.whole(frame), (round(width * factor), round(height * factor)))


def replaced_files(inspector: Inspector, files: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """Files of the new golden frames, and ``None`` for each old one that is not replaced."""
    return {**{each.file: None for each in inspector.bundle.manifest.golden}, **files}
