"""From a recipe to what carries it out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gonogo.errors import RecipeError
from gonogo.roi.classical import ClassicalRoi, FixedRoi, Roi
from gonogo.roi.config import FixedConfig, LearnedConfig, RoiRecipe, parse_roi_config, read_roi_config
from gonogo.roi.learned import NETWORK, LearnedRoi

if TYPE_CHECKING:
    from gonogo.runtime import Graph

RECIPE = "roi.toml"
"""The recipe's file in a bundle."""


def make_roi(recipe: RoiRecipe, *, folder: Path | None = None, compiled: Callable[[Path], Graph] | None = None) -> Roi:
    """What carries a recipe out.

    Args:
        recipe: How the region is found.
        folder: Where the network of a learned recipe lies.
        compiled: How that network is compiled; for the CPU where omitted.

    Raises:
        RecipeError: a learned recipe without its network.
        BundleError: a network that OpenVINO cannot compile.
    """
    if isinstance(recipe, FixedConfig):
        return FixedRoi(recipe)
    if not isinstance(recipe, LearnedConfig):
        return ClassicalRoi(recipe)
    network = None if folder is None else folder / NETWORK
    if network is None or not network.is_file():
        raise RecipeError(
            f"{folder or 'recipe'}: a learned recipe needs its network {NETWORK} beside it, found none. "
            "Copy the whole folder, or train anew with --roi learned."
        )
    if compiled is None:
        from gonogo.runtime import compile_graph  # only who needs a network pays for OpenVINO

        return LearnedRoi(recipe, compile_graph(network))
    return LearnedRoi(recipe, compiled(network))


def open_roi(path: Path, *, text: str | None = None, compiled: Callable[[Path], Graph] | None = None) -> Roi:
    """Read a recipe's file and make what carries it out; see `make_roi`.

    Args:
        path: The recipe's file.
        text: What is in it, for a caller who has read and checked it.
        compiled: How the network of a learned recipe is compiled; for the CPU where omitted.
    """
    recipe = read_roi_config(path) if text is None else parse_roi_config(text, name=str(path))
    return make_roi(recipe, folder=path.parent, compiled=compiled)
