"""The article's studies (Deka and Mittal, 2018, section 4): ``python benchmarks/study_article.py --data FOLDER``.

Topologies by approach, the gain of pretrained weights, and accuracy over crops x rotations, on the photographs of
``aliens`` in the folder and on rendered boards. Each is a grid of ``gonogo experiment`` in a folder of ``--out``; what
is finished there is kept, so the same command resumes. ``--weights`` is a folder with ``NAME.safetensors``. The last
line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from command import print_figures, run
from gonogo.augment import Augmentation
from gonogo.dataset import ImportOptions, import_folder
from gonogo.errors import InputError
from gonogo.experiment import (
    FULL,
    REDUCED,
    TOPOLOGIES,
    Approach,
    Grid,
    Initialisation,
    Study,
    StudyData,
    differences,
    find_weights,
    run_cells,
)
from gonogo.experiment.tables import flat, flat_difference
from gonogo.synthetic import Mix, write_dataset
from study_sets import SETS, read_arguments

BOARDS, ALIENS = "boards", "aliens"
SMALL, LARGE = TOPOLOGIES[:5], TOPOLOGIES[5:]
VIEWS = (
    Augmentation(crops=1, rotations=1),
    REDUCED.augmentation,
    FULL.augmentation,
    Augmentation(crops=4, rotations=8),
)


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much of everything."""

    boards: int
    side_px: int | None
    epochs: int
    """Of the topology study."""
    seed_epochs: int
    """Of the studies over seeds."""
    seeds: int
    topologies: Sequence[str]
    views: Sequence[Augmentation]
    approaches: Sequence[Approach] = tuple(Approach)
    """Compared on the boards with one network."""


EXTENT = Extent(boards=120, side_px=96, epochs=4, seed_epochs=4, seeds=3, topologies=TOPOLOGIES, views=VIEWS)
QUICK = Extent(
    boards=60,
    side_px=64,
    epochs=2,
    seed_epochs=2,
    seeds=2,
    topologies=("squeezenet1_1", "efficientnet_lite0"),
    views=VIEWS[:2],
    approaches=(Approach.CV, Approach.NONE),  # a learned ROI takes longer than all the rest
)
ON_GPU = Extent(boards=600, side_px=None, epochs=24, seed_epochs=24, seeds=8, topologies=TOPOLOGIES, views=VIEWS)


def stages(extent: Extent, names: Sequence[str], plain: Grid) -> list[tuple[str, str, Grid]]:
    """Name, data set and grid of every stage: cheap networks, then the studies over seeds, then large networks."""
    small = [name for name in extent.topologies if name in SMALL]
    large = [name for name in extent.topologies if name in LARGE]
    over_seeds = replace(
        plain,
        protocol=replace(plain.protocol, epochs=extent.seed_epochs),
        seeds=range(extent.seeds),
        latency_runs=0,
        topologies=small[:2],
    )
    of = {ALIENS: [Approach.NONE], BOARDS: [Approach.CV]}
    found = [(f"topology-{name}", name, replace(plain, approaches=of[name], topologies=small)) for name in names]
    if BOARDS in names:
        every = replace(plain, approaches=extent.approaches, topologies=small[:1])
        found.append((f"topology-{BOARDS}", BOARDS, every))
    found += [(f"initialisation-{name}", name, replace(over_seeds, approaches=of[name])) for name in names]
    augmented = replace(
        over_seeds,
        approaches=of[names[0]],
        topologies=[name for name in small[1:] if name in plain.weights][:1] or small[:1],
        initialisations=[Initialisation.PRETRAINED],
        augmentations=list(extent.views),
    )
    found.append((f"augmentation-{names[0]}", names[0], augmented))
    if large:
        found += [(f"topology-{name}", name, replace(plain, approaches=of[name], topologies=large)) for name in names]
    return found


def dataset_folder(out: Path, name: str, data: Path | None, boards: int) -> Path:
    """Folder of a data set; imported or rendered on the first call."""
    folder = out / "sets" / f"{name}{boards if name == BOARDS else ''}"
    if not folder.exists():
        if name == BOARDS:
            write_dataset(folder, boards, mix=Mix(bad=0.5, without_chip=0.0, with_two_chips=0.0), difficulty=0.2)
        else:
            assert data is not None, "photographs are studied only where they are given"
            import_folder(data / name, folder, SETS.get(name, ImportOptions(good="good")))
    return folder


def main() -> None:
    """Run the studies."""
    options = read_arguments(__doc__, extra=_options)
    on_gpu = torch.cuda.is_available()
    extent = QUICK if options.quick else ON_GPU if on_gpu else EXTENT
    form = FULL if on_gpu and not options.quick else REDUCED
    known = [ALIENS] if options.data is not None and (options.data / ALIENS).is_dir() else []
    names = [name for name in (*known, BOARDS) if not options.only or name in options.only]
    if not names:
        raise InputError(f"--only: expected {ALIENS} (with --data) or {BOARDS}, found {', '.join(options.only)}.")
    files = {} if options.weights is None else {path.stem: path for path in options.weights.glob("*.safetensors")}
    plain = Grid(
        approaches=[Approach.NONE],
        topologies=extent.topologies,
        initialisations=list(Initialisation),
        augmentations=[form.augmentation],
        seeds=[0],
        protocol=replace(form.protocol, epochs=extent.epochs),
        form=form,
        side_px=extent.side_px,
        weights=find_weights({n: p for n, p in files.items() if n in extent.topologies}, extent.topologies),
        latency_runs=30,
    )
    out = options.out / ("article-quick" if options.quick else "article")
    folders = []
    for stage, name, grid in stages(extent, names, plain):
        data = StudyData.read(dataset_folder(out, name, options.data, extent.boards), out / "regions" / name)
        run_cells(Study.open(out / stage, data), grid.cells(), data, device="cuda" if on_gpu else "cpu")
        folders.append((stage, data))
    print_figures({stage: _figures(Study.open(out / stage, data)) for stage, data in folders})


def _figures(study: Study) -> dict[str, Any]:
    rows = study.rows()
    return {
        "rows": [flat(row) for row in rows],
        "differences": [flat_difference(each) for each in differences(rows)],
    }


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, help="Folder with NAME.safetensors of some topologies.")


if __name__ == "__main__":
    run(main)
