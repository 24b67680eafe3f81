"""What a training run is asked for: the promise to certify, and everything that decides what is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from gonogo.augment import Augmentation
from gonogo.config import Reduction
from gonogo.model import Normalisation, Pool
from gonogo.operating_point import Promise
from gonogo.train import FineTuning
from gonogo.workflow.region import LocatorOptions

__all__ = ["Promise", "TrainingOptions"]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Everything that decides what a training run makes."""

    backbone: str = "mobilenet_v2"
    weights: str = "imagenet"
    """A safetensors file, ``imagenet`` or ``none``."""
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
