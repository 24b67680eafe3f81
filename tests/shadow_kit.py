"""A workspace with an inspector in use and another one, and a silent judge that tests step in their own process."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from fastapi import FastAPI

from gonogo import bundle
from gonogo.fleet import Terms, Watched
from gonogo.fleet.shadow import Shadow
from gonogo.inspector import Inspector
from gonogo.ledger import REVIEW, Ledger, Where
from gonogo.operating_point import best_rate
from gonogo.schema import Claim, Label, OperatingPoint, State
from gonogo.server import Workspace
from gonogo.station.models import load_model
from server_kit import fill, make_app, record

OLD, NEW = "tiny.inspector", "finer.inspector"
TERMS = Terms(max_bad_flips=0.2, max_flips=0.9, min_settled=2)


def two_inspectors(root: Path) -> Workspace:
    """`OLD` is in use; `NEW` has the same graph and passes more. Both promise something about escapes."""
    space = Workspace.open(root)
    fill(space, parts=0)
    shutil.copytree(space.bundles / OLD, space.bundles / NEW)
    set_point(space.bundles / OLD, go_below=82.0, no_go_above=105.0)
    set_point(space.bundles / NEW, go_below=89.0, no_go_above=105.0)
    return space


def set_point(path: Path, *, go_below: float, no_go_above: float) -> None:
    """Give a bundle other thresholds, with a promise that nothing here depends on."""

    def claim(error: str) -> Claim:
        return Claim(
            error=error,
            max_rate=0.1,
            confidence=0.95,
            parts=100,
            allowed=4,
            parts_missing=0,
            best_rate=best_rate(100, 0.05),
        )

    point = OperatingPoint(
        go_below=go_below, no_go_above=no_go_above, escape=claim("escape"), overkill=claim("overkill")
    )
    bundle.write_manifest(path, bundle.read_bundle(path).manifest.model_copy(update={"operating_point": point}))


def open_app(root: Path) -> FastAPI:
    """The app on a copy of that workspace; its silent judge is a process that does nothing."""
    app = make_app(root)
    app.state.components.shadows.command = lambda _: ["cat"]
    return app


@dataclass(kw_only=True)
class SilentLine:
    """Parts of the line, each judged silently as well."""

    app: FastAPI
    count: int = 1000
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))

    def run(self, *reds: float, parts: Sequence[str] = ()) -> list[int]:
        """Judge parts of these reds, named so if names are given; returns the rows of their verdicts."""
        components = self.app.state.components
        space = components.workspace
        judge = Inspector.load(space.bundles / OLD, replay=False)
        trial = components.shadows.running()
        model = load_model(space.bundles / trial.candidate)
        shadow = Shadow(Watched(station=None, keep=1000), trial.release, model)
        with Ledger.open(space.ledger) as ledger:
            shadow.step(ledger)
            first = ledger.head().seq
            for number, red in enumerate(reds):
                self.count += 1
                more = {"part": parts[number]} if parts else {}
                record(ledger, self.count, red, rng=self.rng, judge=judge, **more)
            shadow.step(ledger)
            return [row.seq for row in ledger.verdicts(Where(), after=first)]

    def settle(self, seq: int, label: Label, who: str = "bert") -> None:
        """A person decides."""
        self.app.state.components.ledger_pool.act(REVIEW, who, about=seq, label=label)

    def decided(self, count: int = 2) -> None:
        """People decide parts that nobody disputes, as the review page has them do."""
        with Ledger.open(self.app.state.components.workspace.ledger) as ledger:
            rows = [row.seq for row in ledger.verdicts(Where(states=(State.GO,)), newest_first=True, limit=count)]
        for seq in rows:
            self.settle(seq, Label.GOOD)
