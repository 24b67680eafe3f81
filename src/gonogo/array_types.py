"""Array annotations: shape and dtype in signatures, checked in tests, free on the line.

``Float32[np.ndarray, "rows columns"]`` is jaxtyping's notation. jaxtyping is imported by type checkers, and where
``GONOGO_CHECK_ARRAYS`` is set, as the tests do. Elsewhere an annotation is the bare array type, so that a process on
the line imports neither jaxtyping nor a checker.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

__all__ = ["Bool", "Float", "Float16", "Float32", "Float64", "Int", "Int8", "Int32", "Int64", "UInt8", "UInt16"]

if TYPE_CHECKING or os.environ.get("GONOGO_CHECK_ARRAYS"):
    from jaxtyping import Bool, Float, Float16, Float32, Float64, Int, Int8, Int32, Int64, UInt8, UInt16
else:

    class _Unchecked:
        """Stands for every annotation: ``_Unchecked[array, shape]`` is ``array``."""

        def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
            return item[0]

    Bool = Float = Float16 = Float32 = Float64 = Int = Int8 = Int32 = Int64 = UInt8 = UInt16 = _Unchecked
