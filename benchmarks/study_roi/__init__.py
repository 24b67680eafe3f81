"""What the region of interest is worth, found by classical vision and by a network that learned the box."""

from study_roi.speed import time_regions
from study_roi.study import FULL, QUICK, Extent, RegionStudy, Stage, Weights, region_study

__all__ = ["FULL", "QUICK", "Extent", "RegionStudy", "Stage", "Weights", "region_study", "time_regions"]
