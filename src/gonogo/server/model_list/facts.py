"""What the list shows of an inspector: quality, date, data, promise, notes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gonogo.evaluate import auroc_interval
from gonogo.schema import OperatingPoint
from gonogo.server.catalogue import Catalogue, InspectorNote
from gonogo.server.inspectors import Inspectors, OpenBundle
from gonogo.server.shadow import Shadows
from gonogo.server.training.jobs import TrainingJob


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well an inspector separates bad from good test parts that it has not seen."""

    auroc: float
    low: float
    high: float
    """95 % confidence interval."""
    good: int
    bad: int
    """Test parts."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One inspector."""

    name: str
    opened: OpenBundle | None
    """``None`` for a damaged one."""
    active: bool
    archived: bool
    silent: bool
    """Whether it judges silently at present."""
    run: TrainingJob | None
    """The training run that made it."""
    quality: Quality | None
    """``None`` if it was not evaluated here, or on parts of one label only."""
    notes: tuple[InspectorNote, ...]
    """The latest first."""

    @property
    def created(self) -> datetime | None:
        """When it was made."""
        try:
            return None if self.opened is None else datetime.fromisoformat(self.opened.manifest.created)
        except ValueError:
            return None

    @property
    def point(self) -> OperatingPoint | None:
        """Its thresholds."""
        return None if self.opened is None else self.opened.point


def list_inspectors(
    inspectors: Inspectors, catalogue: Catalogue, shadows: Shadows, *, archived: bool = False
) -> list[Listed]:
    """Return the inspectors of the workspace: the one in use first, then the newest.

    Args:
        inspectors: The inspectors.
        catalogue: Notes and archive.
        shadows: What judges silently.
        archived: Return the archived ones instead.
    """
    away, runs = catalogue.archived(), _runs(inspectors)
    paths = [path for path in inspectors.workspace.bundle_paths() if (path.name in away) is archived]
    silent = shadows.running()
    found = [
        _listed(inspectors, catalogue, path.name, runs.get(path.name), silent=silent and silent.candidate, away=away)
        for path in paths
    ]
    found.sort(key=lambda each: each.name)
    found.sort(key=lambda each: each.created.timestamp() if each.created else 0.0, reverse=True)
    return sorted(found, key=lambda each: not each.active)


def one_inspector(inspectors: Inspectors, catalogue: Catalogue, shadows: Shadows, name: str) -> Listed:
    """Return one inspector.

    Raises:
        RefusedError: there is none of this name.
    """
    catalogue.find(name)
    silent = shadows.running()
    return _listed(
        inspectors,
        catalogue,
        name,
        _runs(inspectors).get(name),
        silent=silent and silent.candidate,
        away=catalogue.archived(),
    )


def _listed(
    inspectors: Inspectors,
    catalogue: Catalogue,
    name: str,
    run: TrainingJob | None,
    *,
    silent: object,
    away: frozenset[str],
) -> Listed:
    path = inspectors.workspace.bundles / name
    return Listed(
        name=name,
        opened=inspectors.bundles.open(path),
        active=path == inspectors.workspace.active_bundle(),
        archived=name in away,
        silent=silent == name,
        run=run,
        quality=None if run is None else _quality(run),
        notes=tuple(catalogue.notes(name)),
    )


def _runs(inspectors: Inspectors) -> dict[str, TrainingJob]:
    """The training runs by the bundle that they made."""
    return {job.request.bundle: job for job in reversed(inspectors.jobs.all())}


def _quality(run: TrainingJob) -> Quality | None:
    found = run.evaluation() or {}
    auroc, good, bad = (found.get(name) for name in ("auroc", "parts_good", "parts_bad"))
    if not isinstance(auroc, (int, float)) or not isinstance(good, int) or not isinstance(bad, int):
        return None
    low, high = auroc_interval(float(auroc), good, bad)
    return Quality(auroc=float(auroc), low=low, high=high, good=good, bad=bad)
