"""The region of interest by classical vision: strict recipes, carried out on a reduced picture.

What the line needs is here. What reads data sets stands apart: `gonogo.roi.tuning` and `gonogo.roi.scoring`.
"""

from gonogo.roi.classical import ClassicalRoi, FixedRoi, Roi, make_roi
from gonogo.roi.geometry import rectify
from gonogo.roi.preview import draw, preview
from gonogo.roi.recipe import (
    ClassicalRecipe,
    FixedRecipe,
    RoiRecipe,
    parse_recipe,
    read_recipe,
    recipe_as_toml,
    write_recipe,
)
from gonogo.roi.timing import RoiTiming, time_roi

__all__ = [
    "ClassicalRecipe",
    "ClassicalRoi",
    "FixedRecipe",
    "FixedRoi",
    "Roi",
    "RoiRecipe",
    "RoiTiming",
    "draw",
    "make_roi",
    "parse_recipe",
    "preview",
    "read_recipe",
    "recipe_as_toml",
    "rectify",
    "time_roi",
    "write_recipe",
]
