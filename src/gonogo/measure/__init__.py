"""Sizes in millimetres: calibration of the picture, and measurement of defects on it.

The heat map says where a defect is, in cells of 16 network pixels; its size is measured on the photograph inside and
around the hot cells. Bundles measure if their recipe has a `gonogo.config.Scale`.
"""

from gonogo.measure.calibration import (
    Calibration,
    calibrate_checkerboard,
    calibrate_edge,
    draw_calibration,
    in_mm,
    pixel_mm,
)
from gonogo.measure.defects import LEVEL, measure_defects
from gonogo.measure.drawing import draw_measurements
from gonogo.measure.shape import Shape, measure_shape

__all__ = [
    "LEVEL",
    "Calibration",
    "Shape",
    "calibrate_checkerboard",
    "calibrate_edge",
    "draw_calibration",
    "draw_measurements",
    "in_mm",
    "measure_defects",
    "measure_shape",
    "pixel_mm",
]
