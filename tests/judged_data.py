"""A judge that reads its score off the picture, and small data sets for it: shared by the evaluate and report tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from gonogo.dataset import Dataset, Sample, Split
from gonogo.devices import DeviceUse
from gonogo.errors import ImageError
from gonogo.heatmap import HeatScale
from gonogo.images import Photograph, encode_png, load_picture, seen_region
from gonogo.images.geometry import corners_of
from gonogo.roi import Roi, WholeRoi
from gonogo.schema import Box, Claim, Frame, Label, Located, OperatingPoint, State, Verdict

SIZE_HW = (48, 64)
CELL_PX = 8
UNJUDGEABLE = 255
"""A brightness at which the fake judge gives up."""


def claim(error: str, *, holds: bool = True, max_rate: float = 0.05) -> Claim:
    return Claim(
        error=error,
        max_rate=max_rate,
        confidence=0.95,
        parts=60 if holds else 12,
        allowed=0 if holds else None,
        parts_missing=0 if holds else 47,
        best_rate=0.0487 if holds else 0.2209,
    )


def operating_point(go_below: float, no_go_above: float, *, max_rate: float = 0.05) -> OperatingPoint:
    return OperatingPoint(
        go_below=go_below,
        no_go_above=no_go_above,
        escape=claim("escape", holds=np.isfinite(go_below), max_rate=max_rate),
        overkill=claim("overkill", holds=np.isfinite(no_go_above), max_rate=max_rate),
    )


class BrightnessJudge:
    """Scores the top left pixel of the region; its map is hot in the cell that holds the brightest green."""

    def __init__(self, point: OperatingPoint | None) -> None:
        self.operating_point = point
        self.heat_scale = HeatScale(cold=0.0, hot=10.0)
        self.bundle_sha256 = "5e" * 32
        self.bundle = SimpleNamespace(manifest=SimpleNamespace(cameras=()))
        self.path = Path("tile.inspector")
        self.device = DeviceUse()
        self.roi: Roi = WholeRoi()

    def inspect_file(self, path: Path) -> tuple[Photograph | None, Verdict]:
        try:
            photograph = Photograph(load_picture(path))
        except ImageError as error:
            return None, Verdict(state=State.FAULT, score=None, reason=str(error))
        return photograph, self.inspect(photograph)

    def inspect(self, picture: Frame | Photograph, *, located: Located | None = None) -> Verdict:
        frame = picture.frame if isinstance(picture, Photograph) else picture
        located = located or self.roi.locate(frame)
        if located.region is None:
            return Verdict(state=State.FAULT, score=None, reason=f"not judged: {located.reason}")
        x, y = corners_of(seen_region(frame, located.region))[0].astype(int)
        value = int(frame[y, x, 0])
        if value == UNJUDGEABLE:
            return Verdict(state=State.FAULT, score=None, reason="the network gave no finite score")
        state = State.REVIEW if self.operating_point is None else self.operating_point.state(float(value))
        rows, columns = frame.shape[0] // CELL_PX, frame.shape[1] // CELL_PX
        green = frame[..., 1].reshape(rows, CELL_PX, columns, CELL_PX).max(axis=(1, 3))
        return Verdict(
            state=state,
            score=float(value),
            reason=f"score {value}",
            box=located.box,
            region=located.region,
            heatmap=np.where(green == 255, 10.0, -5.0).astype(np.float32),
            timings_ms={"network": 2.0, "total": 3.0},
        )


def write_picture(path: Path, score: int, hot_cell: tuple[int, int] | None = None) -> None:
    frame = np.full((*SIZE_HW, 3), score, np.uint8)
    frame[..., 1] = 0
    if hot_cell is not None:
        row, column = hot_cell
        frame[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8, 1] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(frame))


def make_dataset(
    root: Path,
    pictures: Mapping[str, tuple[Label, int]],
    *,
    parts: Mapping[str, str] | None = None,
    defects: Mapping[str, str] | None = None,
    split: Split = Split.TEST,
) -> Dataset:
    """A data set of plain pictures, ``{file: (label, score)}``."""
    for name, (_, score) in pictures.items():
        write_picture(root / name, score)
    samples = [
        Sample(file_name=name, label=label, part=(parts or {}).get(name), defect=(defects or {}).get(name), split=split)
        for name, (label, _) in pictures.items()
    ]
    return save(root, samples)


def add_marked(dataset: Dataset, name: str, *, score: int, hot_cell: tuple[int, int], mask: Box) -> Dataset:
    """One more bad picture, hot in one cell, its defect marked in a box."""
    write_picture(dataset.root / name, score, hot_cell)
    marked = np.zeros(SIZE_HW, np.uint8)
    marked[int(mask.y1) : int(mask.y2), int(mask.x1) : int(mask.x2)] = 255
    (dataset.root / f"{name}.mask.png").write_bytes(encode_png(marked))
    sample = Sample(file_name=name, label=Label.BAD, mask_file_name=f"{name}.mask.png", split=Split.TEST)
    return save(dataset.root, [*dataset.samples, sample])


def save(root: Path, samples: Sequence[Sample]) -> Dataset:
    dataset = Dataset(root=root, samples=tuple(samples))
    dataset.write()
    return dataset
