"""A frozen backbone of torch is converted once, for all sizes, normalisations and uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from gonogo import export, runtime
from gonogo.backbone import PACKAGES
from gonogo.dataset import Dataset, Split
from gonogo.export import FrozenNetwork, frozen_networks, to_graph
from gonogo.model import ARCHITECTURES, IMAGENET, SYMMETRIC, FeatureNetwork, architecture, load_backbone, mean_vector
from gonogo.operating_point import Promise
from gonogo.train import FineTuning
from gonogo.workflow import TrainingOptions, train_inspector
from gonogo.workflow.own_backbone import own_backbone

USUAL = ("squeezenet1_1",)
LOOSE = Promise(max_escape=0.5, max_overkill=0.5)


class Use(nn.Module):
    """One use of the features, traced with its normalisation at one size, as a whole."""

    def __init__(self, features: FeatureNetwork, use: Callable[[FeatureNetwork, Tensor], object]) -> None:
        super().__init__()
        self.features, self.use = features, use

    def forward(self, pictures: Tensor) -> object:
        return self.use(self.features, pictures)


USES: dict[str, tuple[Callable[..., Any], Callable[[FeatureNetwork, Tensor], object]]] = {
    "maps": (FrozenNetwork.maps, lambda features, pictures: tuple(features.maps(pictures))),
    "joined": (FrozenNetwork.joined, lambda features, pictures: features(pictures)),
    "pooled": (FrozenNetwork.pooled, lambda features, pictures: mean_vector(features.maps(pictures))),
}


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that are converted while a test runs."""
    found: list[str] = []
    convert = export._convert

    def counted(module: nn.Module, *rest: Any) -> Any:
        found.append(type(module).__name__)
        return convert(module, *rest)

    monkeypatch.setattr(export, "_convert", counted)
    return found


@pytest.fixture
def few(discs: Dataset) -> Dataset:
    """Twenty pictures of each split."""
    kept = [sample for split in Split for sample in discs.split(split)[:20]]
    return replace(discs, samples=tuple(kept))


@pytest.mark.parametrize(
    "name", [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES]
)
def test_one_conversion_gives_the_numbers_of_one_for_each_use_size_and_normalisation(
    name: str, conversions: list[str], rng: np.random.Generator
) -> None:
    if name in PACKAGES and find_spec(PACKAGES[name].module) is None:
        pytest.skip(f"needs {PACKAGES[name].distribution}")
    chosen = architecture(name)
    stack = load_backbone(name, weights="none", cuts=(*chosen.fine, chosen.last))
    networks = frozen_networks(stack, [IMAGENET, SYMMETRIC])
    asked = (("maps", 0, (96, 128)), ("joined", 1, (160, 96)), ("pooled", 1, (96, 128)))
    made = [USES[use][0](networks[number], size_wh) for use, number, size_wh in asked]
    assert conversions == ["_Everything"]
    for (use, number, size_wh), model in zip(asked, made, strict=True):
        picture = rng.integers(0, 256, (*size_wh[::-1], 3), np.uint8)
        alone = to_graph(Use(networks[number].features, USES[use][1]), size_wh)
        for place, output in enumerate(alone.outputs):
            output.get_tensor().set_names({f"map {place}" if use == "maps" else "features"})
        expected, seen = (runtime.compile_graph(each)(picture) for each in (alone, model))
        assert list(expected) == list(seen)
        assert all(np.array_equal(expected[key], seen[key]) for key in expected), (use, number, size_wh)


def test_a_network_that_computes_with_its_size_is_converted_for_each_size(
    conversions: list[str], rng: np.random.Generator
) -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.middle = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 4, 2, 2)

        def forward(self, pictures: Tensor) -> Tensor:
            found: Tensor = self.middle(self.fine(pictures) * float(pictures.shape[-1]))
            return found

    backbone = own_backbone(Sized(), ("fine", "middle"), normalisation=IMAGENET)
    for size_wh in ((64, 64), (96, 64), (64, 64)):
        picture = rng.integers(0, 256, (*size_wh[::-1], 3), np.uint8)
        graph = runtime.compile_graph(backbone.graph(size_wh))
        for expected, seen in zip(backbone.reference(picture), graph(picture).values(), strict=True):
            assert np.allclose(expected, seen[0], atol=1e-2, rtol=1e-4)
    assert conversions == ["_Everything"] * 2


@pytest.mark.slow
def test_a_training_converts_its_backbone_once_however_often_it_is_compiled(
    few: Dataset, tmp_path: Path, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[object] = []
    compile_graph = runtime.compile_graph
    monkeypatch.setattr(
        runtime, "compile_graph", lambda *args, **options: compiled.append(args) or compile_graph(*args, **options)
    )
    options = TrainingOptions(backbone="resnet18", weights="none", size_wh=(64, 64), promise=LOOSE)
    trained = train_inspector(few, tmp_path / "one.inspector", options)
    assert conversions == ["_Everything"]
    assert len(compiled) == 3, "for the shift of its cells, for the features, and the finished graph"
    assert trained.bundle.manifest.golden


@pytest.mark.slow
def test_fine_tuning_converts_the_frozen_backbone_once_and_the_tuned_network_once(
    few: Dataset, tmp_path: Path, conversions: list[str]
) -> None:
    options = TrainingOptions(
        backbone="squeezenet1_1",
        weights="none",
        size_wh=(64, 64),
        promise=LOOSE,
        fine_tuning=FineTuning(epochs=1),
    )
    train_inspector(few, tmp_path / "tuned.inspector", options)
    assert conversions == ["_Everything", "Network"]
