"""``[reject]`` of ``station.toml``: how a part is followed from the camera to the gate."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from gonogo.config import Strict

Deviation: TypeAlias = Literal["missing", "unexpected", "backwards", "silent", "unasked"]
"""What may go wrong between camera and gate, see `RejectSettings.stop_on`."""


class RejectSettings(Strict):
    """``[reject]``: parts are tracked from the camera to the gate; a reject must be confirmed by a second sensor.

    The line reports three running totals (``POST /line``); distances are in encoder counts or in places.
    """

    track: Literal["encoder", "shift_register"]
    """``encoder``: the count moves with the belt. ``shift_register``: the count is the number of clocks; at each, every
    part advances by one place."""
    distance: int = Field(ge=1, le=1_000_000)
    """From the camera to the sensor at the gate."""
    tolerance: int = Field(default=0, ge=0, le=100_000)
    """A part belongs to a trigger if it comes to the gate at ``distance``, plus or minus this."""
    counter_bits: Literal[16, 32] = 32
    """Width of the totals, which start again at 0."""
    confirm_within_s: float = Field(default=1.0, gt=0, le=60, allow_inf_nan=False)
    """A reject that the second sensor does not confirm within this time stops the line."""
    confirm_after_s: float = Field(default=0.0, ge=0, le=60, allow_inf_nan=False)
    """Least time from the order to its confirmation. A reject must be confirmed before the confirmation of the next one
    can come, or a missing one could not be told from it: raise this where the second sensor is far from the gate."""
    silent_s: float = Field(default=5.0, gt=0, le=3600, allow_inf_nan=False)
    """The line must report at least this often, also while the belt stands still."""
    pass_review: bool = False
    """Let parts in review pass the gate, because a person decides behind it. Otherwise they are rejected."""
    stop_on: tuple[Deviation, ...] = ("unasked",)
    """What stops the line as well.

    ``missing``: a go that does not come to the gate; ``unexpected``: a part at the gate that belongs to no trigger;
    ``backwards``: the count runs back by more than the tolerance; ``silent``: no report for ``silent_s``; ``unasked``:
    a confirmation without an order. After one of the first four that is not listed, every part between camera and gate
    is rejected; one of the last kind is only recorded.
    """

    @model_validator(mode="after")
    def _has_windows_within_the_distance(self) -> RejectSettings:
        if self.confirm_after_s >= self.confirm_within_s:
            within, after = self.confirm_within_s, self.confirm_after_s
            raise ValueError(f"confirm_after_s: expected less than confirm_within_s ({within:g}), found {after:g}")
        if self.tolerance >= self.distance:
            raise ValueError(f"tolerance: expected less than distance ({self.distance}), found {self.tolerance}")
        if self.track == "encoder" and self.tolerance == 0:
            raise ValueError("tolerance: expected at least 1 count with an encoder, found 0")
        return self
