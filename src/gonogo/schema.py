"""The basic types: frames, boxes, labels, verdicts, operating points.

All are frozen and keyword-only and depend on numpy alone. Pixel coordinates are continuous: pixel column ``j`` covers
``[j, j + 1)``, so a box over a whole picture of width ``w`` and height ``h`` is ``(0, 0, w, h)``, with area ``w * h``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np

from gonogo.array_types import Bool, Float32, Float64, UInt8

Frame: TypeAlias = UInt8[np.ndarray, "_height _width 3"]
"""One decoded picture: uint8 RGB, height x width x 3."""

Mask: TypeAlias = Bool[np.ndarray, "_height _width"]
"""Pixels of the defect, at frame resolution."""

DefectMap: TypeAlias = Float32[np.ndarray, "_rows _columns"]
"""Evidence for a defect per cell of the network's grid, in units of the score (logits)."""

FeatureVector: TypeAlias = Float32[np.ndarray, " _channels"]
"""Pooled features of one part."""

Quad: TypeAlias = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""Corners ``(x, y)`` of a rotated rectangle in frame pixels, clockwise from the part's top left."""

Scores: TypeAlias = Float64[np.ndarray, " _parts"]
"""One score per part; higher is worse."""


class Label(StrEnum):
    """A person's label of a part."""

    GOOD = "good"
    BAD = "bad"


