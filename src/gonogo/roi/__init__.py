"""The region of interest (ROI): strict ROI configs, and the classical or learned methods that find the part.

This module exports what inspection needs. Modules that read data sets are `gonogo.roi.tuning` and
`gonogo.roi.scoring`.
"""

from gonogo.roi.classical import ClassicalRoi, FixedRoi, Roi, WholeRoi
from gonogo.roi.config import (
    FIXED_MARGIN,
    ClassicalConfig,
    FixedConfig,
    LearnedConfig,
    RoiConfig,
    parse_roi_config,
    read_roi_config,
    roi_config_as_toml,
    write_roi_config,
)
from gonogo.roi.learned import NETWORK, LearnedRoi
from gonogo.roi.margin import Margin, conformal_margin, margin_parts_needed, outward_residual
from gonogo.roi.opening import RECIPE, make_roi, open_roi
from gonogo.roi.preview import draw_preview, preview, preview_morphology
from gonogo.roi.timing import RoiTiming, time_roi

__all__ = [
    "FIXED_MARGIN",
    "NETWORK",
    "RECIPE",
    "ClassicalConfig",
    "ClassicalRoi",
    "FixedConfig",
    "FixedRoi",
    "LearnedConfig",
    "LearnedRoi",
    "Margin",
    "Roi",
    "RoiConfig",
    "RoiTiming",
    "WholeRoi",
    "conformal_margin",
    "draw_preview",
    "make_roi",
    "margin_parts_needed",
    "open_roi",
    "outward_residual",
    "parse_roi_config",
    "preview",
    "preview_morphology",
    "read_roi_config",
    "roi_config_as_toml",
    "time_roi",
    "write_roi_config",
]
