"""Training presets: the options of ``gonogo train`` for each level of effort."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from gonogo.server.language import N_, RefusedError

BACKBONES = (
    "densenet121",
    "efficientnet_b0",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "inception_v3",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "resnet18",
    "resnet34",
    "resnet50",
    "squeezenet1_1",
)
"""The backbones of `gonogo.model`, which is not imported here because it imports torch."""


class Effort(StrEnum):
    """Level of effort of a training run."""

    QUICK = "quick"
    STANDARD = "standard"
    THOROUGH = "thorough"


EFFORT_NAMES = {
    Effort.QUICK: N_("Quick"),
    Effort.STANDARD: N_("Standard"),
    Effort.THOROUGH: N_("Thorough"),
}
EFFORT_WORDS = {
    Effort.QUICK: N_("Takes up to a minute, on small pictures. For a first try."),
    Effort.STANDARD: N_("Takes minutes. Suits most parts."),
    Effort.THOROUGH: N_("Trains the whole network: takes an hour or more. For fine defects and a few hundred labels."),
}


def arguments(effort: Effort, weights: Path | None) -> list[str]:
    """Return the options of ``gonogo train`` for a preset.

    Args:
        effort: The preset.
        weights: A safetensors file named after its backbone, with the suffix ``_to_LAYER`` if it is truncated; ``None``
            for the weights that come with the package.

    Raises:
        RefusedError: the file name does not start with the name of a backbone.
    """
    common: list[str] = []
    if weights is not None:
        common = ["--backbone", backbone_of(weights.name), "--weights", str(weights)]
        _, _, cut = weights.stem.partition("_to_")
        if cut:
            common += ["--cut", cut]
    return (
        common
        + {
            Effort.QUICK: ["--size", "128"],
            Effort.STANDARD: [],
            Effort.THOROUGH: ["--crops", "2", "--rotations", "4", "--finetune", "--epochs", "24"],
        }[effort]
    )


def backbone_of(file: str) -> str:
    """Return the backbone that a weights file is named after.

    Raises:
        RefusedError: the file name does not start with the name of a backbone.
    """
    found = max((name for name in BACKBONES if file.startswith(name)), key=len, default=None)
    if found is None:
        raise RefusedError(
            N_("%(file)s: a weights file must be named after its backbone, one of %(names)s."),
            file=file[:100],
            names=", ".join(BACKBONES),
        )
    return found
