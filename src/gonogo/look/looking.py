"""Opens a backbone by name and looks at a picture with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gonogo.backbone import PACKAGES
from gonogo.errors import InputError
from gonogo.images import cut
from gonogo.look.lenet import NAME as LENET
from gonogo.look.lenet import look_with_lenet
from gonogo.look.lite import look_with_lite
from gonogo.look.seen import Seen
from gonogo.schema import Box, Frame
from gonogo.workflow.picture_size import BUDGETS, fitting_size

if TYPE_CHECKING:  # torch
    from gonogo.model import Normalisation

IMAGENET_CLASSES = 1000
TORCHVISION = (
    "densenet121",
    "efficientnet_b0",
    "inception_v3",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "resnet18",
    "resnet34",
    "resnet50",
    "squeezenet1_1",
)
"""Networks that need torch."""
NETWORKS = (LENET, *PACKAGES, *TORCHVISION)
"""Names of the networks that `look` can open."""


def look(
    network: str,
    frame: Frame,
    *,
    weights: str | None = None,
    normalisation: Normalisation | None = None,
    size_wh: tuple[int, int] | None = None,
    wanted: int | None = None,
    seed: int = 0,
) -> Seen:
    """Show what a backbone sees in a picture.

    Example:
        >>> from gonogo.look import look
        >>> from gonogo.testing import fake_frame
        >>> [stage.maps.shape for stage in look("lenet", fake_frame(1), size_wh=(64, 64)).stages]
        [(8, 32, 32), (16, 16, 16)]

    Args:
        network: One of `NETWORKS`.
        frame: uint8 RGB, height x width x 3.
        weights: ``"imagenet"``, ``"none"`` (random) or a safetensors file. By default those of the installed package,
            and random ones for networks of torchvision.
        normalisation: Input normalisation that a weights file expects; by default torchvision's.
        size_wh: Input size; by default the picture's shape at about 50,000 pixels.
        wanted: ImageNet class to look for, from 0 to 999; the likeliest by default.
        seed: Seed of random weights and filters.

    Raises:
        InputError: There is no such network, or an option does not apply to it.
        WeightsError: The weights file is missing or for another network.
    """
    if network not in NETWORKS:
        raise InputError(f"{network}: expected the folder of a bundle or one of {', '.join(NETWORKS)}; found neither.")
    if wanted is not None and not 0 <= wanted < IMAGENET_CLASSES:
        raise InputError(f"--class: expected an ImageNet class from 0 to {IMAGENET_CLASSES - 1}, found {wanted}.")
    picture = cut(frame, Box.whole(frame), size_wh or fitting_size((frame.shape[1], frame.shape[0]), BUDGETS[0]))
    packaged = network in PACKAGES and weights in (None, "imagenet")
    if network == LENET:
        _require_unused(network, weights=weights is not None, normalisation=normalisation is not None, wanted=wanted)
        return look_with_lenet(picture, seed=seed)
    if packaged:
        _require_unused(network, normalisation=normalisation is not None)
        return look_with_lite(network, picture, wanted=wanted)
    from gonogo.look.torch_network import look_with_torch  # torch

    return look_with_torch(
        network, picture, weights=weights or "none", normalisation=normalisation, wanted=wanted, seed=seed
    )


def _require_unused(network: str, *, weights: bool = False, normalisation: bool = False, wanted: object = None) -> None:
    """Refuse options that would have no effect."""
    options = {"--weights": weights, "--normalisation": normalisation, "--class": wanted is not None}
    given = [name for name, there in options.items() if there]
    if given:
        raise InputError(f"{' and '.join(given)}: not for {network}. Leave it out, or choose another network.")
