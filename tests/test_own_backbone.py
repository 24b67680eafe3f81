"""Training on a torch network of one's own, by the names of its feature maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gonogo.augment import PLAIN
from gonogo.dataset import Dataset, Split
from gonogo.errors import InputError
from gonogo.inspector import Inspector
from gonogo.model import Normalisation
from gonogo.train import FineTuning
from gonogo.workflow import TrainingOptions, train_inspector
from gonogo.workflow.learning import options_of
from gonogo.workflow.own_backbone import TorchBackbone, own_backbone

HALF = Normalisation(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))


class Net(nn.Module):
    """A control flow that torch.fx cannot take apart, and a head that is not used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        sides = ((3, 8, 8, 8, 0), (8, 12, 3, 2, 1), (12, 16, 3, 2, 1))
        self.steps = nn.ModuleList(nn.Conv2d(a, b, k, s, p) for a, b, k, s, p in sides)
        self.head = nn.Linear(16, 5)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            if float(pictures.abs().sum()) >= 0:
                pictures = torch.relu(step(pictures))
        return self.head(pictures.mean((2, 3)))


def own(*maps: str) -> TorchBackbone:
    return own_backbone(Net(), maps or ("steps.0", "steps.1", "steps.2"), normalisation=HALF, name="mine")


@pytest.mark.slow  # docs/import_model.md trains one every day
def test_the_default_method_trains_on_it_and_does_not_change_it(discs: Dataset, tmp_path: Path) -> None:
    backbone = own()
    before = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    made = train_inspector(discs, tmp_path / "own.inspector", TrainingOptions(own=backbone, size_wh=(96, 64)))
    manifest = made.bundle.manifest
    assert manifest.classifier.backbone == "mine"
    assert manifest.training["options"]["weights"] == "own module"  # type: ignore[index, call-overload]
    assert made.unseen is not None
    assert made.unseen.auroc > 0.9
    assert all(torch.equal(before[name], value) for name, value in backbone.network.state_dict().items())
    inspector = Inspector.load(tmp_path / "own.inspector")
    assert inspector.inspect_file(discs.path(discs.split(Split.TEST)[0]))[1].heatmap is not None
    with pytest.raises(InputError, match="Train again in Python"):
        options_of(inspector)


def test_its_graph_gives_the_maps_of_torch(rng: np.random.Generator) -> None:
    from gonogo import runtime

    backbone = own("steps.0", "steps.1")
    picture = rng.integers(0, 256, (64, 96, 3)).astype(np.uint8)
    found = runtime.compile_graph(backbone.graph((96, 64)))(picture)
    for stride, expected in zip((8, 16, 32), backbone.reference(picture), strict=True):
        assert np.abs(found[f"stride_{stride}"][0] - expected).max() < 1e-4


@pytest.mark.slow
def test_it_can_be_fine_tuned(discs: Dataset, tmp_path: Path) -> None:
    backbone = own()
    options = TrainingOptions(own=backbone, size_wh=(96, 64), augmentation=PLAIN, fine_tuning=FineTuning(epochs=1))
    before = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    train_inspector(discs, tmp_path / "tuned.inspector", options)
    assert all(torch.equal(before[name], value) for name, value in backbone.network.state_dict().items())
    made = train_inspector(discs, tmp_path / "again.inspector", replace(options, weights="none"))
    assert made.bundle.manifest.classifier.backbone == "mine"


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (("steps.0",), "found 1"),
        (("steps.0", "steps.9"), "no module 'steps.9'; it has steps"),
        (("steps.0", ""), "no module"),
        (("steps.0", "head"), r"gave a tensor of \[1, 5\]"),
        (("steps.1", "steps.2"), "stride 8"),
    ],
)
def test_wrong_names_are_refused(maps: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        own_backbone(Net(), maps, normalisation=HALF).graph((96, 64))
