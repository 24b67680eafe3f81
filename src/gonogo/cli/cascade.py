"""``gonogo bundle cascade``: combine a fast student with its slower teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.distill import AsJsonOption, SplitOption, known_split, print_comparison
from gonogo.cli.signing import say_unsigned

if TYPE_CHECKING:
    from gonogo.workflow import TeacherComparison


def cascade_command(
    student: Annotated[Path, typer.Argument(help="The fast bundle, from 'gonogo bundle distill'.", metavar="STUDENT")],
    teacher: Annotated[
        Path,
        typer.Argument(help="The bundle that judges the parts that the student is unsure about.", metavar="TEACHER"),
    ],
    dataset: Annotated[Path, typer.Argument(help="The data set that both were trained on.", metavar="DATASET")],
    out: Annotated[Path, typer.Option(help="Bundle to create; it contains both networks.")],
    risk_share: Annotated[
        float,
        typer.Option(
            min=1e-3, max=1.0, help="Share of each promised error rate that the student's decisions may use up."
        ),
    ] = 0.1,
    strange: Annotated[
        float,
        typer.Option(min=1e-3, max=0.5, help="Share of ordinary parts sent to the teacher as out of distribution."),
    ] = 0.02,
    split: SplitOption = "test",
    as_json: AsJsonOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
) -> None:
    """Combine two bundles: the student decides the clear parts, the teacher judges the others.

    The limits of a clear part are set on the val split. The cascade is certified on the calibrate split for the
    teacher's promise. Exit code 1 if that promise cannot be certified.
    """
    from gonogo.config import settings
    from gonogo.dataset import Dataset
    from gonogo.inspector import Inspector
    from gonogo.signing import NOT_REQUIRED
    from gonogo.workflow import CascadeOptions
    from gonogo.workflow import join_cascade as join

    options = CascadeOptions(risk_share=risk_share, strange=strange, split=known_split(split))
    machine = settings().on_cpu()
    judges = [Inspector.load(each, machine=machine, policy=NOT_REQUIRED) for each in (student, teacher)]
    made = join(judges[0], judges[1], Dataset.read(dataset), out, options, overwrite=overwrite)
    say_unsigned(judges[1].bundle, made.bundle)
    pictures = len(made.compared.itself.judged.pictures)
    timings = _timings(made.compared)
    timing_text = "; ".join(
        f"{name} {each['mean']:.1f} ms mean, {each['p99']:.1f} ms p99" for name, each in timings.items()
    )
    wrote = (
        f"The teacher judged {made.asked} of {pictures} pictures. Time per picture, decoding included: {timing_text}.\n"
        f"Wrote {out} ({made.bundle.sha256[:16]}). Next: gonogo evaluate {out} {dataset}"
    )
    more = {"pictures": pictures, "asked": made.asked, "total_ms": timings}
    print_comparison(made.compared, out, "the cascade", wrote, more, as_json=as_json)


def _timings(compared: TeacherComparison) -> dict[str, dict[str, float]]:
    """Return mean and 99th percentile of the total time in milliseconds, for the cascade and its teacher."""
    from gonogo.evaluate import quantiles_ms

    timings = {}
    for name, side in (("cascade", compared.itself), ("teacher", compared.teacher)):
        total_ms = side.judged.timings_ms["total"]
        timings[name] = {"mean": float(total_ms.mean()), "p99": quantiles_ms(total_ms)[1]}
    return timings
