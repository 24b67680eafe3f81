"""The QR code of a page's address, as the path of an SVG drawing."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

_QUIET = 2  # modules of white around the code; scanners of screens and paper need no more


@dataclass(frozen=True, kw_only=True)
class QrCode:
    """A QR code in units of its modules."""

    side: int
    """Width and height of the drawing, with its white border."""
    path: str
    """The dark modules, as the ``d`` of an SVG path."""


@functools.lru_cache(maxsize=256)
def qr_code(text: str) -> QrCode | None:
    """Return the code of a text; ``None`` without the package zxing-cpp."""
    try:
        import zxingcpp
    except ModuleNotFoundError:
        return None
    barcode = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode)
    dark = np.asarray(zxingcpp.write_barcode_to_image(barcode, add_quiet_zones=False)) < 128
    pieces = []
    for y, row in enumerate(dark):
        ends = np.flatnonzero(np.diff(np.concatenate(([False], row, [False]))))
        pieces += [
            f"M{x1 + _QUIET} {y + _QUIET}h{x2 - x1}v1h{x1 - x2}z" for x1, x2 in zip(ends[::2], ends[1::2], strict=True)
        ]
    return QrCode(side=len(dark) + 2 * _QUIET, path="".join(pieces))
