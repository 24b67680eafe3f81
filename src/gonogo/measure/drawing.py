"""Draws measured defects on the photograph: the line that was measured, and its length."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from gonogo.schema import Frame, Measurement

_LINE, _PAPER = (255, 255, 255), (20, 20, 24)


def draw_measurements(frame: Frame, measurements: Sequence[Measurement], *, factor: float = 1.0) -> None:
    """Draw on a frame in place.

    Args:
        frame: The picture, possibly reduced.
        measurements: Defects, in pixels of the full-size picture.
        factor: Size of this frame against the full-size picture.
    """
    thick = max(1, round(min(frame.shape[:2]) / 350))
    for found in measurements:
        points = np.rint((np.array(found.path_xy) * factor - 0.5) * 16).astype(np.int32)
        for colour, width in ((_PAPER, 3 * thick), (_LINE, thick)):
            cv2.polylines(frame, [points], isClosed=False, color=colour, thickness=width, lineType=cv2.LINE_AA, shift=4)
        for end in (points[0], points[-1]):
            cv2.circle(frame, end.tolist(), 16 * 2 * thick, _LINE, -1, cv2.LINE_AA, 4)
    for found in measurements:  # above all lines
        _label(frame, f"{found.length_mm:.2f} mm", np.array(found.path_xy[-1]) * factor, thick)


def _label(frame: Frame, text: str, end: np.ndarray, thick: int) -> None:
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.45 * thick
    (width, height), base = cv2.getTextSize(text, font, size, thick)
    x = int(np.clip(end[0] + 6 * thick, 0, max(0, frame.shape[1] - width - 4)))
    y = int(np.clip(end[1] + 6 * thick, height + 4, max(height + 4, frame.shape[0] - base - 2)))
    cv2.rectangle(frame, (x - 3, y - height - 4), (x + width + 3, y + base), _PAPER, -1)
    cv2.putText(frame, text, (x, y), font, size, _LINE, thick, cv2.LINE_AA)
