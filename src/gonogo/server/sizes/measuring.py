"""Measures defects on the pictures of a data set with an inspector and checks that are not in force yet.

Only pictures for training and validation are measured: choosing limits on the others would make the certified rates and
the test too favourable, and pictures without a split may become such pictures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from gonogo.config import Checks, Recipe, Settings
from gonogo.dataset import Sample, Split
from gonogo.errors import GonogoError, InputError
from gonogo.inspector import Inspector
from gonogo.rules import apply_rules, rules_digest
from gonogo.schema import Label, State, Verdict
from gonogo.server.background_work import Task
from gonogo.server.dataset_store import Datasets, Records
from gonogo.server.datasets.zone_trial import spread
from gonogo.server.inspectors import Inspectors, OpenBundle
from gonogo.server.language import N_, RefusedError
from gonogo.signing import NOT_REQUIRED

MOST_TRIED = 200
"""Largest number of pictures that are measured, evenly spread over those that may be."""
_HELD = 20


@dataclass(frozen=True, kw_only=True)
class MeasuredPicture:
    """One picture, judged and measured."""

    file: str
    bad: bool
    verdict: Verdict
    """With the checks, as if they were certified."""
    before: State
    """Verdict without the limits."""
    size_wh: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class SizeTrial:
    """What checks do on the pictures of a data set."""

    of: int
    """Number of pictures that may be measured."""
    pictures: tuple[MeasuredPicture, ...]
    without: int
    """Number of labelled pictures that are left out."""


class SizeTrials:
    """Measures in the background, and keeps the latest results."""

    def __init__(self, datasets: Datasets, inspectors: Inspectors) -> None:
        self._datasets, self._inspectors = datasets, inspectors
        self._lock = threading.Lock()
        self._judging = threading.Lock()  # inspectors are not thread-safe
        self._opened: tuple[str, Inspector] | None = None
        self._done: dict[tuple[object, ...], SizeTrial] = {}

    def bundle(self, name: str) -> OpenBundle:
        """Open an inspector of the workspace by its folder name.

        Raises:
            RefusedError: there is none, or it has no heat map.
        """
        paths = {path.name: path for path in self._inspectors.workspace.bundle_paths()}
        opened = self._inspectors.bundles.open(paths.get(name))
        if opened is None:
            raise RefusedError(N_("There is no inspector %(name)s."), name=name[:100])
        if opened.manifest.classifier.pool == "none":
            raise RefusedError(N_("The inspector %(name)s has no heat map, so it cannot measure."), name=name[:100])
        return opened

    def measure(self, name: str, file: str, opened: OpenBundle, checks: Checks) -> MeasuredPicture:
        """Measure one picture.

        Raises:
            RefusedError: there is no such picture, it is not measurable, or the inspector cannot be opened.
            InputError: the checks do not fit the inspector.
        """
        recipe = checks.within(opened.manifest.recipe)
        records = self._datasets.read(name)
        sample = records.find(file)
        if not measurable(sample):
            raise RefusedError(N_("This picture is not for training or validation, so it is not measured here."))
        return self._measured(records, sample, opened, recipe)

    def attempt(self, name: str, opened: OpenBundle, checks: Checks) -> SizeTrial | Task:
        """Return the result of trying checks on a data set, or the task that is working on it.

        Raises:
            RefusedError: there is no such data set.
            InputError: the checks do not fit the inspector.
        """
        recipe = checks.within(opened.manifest.recipe)
        records = self._datasets.read(name)
        key = (name, records.version, opened.sha256, recipe.model_dump_json())
        with self._lock:
            if key in self._done:
                return self._done[key]

        def work(task: Task) -> None:
            found = self._tried(records, opened, recipe, task.step)
            with self._lock:
                self._done[key] = found
                while len(self._done) > _HELD:
                    del self._done[next(iter(self._done))]

        return self._inspectors.worker.submit(("sizes", *key), N_("Measuring the pictures"), work)

    def _tried(
        self, records: Records, opened: OpenBundle, recipe: Recipe, step: Callable[[int, int], None]
    ) -> SizeTrial:
        labelled = [sample for sample in records.samples.values() if sample.label is not None]
        allowed = [sample for sample in labelled if measurable(sample)]
        pictures = []
        tried = spread(allowed, MOST_TRIED)
        for done, sample in enumerate(tried):
            step(done, len(tried))
            pictures.append(self._measured(records, sample, opened, recipe))
        return SizeTrial(of=len(allowed), pictures=tuple(pictures), without=len(labelled) - len(allowed))

    def _measured(self, records: Records, sample: Sample, opened: OpenBundle, recipe: Recipe) -> MeasuredPicture:
        with self._judging:
            inspector = self._open(opened)
            photograph, base = inspector.inspect_file(records.root / sample.file_name)
        bad = sample.label is Label.BAD
        if photograph is None:
            return MeasuredPicture(file=sample.file_name, bad=bad, verdict=base, before=base.state, size_wh=(1, 1))
        scale = inspector.heat_scale
        point = opened.point
        if point is not None:  # as if the limits had been certified with it
            point = replace(point, rules_sha256=rules_digest(recipe, scale))
        frame, size_wh = photograph.judged(recipe), photograph.size_wh
        try:
            verdict = apply_rules(base, frame, recipe, heat_scale=scale, point=point, size_wh=size_wh)
        except GonogoError as error:
            verdict = replace(base, state=State.FAULT, reason=str(error))
        return MeasuredPicture(file=sample.file_name, bad=bad, verdict=verdict, before=base.state, size_wh=size_wh)

    def _open(self, opened: OpenBundle) -> Inspector:
        """The inspector without limits and measurements of its own; the lock on judging is held."""
        if self._opened is None or self._opened[0] != opened.sha256:
            try:
                found = Inspector.load(opened.path, machine=Settings(threads=1), replay=False, policy=NOT_REQUIRED)
            except GonogoError as error:
                raise RefusedError(N_("The inspector cannot be opened: %(why)s"), why=str(error)) from error
            manifest = found.bundle.manifest
            bare = Checks(health=manifest.recipe.health).within(manifest.recipe)
            found = found.revised(replace(found.bundle, manifest=manifest.model_copy(update={"recipe": bare})))
            self._opened = (opened.sha256, found)
        return self._opened[1]


def measurable(sample: Sample) -> bool:
    """Whether a picture may be measured while limits are chosen."""
    return sample.split in (Split.TRAIN, Split.VAL)


def fits(opened: OpenBundle, checks: Checks) -> str:
    """What checks would mean for an inspector's promise.

    Returns:
        ``keeps``: its certified limits hold with them. ``certify``: limits that reject change the decision that was
        certified, so it must be certified again. ``open``: it is not certified yet. Otherwise why they do not fit.
    """
    try:
        recipe = checks.within(opened.manifest.recipe)
    except InputError as error:
        return str(error)
    if opened.point is None:
        return "open"
    return "keeps" if opened.point.rules_sha256 == rules_digest(recipe, opened.manifest.heat_scale) else "certify"
