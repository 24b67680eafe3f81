"""The nouns everything else speaks in: frames, boxes, labels, verdicts, operating points.

Frozen, keyword-only, numpy only. Pixel coordinates are continuous: pixel column ``j`` covers ``[j, j + 1)``, so a box
over a whole picture of width ``w`` and height ``h`` is ``(0, 0, w, h)`` and its area is ``w * h``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

Frame: TypeAlias = UInt8[np.ndarray, "height width 3"]
"""One decoded picture: uint8 RGB, height x width x 3."""

Mask: TypeAlias = Bool[np.ndarray, "height width"]
"""Where the defect is, at frame resolution."""

DefectMap: TypeAlias = Float32[np.ndarray, "rows columns"]
"""Evidence for a defect per cell of the network's grid, in units of the score (logits)."""

FeatureVector: TypeAlias = Float32[np.ndarray, " channels"]
"""Pooled features of one part as the network saw them."""

Quad: TypeAlias = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""Corners ``(x, y)`` of a turned rectangle in frame pixels, clockwise from its own top left."""

Scores: TypeAlias = Float64[np.ndarray, " parts"]
"""One score per part; higher is worse."""


class Label(StrEnum):
    """What a person said about a part."""

    GOOD = "good"
    BAD = "bad"


class State(StrEnum):
    """What the gauge says about a part. Only a completed judgement is ever ``GO``."""

    GO = "go"
    NO_GO = "no_go"
    REVIEW = "review"
    FAULT = "fault"


@dataclass(frozen=True, kw_only=True)
class Box:
    """An axis-parallel rectangle in frame pixels; ``x2`` and ``y2`` are the far edges."""

    x1: float
    y1: float
    x2: float
    y2: float

    @classmethod
    def from_xyxy(cls, xyxy: tuple[float, float, float, float]) -> Box:
        """Build from ``(x1, y1, x2, y2)``."""
        x1, y1, x2, y2 = (float(value) for value in xyxy)
        return cls(x1=x1, y1=y1, x2=x2, y2=y2)

    @classmethod
    def whole(cls, frame: Frame) -> Box:
        """The box that covers a whole frame."""
        height, width = frame.shape[:2]
        return cls.whole_of(width, height)

    @classmethod
    def whole_of(cls, width: int, height: int) -> Box:
        """The box that covers a frame of this size."""
        return cls(x1=0.0, y1=0.0, x2=float(width), y2=float(height))

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """``(x1, y1, x2, y2)`` in pixels."""
        return (self.x1, self.y1, self.x2, self.y2)

    @property
    def width(self) -> float:
        """Width in pixels, never negative."""
        return max(0.0, self.x2 - self.x1)

    @property
    def height(self) -> float:
        """Height in pixels, never negative."""
        return max(0.0, self.y2 - self.y1)

    @property
    def area(self) -> float:
        """Area in square pixels; zero for an inverted box."""
        return self.width * self.height

    @property
    def centre_xy(self) -> tuple[float, float]:
        """The middle of the box."""
        return ((self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2)

    def intersection(self, other: Box) -> Box:
        """The overlap of two boxes; has zero area where they do not meet."""
        return Box(
            x1=max(self.x1, other.x1),
            y1=max(self.y1, other.y1),
            x2=min(self.x2, other.x2),
            y2=min(self.y2, other.y2),
        )

    def iou(self, other: Box) -> float:
        """Intersection over union, 0 to 1."""
        shared = self.intersection(other).area
        union = self.area + other.area - shared
        return shared / union if union > 0 else 0.0

    def scaled(self, across: float, down: float) -> Box:
        """The same box in a picture that is so many times as wide and as high."""
        return Box(x1=self.x1 * across, y1=self.y1 * down, x2=self.x2 * across, y2=self.y2 * down)

    def expanded(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Every edge moved outwards by so many pixels."""
        return Box(x1=self.x1 - left, y1=self.y1 - top, x2=self.x2 + right, y2=self.y2 + bottom)


