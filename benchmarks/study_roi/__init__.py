"""Study of the region of interest: none, classical vision, and a learned box."""

from study_roi.speed import time_regions
from study_roi.study import FULL, QUICK, Extent, RegionStudy, Stage, Weights, region_study

__all__ = ["FULL", "QUICK", "Extent", "RegionStudy", "Stage", "Weights", "region_study", "time_regions"]
