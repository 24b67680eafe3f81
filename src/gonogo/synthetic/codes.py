"""Draws DataMatrix, QR and 1-D codes as a camera sees them: sized, blurred, with glare and noise. Needs zxing-cpp."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from gonogo.config import CodeFormat
from gonogo.schema import Frame

_SCALE = 8


@dataclass(frozen=True, kw_only=True)
class CodeLook:
    """How a code appears in a picture."""

    module_px: float = 4.0
    """Size of one module (the smallest square or bar) in pixels."""
    blur_modules: float = 0.0
    """Standard deviation of the blur, as a share of a module."""
    glare: float = 0.0
    """Brightness of a reflection that crosses the code, 0 to 1: 1 washes its middle out."""
    contrast: float = 0.7
    """Difference between light and dark modules, as a share of white."""
    angle_deg: float = 0.0
    """Rotation, clockwise in the picture."""
    noise: float = 2.0
    """Standard deviation of the noise, in grey values."""


def draw_code(text: str, form: CodeFormat, look: CodeLook | None = None, *, seed: int = 0) -> Frame:
    """Return a picture of a code with its quiet zone; the same arguments always give the same picture."""
    import zxingcpp

    look, rng = look or CodeLook(), np.random.default_rng(seed)
    code = zxingcpp.create_barcode(text, zxingcpp.barcode_format_from_str(form))
    sharp = np.array(zxingcpp.write_barcode_to_image(code, scale=_SCALE)).astype(np.float32) / 255
    height, width = (int(side * look.module_px / _SCALE) + 1 for side in sharp.shape)
    side = int(np.hypot(height, width)) + 2
    size_wh = (side, side) if look.angle_deg % 90 else (width, height)
    turn = cv2.getRotationMatrix2D((sharp.shape[1] / 2, sharp.shape[0] / 2), -look.angle_deg, look.module_px / _SCALE)
    turn[0, 2] += (size_wh[0] - sharp.shape[1]) / 2
    turn[1, 2] += (size_wh[1] - sharp.shape[0]) / 2
    drawn = cv2.warpAffine(
        cv2.GaussianBlur(sharp, (0, 0), max(look.blur_modules * _SCALE, _SCALE / look.module_px / 2)),
        turn,
        size_wh,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=1.0,
    )
    grey = 0.5 + (drawn - 0.5) * look.contrast
    down, along = np.mgrid[0 : size_wh[1], 0 : size_wh[0]] / max(size_wh)
    centre, slope = rng.uniform(0.2, 0.8), rng.uniform(-0.5, 0.5)
    streak = np.exp(-(((along + slope * down - centre) / 0.12) ** 2))
    grey = grey + look.glare * streak * (1 - grey) + rng.normal(0, look.noise / 255, grey.shape)
    return np.repeat(np.clip(np.rint(grey * 255), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
