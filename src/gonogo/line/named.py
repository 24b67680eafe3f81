"""Types that the settings of all adapters share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

Seconds: TypeAlias = Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)]
AdapterName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
