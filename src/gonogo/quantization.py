"""How far the judgements of a quantized bundle agree with those of the bundle it was made from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gonogo import operating_point
from gonogo.config import Strict


class CountedRate(Strict):
    """So many of so many parts, and the exact one-sided upper bound of their rate at the section's confidence."""

    count: int = Field(ge=0)
    of: int = Field(gt=0)
    at_most: float = Field(ge=0, le=1)


class Quantization(Strict):
    """The bundle of full precision that this one was made from, and how far their judgements agree.

    Made by ``gonogo bundle quantize``. Operating point, golden scores and heat scale are the quantized graph's own.
    """

    source_sha256: str
    """Names the bundle it was made from."""
    arithmetic: Literal["int8", "bf16"]
    """``bf16``: the same graph, everything else in the manifest's ``precision``."""
    int8_layers: int = Field(ge=0)
    """Convolutions and matrix products in INT8."""
    float_layers: int = Field(ge=0)
    """Those left in the manifest's ``precision``."""
    nncf: str
    """Version of the tool; empty for ``bf16``."""
    preset: str
    """``performance`` or ``mixed``; empty for ``bf16``."""
    calibration_pictures: int = Field(ge=0)
    """Pictures from train and val that the ranges of the INT8 numbers were taken from."""
    splits: tuple[str, ...] = Field(strict=False)
    """Where the compared parts come from."""
    confidence: float
    flips: CountedRate
    """Parts that went from go to no-go or back."""
    moves: CountedRate
    """Parts that went into or out of review."""
    test_flips: CountedRate | None = None
    """Flips among the parts that set no threshold either."""
    test_moves: CountedRate | None = None
    pointing_pictures: int = Field(ge=0)
    """Compared pictures with a marked defect."""
    pointing_before: float | None
    """Share of them whose hottest point lies on the mark, before and after."""
    pointing_after: float | None
    map_correlation: float | None
    """Median correlation of the two defect maps over pictures not judged go."""
    map_correlation_low: float | None
    """What all but 5 % of those pictures exceed."""

    def sentences(self) -> list[str]:
        """The same for people."""
        int8 = f"{self.int8_layers} layers in INT8, {self.float_layers} not"
        lines = [
            f"Made from bundle {self.source_sha256[:16]}: {int8 if self.arithmetic == 'int8' else 'BF16'}.",
            f"Compared on parts of {' and '.join(self.splits)}, which trained neither:",
            f"Go became no-go or the reverse: {self._said(self.flips)}.",
            f"Went into or out of review: {self._said(self.moves)}.",
        ]
        if self.test_flips is not None and self.test_moves is not None and self.test_flips.of < self.flips.of:
            lines += [
                "On the test parts alone, which set no threshold either: "
                f"{self._said(self.test_flips)}; review {self._said(self.test_moves)}."
            ]
        if self.pointing_before is not None and self.pointing_after is not None:
            lines += [
                f"Hottest point on the marked defect: {self.pointing_after:.1%}, before {self.pointing_before:.1%} "
                f"({self.pointing_pictures} pictures)."
            ]
        if self.map_correlation is not None and self.map_correlation_low is not None:
            lines += [
                f"Correlation of the defect maps: median {self.map_correlation:.3f}, 95 % of the pictures above "
                f"{self.map_correlation_low:.3f}."
            ]
        return lines

    def _said(self, counted: CountedRate) -> str:
        bound, sure = operating_point.as_percent(counted.at_most), operating_point.as_percent(self.confidence)
        return f"{counted.count} of {counted.of}, at most {bound} of later parts at {sure} confidence"
