"""What a network sees in one picture: its feature maps, stage by stage, and maps of where it looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gonogo.array_types import Float32
from gonogo.heatmap import HeatScale
from gonogo.look.maps import CellMap, FeatureMaps, average_parts, log_sum_exp_parts, maximum_parts
from gonogo.schema import Frame

SHARPNESS = 2.0
"""The ``r`` of log-sum-exp pooling, for cells with a standard deviation of 1."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The feature maps at the end of one stage."""

    name: str
    stride: int
    """Pixels of the picture per cell."""
    maps: FeatureMaps

    def title(self) -> str:
        """One line: name, stride, channels and cells."""
        channels, rows, columns = self.maps.shape
        return f"{self.name}: stride {self.stride}, {channels} channels, {columns} x {rows} cells"

    def channels(self, count: int) -> list[int]:
        """The channels whose values differ most from cell to cell, in ascending order.

        Padding shows at the border, so it is left out where there are more than four rows and columns.
        """
        inner = self.maps[:, 1:-1, 1:-1] if min(self.maps.shape[1:]) > 4 else self.maps
        return sorted(int(each) for each in np.argsort(-inner.std((1, 2)), kind="stable")[:count])


@dataclass(frozen=True, kw_only=True)
class PlaceMap:
    """A map of where the network looks."""

    title: str
    cells: CellMap
    value: float | None = None
    """What the cells are pooled to; ``None`` where they are not a part of any number."""
    scale: HeatScale | None = None
    """A fixed colour scale; without it, colours go from the median cell to the highest."""
    shift_xy: tuple[float, float] = (0.0, 0.0)
    """Offset of the cells, see `gonogo.schema.Verdict`."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a network sees in one picture."""

    network: str
    weights: str
    """Where its weights come from."""
    picture: Frame
    """The input of the network."""
    answer: str | None = None
    """What the network says: its class, or the verdict."""
    stages: tuple[Stage, ...] = ()
    places: tuple[PlaceMap, ...] = ()
    notes: tuple[str, ...] = ()
    """What is missing, and why."""


def activation_places(cells: CellMap, bias: float) -> tuple[PlaceMap, ...]:
    """The class-activation map of one forward pass under average, maximum and log-sum-exp pooling.

    The map is the same; the pooling decides which cells make up the logit. With the average every cell counts, so the
    map itself is shown; with the other two, what each cell adds to the pooled value.
    """
    sharpness = SHARPNESS / max(float(cells.std()), 1e-6)
    pooled = {
        "average": average_parts(cells),
        "maximum": maximum_parts(cells),
        "log-sum-exp": log_sum_exp_parts(cells, sharpness),
    }
    places = []
    for name, parts in pooled.items():
        value = float(parts.sum(dtype=np.float64))
        shown = -parts if value < 0 and name != "average" else parts
        places.append(PlaceMap(title=f"CAM, {name}: logit {value + bias:+.2f}", cells=shown, value=value + bias))
    return tuple(places)


def likeliest(logits: Float32[np.ndarray, " classes"], wanted: int | None) -> tuple[int, float]:
    """The chosen class, or the one with the highest logit, and its probability (softmax)."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    chosen = int(logits.argmax()) if wanted is None else wanted
    return chosen, float(powers[chosen] / powers.sum())