class State(StrEnum):
    """An inspector's verdict on a part. Only a completed judgement is ever ``GO``."""

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
        """Centre of the box."""
        return ((self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2)

    def intersection(self, other: Box) -> Box:
        """The overlap of two boxes; has zero area if they do not overlap."""
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
        """The same box in a picture scaled by these factors."""
        return Box(x1=self.x1 * across, y1=self.y1 * down, x2=self.x2 * across, y2=self.y2 * down)

    def expanded(self, left: float, top: float, right: float, bottom: float) -> Box:
        """The box with each edge moved outwards by a number of pixels."""
        return Box(x1=self.x1 - left, y1=self.y1 - top, x2=self.x2 + right, y2=self.y2 + bottom)


Region: TypeAlias = Box | Quad
"""The area that is cut out and judged, in frame pixels; may extend beyond the frame."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """Position of the part in one frame, tight and without margin, or the reason why it was not found."""

    present: bool
    reason: str = ""
    """Why the part was not found, in one sentence; empty if it was found."""
    box: Box | None = None
    """The smallest axis-parallel box around the part, inside the frame; ``None`` if it was not found."""
    quad: Quad | None = None
    """The rotated rectangle around the part; may extend beyond the frame. ``None`` if only a box is known."""
    margin: float = 0.0
    """Margin of the inspected region around the part on every side, as a share of its size along that axis."""
    confidence: float | None = None
    """Probability that this is the part, if the method gives one."""

    @property
    def region(self) -> Region | None:
        """The region to judge, including the margin: the rotated rectangle if there is one, otherwise the box."""
        return self.crop_box if self.quad is None else self.crop_quad

    @property
    def crop_box(self) -> Box | None:
        """The box with its margin; may extend beyond the frame."""
        if self.box is None:
            return None
        along_x, along_y = self.margin * self.box.width, self.margin * self.box.height
        return self.box.expanded(along_x, along_y, along_x, along_y)

    @property
    def crop_quad(self) -> Quad | None:
        """The quad with its margin; may extend beyond the frame."""
        if self.quad is None:
            return None
        corners = np.asarray(self.quad)
        to_right, down = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]], corners[[3, 2, 2, 3]] - corners[[0, 1, 1, 0]]
        moved = corners + self.margin * (to_right * [[-1], [1], [1], [-1]] + down * [[-1], [-1], [1], [1]])
        first, second, third, fourth = ((float(x), float(y)) for x, y in moved)
        return (first, second, third, fourth)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One side of an operating point: a certified bound on an error rate, with the counts that prove it.

    With probability at least ``confidence`` over the draw of the calibration parts, the error rate of future parts from
    the same process is at most ``max_rate``. ``error`` is ``"escape"`` (bad judged go) or ``"overkill"`` (good judged
    no-go).
    """

    error: str
    max_rate: float
    confidence: float
    parts: int
    """Number of independent calibration parts of the claim's class (bad parts for escapes)."""
    allowed: int | None
    """How many of them may fall on the wrong side (k); ``None`` if the claim cannot be made."""
    parts_missing: int
    """How many more such parts are needed for the claim; 0 if it holds."""
    best_rate: float
    """The smallest rate that these parts could certify at this confidence (1 without parts)."""

    @property
    def holds(self) -> bool:
        """Whether the data support the claim."""
        return self.allowed is not None


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Two thresholds on the score: below ``go_below`` is go, above ``no_go_above`` is no-go, between is review.

    Both comparisons are strict, so a score equal to a threshold goes to review. With ``go_below = -inf`` nothing
    passes; with ``no_go_above = inf`` nothing is rejected.
    """

    go_below: float
    no_go_above: float
    escape: Claim
    overkill: Claim
    joint: bool = False
    """Whether both claims hold jointly at their confidence (each with half the risk)."""
    scores_sha256: str = ""
    """Digest of the sorted calibration scores, good then bad, as little-endian float64."""
    data_fingerprint: str = ""
    """Digest of the calibration split that the scores came from."""
    zones_sha256: str = ""
    """Digest of the zones that the parts were judged with; empty without zones."""
    go_without_promise: bool = False
    """Whether parts may pass without an escape claim, on explicit request. False if the claim holds."""
    rules_sha256: str = ""
    """Digest of the rules that reject parts and were certified together with the thresholds, see `gonogo.rules`; empty
    if there were none."""

    def __post_init__(self) -> None:
        if math.isnan(self.go_below) or math.isnan(self.no_go_above) or self.go_below > self.no_go_above:
            raise ValueError(f"expected go_below <= no_go_above, found {self.go_below} and {self.no_go_above}")

    def state(self, score: float) -> State:
        """Return the verdict for a finite score: go, no-go or review.

        Raises:
            ValueError: The score is not finite.
        """
        if not math.isfinite(score):
            raise ValueError(f"expected a finite score, found {score}")
        if score < self.go_below:
            return State.GO
        if score > self.no_go_above:
            return State.NO_GO
        return State.REVIEW


@dataclass(frozen=True, kw_only=True)
class ZoneVerdict:
    """The judgement of one inspect zone, or of the rest of the part."""

    name: str
    score: float
    """In the unit of the part's score, which is the highest of its zones."""
    state: State
    """What the part would be if this zone alone decided."""


@dataclass(frozen=True, kw_only=True)
class PartIdentity:
    """What the codes on a part say about it; see `gonogo.codes`."""

    codes: tuple[str, ...] = ()
    """Texts of the codes that were read, in the order of the zones."""
    trouble: str = ""
    """Why a code is missing, or contradicts another one; empty if all were read."""
    part: str | None = None
    lot: str | None = None
    product: str | None = None
    serial: str | None = None

    @property
    def name(self) -> str | None:
        """Name of the part: the one in the code, otherwise its serial number."""
        return self.part or self.serial


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One defect, measured on the photograph; see `gonogo.measure`. Errors are half-widths of 95 % intervals."""

    length_mm: float
    length_error_mm: float
    width_mm: float
    width_error_mm: float
    area_mm2: float
    area_error_mm2: float
    path_xy: tuple[tuple[float, float], ...]
    """Points along its length, in frame pixels."""
    refined: bool
    """Whether it stands out in the photograph; otherwise it was measured on the heat map, whose cells are coarse."""
    zone: str | None = None
    """The zone that its middle lies in, if a rule names it."""

    @property
    def middle_xy(self) -> tuple[float, float]:
        """A point on the defect, halfway along its length."""
        return self.path_xy[len(self.path_xy) // 2]


@dataclass(frozen=True, kw_only=True)
class FoundItem:
    """One item that was found in a presence zone."""

    centre_xy: tuple[float, float]
    """In frame pixels."""
    correlation: float
    """Normalised correlation with the template, at most 1."""
    colour: float
    """Distance of the mean colours, CIE 1976."""


@dataclass(frozen=True, kw_only=True)
class ItemCount:
    """The items of one presence zone; see `gonogo.presence`."""

    zone: str
    expected: int
    items: tuple[FoundItem, ...]
    """The items that were found, from top to bottom."""

    @property
    def complete(self) -> bool:
        """Whether as many were found as expected."""
        return len(self.items) == self.expected


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judgement of one frame, and its reason.

    Example:
        >>> Verdict(state=State.REVIEW, score=0.3, reason="Between the thresholds.").state == "review"
        True
    """

    state: State
    score: float | None
    """Raw defect logit, higher is worse; ``None`` only for a fault. A fault has one if only a code is unreadable."""
    reason: str
    """The reason, in one sentence."""
    box: Box | None = None
    """Tight box around the part, in frame pixels; the whole frame if the recipe has no region of interest."""
    region: Region | None = None
    """The judged region: the part with its margin, as a box or a rotated rectangle in frame pixels."""
    margin: float = 0.0
    """Margin in ``region`` on every side, as a share of the part's size along that axis."""
    zones: tuple[ZoneVerdict, ...] = ()
    """The inspect zones in the recipe's order, then the rest; empty without inspect zones."""
    zone: str = ""
    """The zone whose score is that of the part; empty without inspect zones."""
    zone_numbers: UInt8[np.ndarray, "_rows _columns"] | None = None
    """Zone of every cell of the heat map: the place in ``zones`` from 1, and 0 for a cell that ignore zones leave out.
    ``None`` if the recipe has no zones. The cells left out have the lowest value of the heat map."""
    heatmap: DefectMap | None = None
    """Defect evidence over ``region``, in score units; pooling it and adding the bias gives the score.

    ``None`` for a fault, and if the classifier was imported from another framework without a map. With tiling, the
    equality holds for the cells of the worst window, see `gonogo.tiling`. With inspect zones, it holds for the cells of
    the deciding zone and that zone's bias; cells left out count nowhere.
    """
    shift_xy: tuple[float, float] = (0.0, 0.0)
    """Offset of the point that a heat map cell responds to, in cells right of and below the centre of its square.

    With strided convolutions and symmetric padding, that point is up to half a cell above and left of the centre.
    """
    feature_vector: FeatureVector | None = None
    kind: str | None = None
    """For a no-go or a review, if the inspector knows defect kinds: the likeliest one, or that none fits."""
    kind_share: float | None = None
    """Share of that kind, 0 to 1; ``None`` if it is unlike any known kind."""
    measurements: tuple[Measurement, ...] = ()
    """The defects, the longest first, if the recipe has a scale."""
    counts: tuple[ItemCount, ...] = ()
    """One for each presence zone of the recipe."""
    notes: tuple[str, ...] = ()
    """What the rules found, one sentence each; a go may have notes."""
    rejected_by_rule: bool = False
    """Whether a rule with ``then = "no_go"`` applies; certification counts the part as rejected."""
    doubt: str = ""
    """In a cascade: why the second network was asked; empty if the first one decided."""
    windows: int = 1
    """Number of windows in which the region was judged; ``timings_ms["network"]`` is their total time."""
    out_of_distribution: bool = False
    """Whether only the out-of-distribution check sent the part to review."""
    identity: PartIdentity | None = None
    """What the codes on the part say; ``None`` if the recipe has no code zone, or no code was read."""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    """Duration of each stage; ``total`` includes decoding if a file or encoded bytes were judged."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A judged picture with its label; metrics are computed from these rows."""

    file: str
    part: str
    label: Label
    defect: str | None
    state: State
    score: float | None
    """``None`` for a fault."""
    kind: str | None = None
    """The predicted defect kind, see `Verdict`."""
    out_of_distribution: bool = False
    """Whether only the out-of-distribution check sent it to review."""
    rejected_by_rule: bool = False
    """See `Verdict`."""
    pointing_hit: bool | None = None
    """Whether the hottest point of the heat map lies on the mask; ``None`` without a mask."""
    centre_hit: bool | None = None
    """The same for the centre of the judged region, as a baseline."""
    energy_inside: float | None = None
    """Share of the positive heat that lies inside the mask."""
    mask_share: float | None = None
    """Share of the judged region that the mask covers, which is the expected share for a flat map."""
