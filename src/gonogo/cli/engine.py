"""The options of every command that can work on a Ray cluster: ``--engine``, ``--ray-address`` and ``--journal``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gonogo.cluster import Cluster, Used


class Engine(StrEnum):
    """Where the work is done."""

    PROCESSES = "processes"
    RAY = "ray"


EngineOption = Annotated[
    Engine,
    typer.Option(
        help="Where to work: in processes of this machine, or in the workers of a Ray cluster, which needs "
        "'gonogo[ray]'."
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        help="With --engine ray: HOST:PORT of the cluster's head, or auto for the cluster of this machine. [default: "
        "start one on this machine]",
        metavar="ADDRESS",
        show_default=False,
    ),
]
JournalOption = Annotated[
    Path | None,
    typer.Option(
        help="With --engine ray: file that keeps what is finished; the same command resumes from it.",
        metavar="FILE",
        show_default=False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """The options as given."""

    engine: Engine
    address: str | None = None
    journal: Path | None = None

    @property
    def chosen(self) -> bool:
        """Whether to work on Ray.

        Raises:
            InputError: an option needs ``--engine ray``.
        """
        from gonogo.errors import InputError

        for option, given in (("--ray-address", self.address), ("--journal", self.journal)):
            if given is not None and self.engine is not Engine.RAY:
                raise InputError(f"{option} {given}: expected --engine ray with it.")
        return self.engine is Engine.RAY


@contextmanager
def on_cluster(options: RayOptions, *, cpus: int | None = None) -> Iterator[Cluster]:
    """Connect to the cluster, and say where it is.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: the cluster cannot be reached.
    """
    from gonogo.cli.extras import require
    from gonogo.progress import console

    require("ray", "ray")
    from gonogo.cluster import connected

    console.print("Starting Ray on this machine." if options.address is None else f"Connecting to {options.address}.")
    with connected(options.address, cpus=cpus) as cluster:
        machines = "1 machine" if cluster.nodes == 1 else f"{cluster.nodes} machines"
        console.print(f"Ray on {cluster.name}: {cluster.cpus} processors, {machines}.", markup=False)
        yield cluster


def say_how_to_resume(options: RayOptions) -> None:
    """Say after Ctrl-C what is kept and how to go on."""
    from gonogo.progress import console

    if options.journal is None:
        console.print("Interrupted; nothing is kept. With --journal FILE, the same command would resume.")
    else:
        console.print(f"Interrupted. {options.journal} keeps what is finished; the same command resumes.", markup=False)


def other_processors(used: Used) -> dict[str, int]:
    """Print and return the number of jobs that another kind of processor than this machine's did, by kind."""
    from gonogo.cluster.inspecting import worker_threads
    from gonogo.progress import console

    found = used.on_other_processors(worker_threads())
    for kind, jobs in found.items():
        console.print(
            f"{jobs} were judged on another kind of processor ({kind}): their scores agree within the bundle's "
            "tolerance, and are bit-equal only on the same kind.",
            markup=False,
        )
    return found
