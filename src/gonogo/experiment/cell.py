"""What a study is made of: a cell names one training run completely, a row is its outcome."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from gonogo.augment import Augmentation
from gonogo.evaluate import Rate, auroc_interval


class Approach(StrEnum):
    """How the region of interest is found."""

    CV = "cv"
    """A classical ROI, tuned on the labelled boxes of train and val."""
    LEARNED = "learned"
    """A learned ROI, trained on the labelled boxes of train."""
    NONE = "none"
    """The whole picture."""


class Initialisation(StrEnum):
    """Where the weights of a network start."""

    PRETRAINED = "pretrained"
    RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a network is trained: SGD with Nesterov momentum at a constant rate, cross entropy, best epoch on val."""

    epochs: int = 24
    batch: int = 12
    learning_rate: float = 1e-3
    momentum: float = 0.9
    train: float = 0.8
    """Share of the parts that are trained on."""
    val: float = 0.1
    """Share of the parts that choose the epoch; the rest is tested on."""

    @property
    def test(self) -> float:
        """Share of the parts that are tested on."""
        return 1.0 - self.train - self.val


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training run of a study; with the same data it always gives the same row, times aside."""

    approach: Approach = Approach.NONE
    topology: str
    initialisation: Initialisation = Initialisation.PRETRAINED
    augmentation: Augmentation
    seed: int = 0
    """Seed of the splits, the initial weights, the crops and the order of the pictures."""
    side_px: int
    """Side of the square network input."""
    protocol: Protocol
    weights: str = ""
    """Pretrained weights: a safetensors file, ``imagenet`` for those of an installed package, empty if there are
    none."""
    weights_id: str = ""
    """SHA-256 of the file, or ``package``. The key depends on this and not on the file's name."""
    latency_runs: int = 30
    """Number of timed runs in torch and in OpenVINO; 0 times nothing."""

    @property
    def key(self) -> str:
        """Name of the cell: the same for equal cells, different as soon as one option differs."""
        fields = {name: value for name, value in asdict(self).items() if name != "weights"}
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.approach}-{self.topology}-{self.initialisation}-{self.views}-s{self.seed}-{digest}"

    @property
    def views(self) -> str:
        """The augmentation in short: ``2x4``, with what is added to crops and rotations."""
        extras = {
            "flips": self.augmentation.flips,
            "light": self.augmentation.brightness,
            "blur": self.augmentation.blur,
        }
        return "+".join(
            [f"{self.augmentation.crops}x{self.augmentation.rotations}", *(k for k, v in extras.items() if v)]
        )

    def slot(self) -> Cell:
        """The same cell without its weights: its place in the table, which weights may fill later."""
        return replace(self, weights="", weights_id="")


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch: mean cross entropy in nats on the training views and on the val pictures."""

    train_loss: float
    val_loss: float


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Test parts by label and answer; a bad part is positive, and 0.5 is the threshold of the sigmoid."""

    bad_found: int
    bad_missed: int
    good_passed: int
    good_stopped: int

    @property
    def parts(self) -> int:
        """Number of test parts."""
        return self.bad_found + self.bad_missed + self.good_passed + self.good_stopped

    def rates(self) -> dict[str, Rate]:
        """Accuracy, precision, recall, and the false-negative and false-positive rates, each with exact intervals."""
        bad, good = self.bad_found + self.bad_missed, self.good_passed + self.good_stopped
        return {
            "accuracy": Rate(count=self.bad_found + self.good_passed, of=self.parts),
            "precision": Rate(count=self.bad_found, of=self.bad_found + self.good_stopped),
            "recall": Rate(count=self.bad_found, of=bad),
            "fnr": Rate(count=self.bad_missed, of=bad),
            "fpr": Rate(count=self.good_stopped, of=good),
        }


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What training and testing one cell gave."""

    counts: Counts
    auroc: float | None
    history: tuple[Epoch, ...]
    best_epoch: int
    """The epoch that is kept, from 1: that of the lowest val loss."""
    pictures: tuple[int, int, int]
    """Pictures in train, val and test, before the augmentation."""
    whole: int
    """Pictures in which no region was found; they are shown whole."""
    normalisation: str
    parameters: int
    size_mb: float
    """Size of the weights as float32, in MB."""

    @property
    def auroc_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the AUROC."""
        if self.auroc is None:
            return None
        counts = self.counts
        return auroc_interval(
            self.auroc, counts.good_passed + counts.good_stopped, counts.bad_found + counts.bad_missed
        )


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What depends on the machine."""

    seconds: float
    """Training and testing, in seconds, without the search for regions."""
    torch_ms: float | None = None
    """Median latency of one picture on the CPU, in milliseconds."""
    openvino_ms: float | None = None
    device: str = "cpu"
    threads: int = 1
    versions: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Outcome of a cell: what was measured, or why nothing was."""

    cell: Cell
    measured: Measured | None = None
    timing: Timing | None = None
    empty_because: str = ""
