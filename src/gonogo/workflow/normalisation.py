"""Which input normalisation a backbone's weights may have been made for."""

from __future__ import annotations

from gonogo.model import IMAGENET, SYMMETRIC, Normalisation, architecture


def candidates(declared: Normalisation | None, backbone: str, weights: str) -> list[Normalisation]:
    """The declared one, the architecture's own for published or random weights, else both usual ones.

    Weight files do not say what input they were trained on, and the wrong one costs several points of AUROC.
    """
    if declared is not None:
        return [declared]
    return [architecture(backbone).normalisation] if weights in ("imagenet", "none") else [IMAGENET, SYMMETRIC]