Region: TypeAlias = Box | Quad
"""What is cut out and judged, in frame pixels; may reach beyond the frame."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """Where the part is in one frame, tight and without margin; or that it is not there, and why."""

    present: bool
    reason: str = ""
    """Why the part was not found, one sentence a person can read; empty where it was."""
    box: Box | None = None
    """The smallest axis-parallel box around the part, inside the frame; ``None`` where it was not found."""
    quad: Quad | None = None
    """The turned rectangle around the part; may reach beyond the frame. ``None`` where only a box is known."""
    margin: float = 0.0
    """How far the inspected region reaches beyond the part, on every side, as a share of its size along that axis."""
    confidence: float | None = None
    """Probability that this is the part, where the method states one."""

    @property
    def region(self) -> Region | None:
        """What to cut out and judge, the margin included: the turned rectangle where there is one, else the box."""
        return self.crop_box if self.quad is None else self.crop_quad

    @property
    def crop_box(self) -> Box | None:
        """The box with its margin: what to cut out; may reach beyond the frame."""
        if self.box is None:
            return None
        along_x, along_y = self.margin * self.box.width, self.margin * self.box.height
        return self.box.expanded(along_x, along_y, along_x, along_y)

    @property
    def crop_quad(self) -> Quad | None:
        """The quad with its margin: what to rectify; may reach beyond the frame."""
        if self.quad is None:
            return None
        corners = np.asarray(self.quad)
        to_right, down = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]], corners[[3, 2, 2, 3]] - corners[[0, 1, 1, 0]]
        moved = corners + self.margin * (to_right * [[-1], [1], [1], [-1]] + down * [[-1], [-1], [1], [1]])
        first, second, third, fourth = ((float(x), float(y)) for x, y in moved)
        return (first, second, third, fourth)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One side of an operating point: an exact statement about an error rate, with the counts that prove it.

    With probability at least ``confidence`` over the draw of the calibration parts, the error rate of future parts from
    the same process is at most ``max_rate``. ``error`` is ``"escape"`` (bad judged go) or ``"overkill"`` (good judged
    no-go).
    """

    error: str
    max_rate: float
    confidence: float
    parts: int
    """Independent calibration parts of the class the claim is about (bad parts for escapes)."""
    allowed: int | None
    """How many of them may fall on the wrong side (k); ``None`` where the claim cannot be made."""
    parts_missing: int
    """How many more such parts are needed before the claim can be made; 0 when it is made."""
    best_rate: float
    """The smallest rate these parts could certify at this confidence (1 with no parts)."""

    @property
    def holds(self) -> bool:
        """Whether the data support the claim."""
        return self.allowed is not None


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Two thresholds on the score: below ``go_below`` is go, above ``no_go_above`` is no-go, between is review.

    Both comparisons are strict, so equal scores never tip a verdict towards an error. ``go_below = -inf`` lets nothing
    pass; ``no_go_above = inf`` rejects nothing.
    """

    go_below: float
    no_go_above: float
    escape: Claim
    overkill: Claim
    joint: bool = False
    """Whether both claims hold together at their confidence (each was given half the risk)."""
    scores_sha256: str = ""
    """Digest of the sorted calibration scores, good then bad, as little-endian float64."""
    data_fingerprint: str = ""
    """Digest of the calibration split that the scores came from."""
    go_without_promise: bool = False
    """Whether parts pass although no escape claim is made: somebody asked for that. False where the claim holds."""

    def __post_init__(self) -> None:
        if math.isnan(self.go_below) or math.isnan(self.no_go_above) or self.go_below > self.no_go_above:
            raise ValueError(f"expected go_below <= no_go_above, found {self.go_below} and {self.no_go_above}")

    def state(self, score: float) -> State:
        """The verdict for a finite score: go, no-go or review.

        Raises:
            ValueError: the score is not finite, so no judgement was completed.
        """
        if not math.isfinite(score):
            raise ValueError(f"expected a finite score, found {score}")
        if score < self.go_below:
            return State.GO
        if score > self.no_go_above:
            return State.NO_GO
        return State.REVIEW


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judgement of one frame, and its reason.

    Example:
        >>> Verdict(state=State.REVIEW, score=0.3, reason="Between the thresholds.").state == "review"
        True
    """

    state: State
    score: float | None
    """Raw defect logit, higher is worse; ``None`` only for a fault."""
    reason: str
    """One sentence a person can read."""
    box: Box | None = None
    """The part as it was found, tight, in frame pixels; the whole frame where no region of interest is looked for."""
    region: Region | None = None
    """What was cut out and judged: the part with its margin, as a box or a turned rectangle in frame pixels."""
    heatmap: DefectMap | None = None
    """Defect evidence over ``region``, in score units; pooling it and adding the bias gives the score.

    Judged in windows, this holds for the cells of the worst one, see `gonogo.tiling`.
    """
    shift_xy: tuple[float, float] = (0.0, 0.0)
    """Where a cell of the heat map looks, in cells right of and below the middle of its square.

    Strided convolutions with symmetric padding look up and left of it, by nearly half a cell.
    """
    feature_vector: FeatureVector | None = None
    kind: str | None = None
    """For a no-go or a review, where the inspector knows defect kinds: the likeliest one, or that it is unlike any."""
    kind_share: float | None = None
    """Share of that kind, 0 to 1; ``None`` where it is unlike any known kind."""
    doubt: str = ""
    """In a cascade: why the second network was asked; empty where the first one's answer stands."""
    windows: int = 1
    """How many windows the region was judged in; ``timings_ms["network"]`` is the time of all of them."""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    """How long each stage took; ``total`` is the whole, decoding included where a file or encoded bytes were judged."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One picture judged, beside what a person said of it: the row every metric is computed from."""

    file: str
    part: str
    label: Label
    defect: str | None
    state: State
    score: float | None
    """``None`` for a fault."""
    kind: str | None = None
    """The defect kind that the verdict names, see `Verdict`."""
    pointing_hit: bool | None = None
    """Whether the hottest point lies on the mask; ``None`` without a mask."""
    centre_hit: bool | None = None
    """The same for the middle of the judged region, the baseline."""
    energy_inside: float | None = None
    """Share of the positive heat inside the mask."""
    mask_share: float | None = None
    """Share of the judged region that the mask covers: the energy a flat map would put inside."""
