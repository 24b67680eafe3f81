"""What a bundle checks besides the score: sizes of defects, and the health of pictures."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from gonogo.config.strict import Strict
from gonogo.config.zones import Then


class Scale(Strict):
    """``[scale]``: how large a pixel is, from ``gonogo roi calibrate``; one camera at one distance."""

    mm_per_px: float = Field(gt=0, allow_inf_nan=False)
    """Millimetres per pixel of the full-size picture, at the middle of the calibrated target."""
    relative_error: float = Field(ge=0, lt=1)
    """95 % of the lengths on the calibrated target were wrong by at most this share."""
    homography: tuple[float, float, float, float, float, float, float, float, float] | None = Field(
        default=None, strict=False
    )
    """For a tilted camera: row by row, the 3 x 3 matrix from pixels to millimetres in the plane of the target."""
    size_wh: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = Field(strict=False)
    """Full size of the calibrated picture; parts in pictures of another size are not measured."""
    target: str = Field(default="", max_length=200)
    """What was calibrated on, for the reader."""


class Rule(Strict):
    """``[[rules]]``: a limit on the size of a defect, in addition to the certified score; see `gonogo.measure`.

    A rule never makes a verdict better. A defect whose size may exceed the limit, counting its measurement error, goes
    to review; with ``then = "no_go"``, one that certainly exceeds it is rejected.
    """

    name: str = Field(pattern=r"^[^\W_][\w .-]{0,39}$")
    zone: str | None = None
    """Only defects whose middle lies in this zone."""
    kind: str | None = None
    """Only if this is the likeliest defect kind of the part; for bundles that name kinds."""
    longer_than_mm: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    wider_than_mm: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    larger_than_mm2: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    then: Then = "review"

    @model_validator(mode="after")
    def _has_one_limit(self) -> Rule:
        if sum(limit is not None for limit in (self.longer_than_mm, self.wider_than_mm, self.larger_than_mm2)) != 1:
            raise ValueError("expected one of longer_than_mm, wider_than_mm and larger_than_mm2")
        if self.then == "no_go" and self.kind is not None:  # a go has no kind, so the rule would depend on thresholds
            raise ValueError("expected no kind for a rule that rejects, because a go has none")
        return self


class PictureHealth(Strict):
    """``[health]``: pictures that must not be judged. The defaults catch gross failures only."""

    darkest: float = Field(default=40.0, ge=0, le=255)
    """Smallest grey value of the brightest 1 % of the pixels."""
    saturated: float = Field(default=0.25, ge=0, le=1)
    """Largest share of pixels that are white in every channel."""
    sharpness: float = Field(default=0.1, ge=0)
    """Smallest edge strength relative to contrast, see `gonogo.images.health`; 0 turns the check off."""
    contrast: float = Field(default=0.0, ge=0, le=128)
    """Smallest standard deviation of the grey values: a covered lens shows nothing; 0 turns the check off."""
