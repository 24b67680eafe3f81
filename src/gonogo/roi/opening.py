"""Creates the `Roi` object for an ROI config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gonogo.errors import RecipeError
from gonogo.roi.classical import ClassicalRoi, FixedRoi, Roi
from gonogo.roi.config import FixedConfig, LearnedConfig, RoiConfig, parse_roi_config, read_roi_config
from gonogo.roi.learned import NETWORK, LearnedRoi

if TYPE_CHECKING:
    from gonogo.runtime import Graph

RECIPE = "roi.toml"
"""File name of the ROI config in a bundle."""


def make_roi(recipe: RoiConfig, *, folder: Path | None = None, compiled: Callable[[Path], Graph] | None = None) -> Roi:
    """Create the method that an ROI config describes.

    Args:
        recipe: The ROI config.
        folder: Folder of the network, for a learned ROI.
        compiled: Compiles that network; by default for the CPU.

    Raises:
        RecipeError: The network of a learned ROI is missing.
        BundleError: OpenVINO cannot compile the network.
    """
    if isinstance(recipe, FixedConfig):
        return FixedRoi(recipe)
    if not isinstance(recipe, LearnedConfig):
        return ClassicalRoi(recipe)
    network = None if folder is None else folder / NETWORK
    if network is None or not network.is_file():
        raise RecipeError(
            f"{folder or 'ROI config'}: expected the network {NETWORK} beside the learned ROI config, found none. "
            "Copy the whole folder, or train again with --roi learned."
        )
    if compiled is None:
        from gonogo.runtime import compile_graph  # imported only if there is a network

        return LearnedRoi(recipe, compile_graph(network))
    return LearnedRoi(recipe, compiled(network))


def open_roi(path: Path, *, text: str | None = None, compiled: Callable[[Path], Graph] | None = None) -> Roi:
    """Read an ROI config and create its method; see `make_roi`.

    Args:
        path: The ROI config.
        text: Content of the file, if the caller has already read it.
        compiled: Compiles the network of a learned ROI; by default for the CPU.
    """
    recipe = read_roi_config(path) if text is None else parse_roi_config(text, name=str(path))
    return make_roi(recipe, folder=path.parent, compiled=compiled)
