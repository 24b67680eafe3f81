"""Named protocols, each in a full and in a reduced form."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gonogo.augment import Augmentation
from gonogo.experiment.cell import Cell, Protocol
from gonogo.model import architecture

TOPOLOGIES = (
    "squeezenet1_1",
    "mobilenet_v2",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "densenet121",
    "resnet50",
    "inception_v3",
)
"""Networks of the topology study, the cheap ones first."""


class Preset(StrEnum):
    """Name of a protocol."""

    DEKA_MITTAL_2018 = "deka-mittal-2018"
    """Deka and Mittal (2018), section 4: 80/10/10 on unique pictures, crops and rotations after the split, one unit
    with a sigmoid in place of the last layer, cross entropy, SGD with Nesterov momentum, lowest validation loss."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A protocol at one size."""

    protocol: Protocol
    augmentation: Augmentation
    side_share: float
    """Input side as a share of that for which a network was designed."""

    def side_px(self, topology: str) -> int:
        """The input side of a network, a multiple of 32 where it is reduced."""
        side = architecture(topology).side
        return side if self.side_share == 1 else max(64, int(side * self.side_share) // 32 * 32)


FULL = Form(protocol=Protocol(), augmentation=Augmentation(crops=2, rotations=4), side_share=1.0)
"""The article's settings; it names no numbers of crops and rotations, so those are the program's own."""
REDUCED = Form(protocol=Protocol(epochs=8), augmentation=Augmentation(crops=2, rotations=2), side_share=4 / 7)
"""What a CPU trains in minutes."""


def reductions(cell: Cell) -> list[str]:
    """Say what a cell does less of than the full form: ``8 epochs instead of 24``."""
    full, side = FULL, architecture(cell.topology).side
    views, all_views = cell.augmentation, full.augmentation
    found = []
    if cell.side_px < side:
        found.append(f"{cell.side_px} px instead of {side}")
    if cell.protocol.epochs < full.protocol.epochs:
        noun = "epoch" if cell.protocol.epochs == 1 else "epochs"
        found.append(f"{cell.protocol.epochs} {noun} instead of {full.protocol.epochs}")
    if views.views < all_views.views:
        found.append(f"{views.crops} x {views.rotations} views instead of {all_views.crops} x {all_views.rotations}")
    return found
