"""The region of interest: strict recipes, carried out by classical vision or by a network that learned the box.

What the line needs is here. What reads data sets stands apart: `gonogo.roi.tuning` and `gonogo.roi.scoring`.
"""

from gonogo.roi.classical import ClassicalRoi, FixedRoi, Roi, WholeRoi
from gonogo.roi.learned import NETWORK, LearnedRoi
from gonogo.roi.margin import Margin, conformal_margin, outward_residual, parts_needed
from gonogo.roi.opening import RECIPE, make_roi, open_roi
from gonogo.roi.preview import draw, preview
from gonogo.roi.recipe import (
    FIXED_MARGIN,
    ClassicalRecipe,
    FixedRecipe,
    LearnedRecipe,
    RoiRecipe,
    parse_recipe,
    read_recipe,
    recipe_as_toml,
    write_recipe,
)
from gonogo.roi.timing import RoiTiming, time_roi

__all__ = [
    "FIXED_MARGIN",
    "NETWORK",
    "RECIPE",
    "ClassicalRecipe",
    "ClassicalRoi",
    "FixedRecipe",
    "FixedRoi",
    "LearnedRecipe",
    "LearnedRoi",
    "Margin",
    "Roi",
    "RoiRecipe",
    "RoiTiming",
    "WholeRoi",
    "conformal_margin",
    "draw",
    "make_roi",
    "open_roi",
    "outward_residual",
    "parse_recipe",
    "parts_needed",
    "preview",
    "read_recipe",
    "recipe_as_toml",
    "time_roi",
    "write_recipe",
]
