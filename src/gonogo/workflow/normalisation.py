"""Candidate input normalisations for the weights of a backbone."""

from __future__ import annotations

from gonogo.model import IMAGENET, SYMMETRIC, Normalisation, architecture


def candidates(declared: Normalisation | None, backbone: str, weights: str) -> list[Normalisation]:
    """The declared normalisation, that of the architecture for published or random weights, or else both common ones.

    Weight files do not state their input normalisation, and the wrong one costs several points of AUROC.
    """
    if declared is not None:
        return [declared]
    return [architecture(backbone).normalisation] if weights in ("imagenet", "none") else [IMAGENET, SYMMETRIC]
