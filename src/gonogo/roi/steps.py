"""The steps of a classical ROI config: OpenCV operations with their parameters.

Sizes are in pixels of the reduced picture (`ClassicalConfig.side_px`, by default 320 along its long side), and odd, so
that no step shifts an edge. Kernels are rectangular by default, because OpenCV's rectangular morphology costs the same
at every size, while the cost of an elliptical kernel grows with its area.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, TypeAlias

import cv2
import numpy as np
from pydantic import AfterValidator, Field, model_validator

from gonogo.array_types import UInt8
from gonogo.config import Strict

Picture: TypeAlias = UInt8[np.ndarray, "height width *channels"]
"""Input and output of steps: RGB, grey, or a mask of 0 and 255."""


class StepKind(StrEnum):
    """Type of a picture; used to refuse steps that do not fit together before they run."""

    COLOUR = "colour picture"
    GREY = "grey picture"
    MASK = "mask"


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("expected an odd number of pixels")
    return value


Size = Annotated[int, Field(ge=3, le=127), AfterValidator(_odd)]
Level = Annotated[int, Field(ge=0, le=255)]
Side = Literal["dark", "bright"]
_ANY = (StepKind.COLOUR, StepKind.GREY, StepKind.MASK)
_PIXELS = (StepKind.COLOUR, StepKind.GREY)


class Grey(Strict):
    """Luminance: 0.299 R + 0.587 G + 0.114 B."""

    takes: ClassVar[tuple[StepKind, ...]] = (StepKind.COLOUR,)
    gives: ClassVar[StepKind | None] = StepKind.GREY
    step: Literal["grey"] = "grey"

    def apply(self, picture: Picture) -> Picture:
        """Convert an RGB picture to grey."""
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


class Channel(Strict):
    """One channel: a colour, the brightest or darkest of the three, or their difference (chroma)."""

    takes: ClassVar[tuple[StepKind, ...]] = (StepKind.COLOUR,)
    gives: ClassVar[StepKind | None] = StepKind.GREY
    step: Literal["channel"] = "channel"
    channel: Literal["red", "green", "blue", "brightest", "darkest", "chroma"]

    def apply(self, picture: Picture) -> Picture:
        """Extract the channel of an RGB picture."""
        planes = cv2.split(picture)
        if self.channel in ("red", "green", "blue"):
            return np.asarray(planes[("red", "green", "blue").index(self.channel)], np.uint8)
        brightest = cv2.max(cv2.max(planes[0], planes[1]), planes[2])
        if self.channel == "brightest":
            return np.asarray(brightest, np.uint8)
        darkest = cv2.min(cv2.min(planes[0], planes[1]), planes[2])
        return np.asarray(darkest if self.channel == "darkest" else cv2.subtract(brightest, darkest), np.uint8)


class Blur(Strict):
    """Gaussian blur."""

    takes: ClassVar[tuple[StepKind, ...]] = _PIXELS
    gives: ClassVar[StepKind | None] = None
    step: Literal["blur"] = "blur"
    size: Size = 5

    def apply(self, picture: Picture) -> Picture:
        """Blur the picture."""
        return np.asarray(cv2.GaussianBlur(picture, (self.size, self.size), 0), np.uint8)


class Median(Strict):
    """Median filter: removes specks and thin lines, keeps edges."""

    takes: ClassVar[tuple[StepKind, ...]] = _ANY
    gives: ClassVar[StepKind | None] = None
    step: Literal["median"] = "median"
    size: Size = 5

    def apply(self, picture: Picture) -> Picture:
        """Filter the picture."""
        return np.asarray(cv2.medianBlur(picture, self.size), np.uint8)


class Clahe(Strict):
    """Contrast limited adaptive histogram equalisation (CLAHE): evens out the illumination."""

    takes: ClassVar[tuple[StepKind, ...]] = (StepKind.GREY,)
    gives: ClassVar[StepKind | None] = None
    step: Literal["clahe"] = "clahe"
    clip: float = Field(default=2.0, gt=0, le=40)
    tiles: int = Field(default=8, ge=1, le=32)

    def apply(self, picture: Picture) -> Picture:
        """Equalise the picture."""
        return np.asarray(cv2.createCLAHE(self.clip, (self.tiles, self.tiles)).apply(picture), np.uint8)


class ThresholdOtsu(Strict):
    """Keep what is darker or brighter than Otsu's level plus an offset in grey levels."""

    takes: ClassVar[tuple[StepKind, ...]] = (StepKind.GREY,)
    gives: ClassVar[StepKind | None] = StepKind.MASK
    step: Literal["threshold-otsu"] = "threshold-otsu"
    keep: Side = "dark"
    offset: int = Field(default=0, ge=-255, le=255)

    def apply(self, picture: Picture) -> Picture:
        """The mask."""
        level, _ = cv2.threshold(picture, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        return _beyond(picture, level + self.offset, self.keep)


class ThresholdAdaptive(Strict):
    """Keep what is darker or brighter than the mean of its surroundings by more than ``offset`` grey levels."""

    takes: ClassVar[tuple[StepKind, ...]] = (StepKind.GREY,)
    gives: ClassVar[StepKind | None] = StepKind.MASK
    step: Literal["threshold-adaptive"] = "threshold-adaptive"
    keep: Side = "dark"
    size: Size = 51
    offset: int = Field(default=5, ge=-255, le=255)

    def apply(self, picture: Picture) -> Picture:
        """The mask."""
        dark = self.keep == "dark"
        kind, shift = (cv2.THRESH_BINARY_INV, self.offset) if dark else (cv2.THRESH_BINARY, -self.offset)
        mask = cv2.adaptiveThreshold(picture, 255, cv2.ADAPTIVE_THRESH_MEAN_C, kind, self.size, shift)
        return np.asarray(mask, np.uint8)


class ThresholdFixed(Strict):
    """Keep what is at most (dark) or above (bright) a grey level."""

    takes: ClassVar[tuple[StepKind, ...]] = (StepKind.GREY,)
    gives: ClassVar[StepKind | None] = StepKind.MASK
    step: Literal["threshold-fixed"] = "threshold-fixed"
    keep: Side = "dark"
    level: Level = 128

    def apply(self, picture: Picture) -> Picture:
        """The mask."""
        return _beyond(picture, self.level, self.keep)


class Canny(Strict):
    """Canny's edges, one pixel wide; the two levels are on the L1 gradient of a 3 x 3 Sobel."""

    takes: ClassVar[tuple[StepKind, ...]] = _PIXELS
    gives: ClassVar[StepKind | None] = StepKind.MASK
    step: Literal["canny"] = "canny"
    low: int = Field(default=60, ge=0, le=2000)
    high: int = Field(default=150, ge=0, le=2000)

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Canny:
        if self.low > self.high:
            raise ValueError(f"expected low <= high, found low = {self.low} and high = {self.high}")
        return self

    def apply(self, picture: Picture) -> Picture:
        """The mask of edges."""
        return np.asarray(cv2.Canny(picture, self.low, self.high), np.uint8)


class _Morphology(Strict):
    """A morphological operation with a kernel."""

    takes: ClassVar[tuple[StepKind, ...]] = _ANY
    gives: ClassVar[StepKind | None] = None
    operation: ClassVar[int]
    size: Size = 5
    kernel: Literal["rectangle", "ellipse"] = "rectangle"

    def apply(self, picture: Picture) -> Picture:
        """Apply the operation."""
        shape = cv2.MORPH_RECT if self.kernel == "rectangle" else cv2.MORPH_ELLIPSE
        kernel = cv2.getStructuringElement(shape, (self.size, self.size))
        return np.asarray(cv2.morphologyEx(picture, self.operation, kernel), np.uint8)


class Erode(_Morphology):
    """Erode: the minimum under the kernel, so that bright areas shrink."""

    operation = cv2.MORPH_ERODE
    step: Literal["erode"] = "erode"


class Dilate(_Morphology):
    """Dilate: the maximum under the kernel, so that bright areas grow."""

    operation = cv2.MORPH_DILATE
    step: Literal["dilate"] = "dilate"


class Open(_Morphology):
    """Erode, then dilate: removes bright areas smaller than the kernel."""

    operation = cv2.MORPH_OPEN
    step: Literal["open"] = "open"


class Close(_Morphology):
    """Dilate, then erode: closes gaps smaller than the kernel."""

    operation = cv2.MORPH_CLOSE
    step: Literal["close"] = "close"


class Gradient(_Morphology):
    """Dilation minus erosion: outlines."""

    operation = cv2.MORPH_GRADIENT
    step: Literal["gradient"] = "gradient"


class TopHat(_Morphology):
    """The picture minus its opening: bright areas smaller than the kernel."""

    operation = cv2.MORPH_TOPHAT
    step: Literal["top-hat"] = "top-hat"


class BlackHat(_Morphology):
    """The closing minus the picture: dark areas smaller than the kernel."""

    operation = cv2.MORPH_BLACKHAT
    step: Literal["black-hat"] = "black-hat"


class Fill(Strict):
    """Fill the holes of every region."""

    takes: ClassVar[tuple[StepKind, ...]] = (StepKind.MASK,)
    gives: ClassVar[StepKind | None] = None
    step: Literal["fill"] = "fill"

    def apply(self, picture: Picture) -> Picture:
        """Fill the holes of the mask."""
        outlines, _ = cv2.findContours(picture, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        return np.asarray(cv2.drawContours(np.zeros_like(picture), outlines, -1, 255, cv2.FILLED), np.uint8)


Step = Annotated[
    Grey
    | Channel
    | Blur
    | Median
    | Clahe
    | ThresholdOtsu
    | ThresholdAdaptive
    | ThresholdFixed
    | Canny
    | Erode
    | Dilate
    | Open
    | Close
    | Gradient
    | TopHat
    | BlackHat
    | Fill,
    Field(discriminator="step"),
]


def require_mask(steps: tuple[Step, ...]) -> None:
    """Check that every step accepts the output of the previous step, and that the last step gives a mask.

    Raises:
        ValueError: A step does not fit; the message names the first such step, its expected and its actual input.
    """
    kind = StepKind.COLOUR
    for number, step in enumerate(steps):
        if kind not in step.takes:
            raise ValueError(f"step {number} ({step.step}): expected a {' or '.join(step.takes)}, found a {kind}")
        kind = step.gives or kind
    if kind is not StepKind.MASK:
        raise ValueError(f"expected the last step to give a mask (such as a threshold or canny), found a {kind}")


def describe_step(step: Step) -> str:
    """Return the name and parameters in one line, such as ``close 9``."""
    words: list[str] = [step.step]
    for key, value in step.model_dump(exclude={"step"}).items():
        if key == "offset":
            words.append(f"{value:+d}")
        elif value != "rectangle":
            words.append(str(value))
    return " ".join(words)


def _beyond(picture: Picture, level: float, keep: Side) -> Picture:
    kind = cv2.THRESH_BINARY_INV if keep == "dark" else cv2.THRESH_BINARY
    return np.asarray(cv2.threshold(picture, level, 255, kind)[1], np.uint8)
