"""Agreement between a quantized bundle and the original bundle."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gonogo import operating_point
from gonogo.config import Strict


class CountedRate(Strict):
    """A count of parts, and the exact one-sided upper bound of the rate at the section's confidence."""

    count: int = Field(ge=0)
    of: int = Field(gt=0)
    at_most: float = Field(ge=0, le=1)


class Quantization(Strict):
    """The original bundle of full precision, and how far its judgements agree with the quantized one.

    Written by ``gonogo bundle quantize``. Operating point, golden scores and heat scale are computed with the quantized
    graph.
    """

    source_sha256: str
    """Identity of the original bundle."""
    arithmetic: Literal["int8", "bf16"]
    """``bf16``: the same graph, run in the manifest's ``precision``."""
    int8_layers: int = Field(ge=0)
    """Number of convolutions and matrix products in INT8."""
    float_layers: int = Field(ge=0)
    """Number of convolutions and matrix products left in the manifest's ``precision``."""
    nncf: str
    """Version of the quantization tool; empty for ``bf16``."""
    preset: str
    """``performance`` or ``mixed``; empty for ``bf16``."""
    calibration_pictures: int = Field(ge=0)
    """Number of pictures from train and val that determined the INT8 ranges."""
    splits: tuple[str, ...] = Field(strict=False)
    """Splits of the compared parts."""
    confidence: float
    flips: CountedRate
    """Parts whose verdict changed from go to no-go or back."""
    moves: CountedRate
    """Parts whose verdict changed to or from review."""
    test_flips: CountedRate | None = None
    """Flips among the test parts, which set no threshold."""
    test_moves: CountedRate | None = None
    pointing_pictures: int = Field(ge=0)
    """Number of compared pictures with a defect mask."""
    pointing_before: float | None
    """Share of these pictures whose hottest point lies on the mask, before and after."""
    pointing_after: float | None
    map_correlation: float | None
    """Median correlation of the two heat maps, over the pictures not judged go."""
    map_correlation_low: float | None
    """5 % quantile of that correlation."""

    def sentences(self) -> list[str]:
        """Describe the agreement in sentences."""
        int8 = f"{self.int8_layers} layers in INT8, {self.float_layers} not"
        lines = [
            f"Made from bundle {self.source_sha256[:16]}: {int8 if self.arithmetic == 'int8' else 'BF16'}.",
            f"Compared on parts of {' and '.join(self.splits)}, which neither was trained on:",
            f"Changed between go and no-go: {self._describe_rate(self.flips)}.",
            f"Changed to or from review: {self._describe_rate(self.moves)}.",
        ]
        if self.test_flips is not None and self.test_moves is not None and self.test_flips.of < self.flips.of:
            lines += [
                "On the test parts alone, which set no threshold either: "
                f"{self._describe_rate(self.test_flips)}; review {self._describe_rate(self.test_moves)}."
            ]
        if self.pointing_before is not None and self.pointing_after is not None:
            lines += [
                f"Hottest point on the defect mask: {self.pointing_after:.1%}, before {self.pointing_before:.1%} "
                f"({self.pointing_pictures} pictures)."
            ]
        if self.map_correlation is not None and self.map_correlation_low is not None:
            lines += [
                f"Correlation of the heat maps: median {self.map_correlation:.3f}, 95 % of the pictures above "
                f"{self.map_correlation_low:.3f}."
            ]
        return lines

    def _describe_rate(self, counted: CountedRate) -> str:
        bound, sure = operating_point.as_percent(counted.at_most), operating_point.as_percent(self.confidence)
        return f"{counted.count} of {counted.of}, at most {bound} of future parts at {sure} confidence"
