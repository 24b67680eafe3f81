"""The way from the first photograph to a line, and how far a workspace has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gonogo.dataset.checking import MIN_LABELLED
from gonogo.schema import OperatingPoint
from gonogo.server.dataset_store import Overview
from gonogo.server.language import N_
from gonogo.server.training.jobs import TrainingJob


class Progress(StrEnum):
    """Where a step stands."""

    DONE = "done"
    NEXT = "next"
    LATER = "later"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step on the way."""

    title: str
    words: str
    """What to do, or what is done."""
    button: str
    to: str
    """Path of the page where it is done."""
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a workspace has."""

    datasets: Sequence[Overview]
    jobs: Sequence[TrainingJob]
    """The training runs, newest first."""
    bundles: int
    """Usable inspectors."""
    in_use: bool
    """Whether one of them is in use."""
    point: OperatingPoint | None
    """Thresholds of the inspector in use."""
    judged: bool
    """Whether a station has judged a part."""
    stations: int = 0
    """Number of stations that are set up."""


def first_steps(standing: Standing) -> tuple[Step, ...]:
    """Return the six steps; the first that is not done is the next one."""
    main = max(standing.datasets, key=lambda each: (each.good + each.bad, each.pictures), default=None)
    place = "/datasets" if main is None else f"/datasets/{main.name}"
    run = next((job for job in standing.jobs if not job.status.phase.over), None) or next(iter(standing.jobs), None)
    training = place + "#train-title" if run is None else f"/training/{run.request.number}"
    labelled = main is not None and not main.missing and main.good + main.bad >= MIN_LABELLED
    promised = standing.point is not None and standing.point.escape.holds
    done = (
        main is not None and main.pictures > 0,
        labelled or standing.bundles > 0,
        standing.bundles > 0,
        standing.in_use,
        promised,
        standing.judged,
    )
    line = "/stations" if standing.stations else "/stations/new"
    places = (place, f"{place}/label", training, training, f"{place}/plan", line)
    first = done.index(False) if False in done else len(done)
    return tuple(
        Step(
            title=title,
            words=words,
            button=button,
            to=to,
            progress=Progress.DONE if passed else Progress.NEXT if number == first else Progress.LATER,
        )
        for number, ((title, words, button), to, passed) in enumerate(zip(_STEPS, places, done, strict=True))
    )


_STEPS = (
    (
        N_("Photographs"),
        N_("Take pictures as the line will: same camera, same light. A few dozen good and bad parts are a start."),
        N_("Add photographs"),
    ),
    (N_("Labels"), N_("Say for each picture whether the part is good or bad."), N_("Label")),
    (N_("Training"), N_("An inspector learns from the labels. This takes minutes."), N_("Train an inspector")),
    (
        N_("Check"),
        N_("Look at its mistakes on parts that it has not seen, then put it into use."),
        N_("See the report"),
    ),
    (
        N_("Promise"),
        N_("With enough parts for calibration, it is certified how many bad parts can pass at most."),
        N_("See what is missing"),
    ),
    (
        N_("Line"),
        N_("A station takes pictures, judges each part and answers the line."),
        N_("Set up a station"),
    ),
)
