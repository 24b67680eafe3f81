"""Paired comparison of two bundles on the same parts, preferably on parts that neither was trained or calibrated on."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias
from urllib.parse import urlencode

import numpy as np
from pydantic import JsonValue
from scipy import stats

from gonogo.array_types import Int
from gonogo.dataset import Sample, Split
from gonogo.dataset.judged import record_judged
from gonogo.evaluate import Verdicts, worst_of_part
from gonogo.inspector import Inspector
from gonogo.replay import Rejudged, replay_ledger
from gonogo.schema import Label, OperatingPoint, Prediction, State
from gonogo.server.background_work import Asked, Task, Worker, WorkKind
from gonogo.server.dataset_store import Datasets, Records
from gonogo.server.inspectors.bundles import OpenBundle
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.positions import JudgedScore
from gonogo.server.review import ReviewDecision
from gonogo.server.training.jobs import Jobs
from gonogo.server.training.used_pictures import UsedPictures
from gonogo.signing import NOT_REQUIRED

MOST = 500
"""Reviewed parts or labelled pictures compared at once."""
_KEPT = 8
ComparisonKey: TypeAlias = tuple[str, str, str]
"""SHA-256 of both bundles, and the data set."""
_RIGHT = {Label.GOOD: State.GO, Label.BAD: State.NO_GO}


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Two thresholds that a person looks at."""

    go_below: float
    no_go_above: float


@dataclass(frozen=True, kw_only=True)
class ScorePair:
    """One labelled part, judged by both bundles."""

    picture: str
    """Which picture: the query of ``/compare/picture.jpg`` without the inspector."""
    name: str
    """Name of the part or picture."""
    who: str
    """Who labelled it; empty if unknown."""
    first: Prediction
    second: Prediction

    @property
    def changed(self) -> bool:
        """Whether the two verdicts differ."""
        return self.first.state is not self.second.state

    @property
    def gain(self) -> int:
        """1 if the second bundle does better, -1 if the first does, else 0. Right beats review, review beats wrong."""
        first, second = _rank(self.first), _rank(self.second)
        return (second > first) - (second < first)


@dataclass(frozen=True, kw_only=True)
class InspectorComparison:
    """Result of a comparison."""

    first: OpenBundle
    second: OpenBundle
    dataset: str
    """The data set; empty for the reviewed parts of the line."""
    pairs: tuple[ScorePair, ...]
    gone: int
    """Number of parts skipped because their pictures no longer exist."""
    used: int
    """Number of parts skipped because one of the two bundles was trained or calibrated on them."""
    unknown: tuple[str, ...]
    """Names of the bundles whose training pictures are unknown."""
    seen: tuple[str, ...] = ()
    """Names of the bundles that were made with some of these parts; empty if there were others."""

    @property
    def key(self) -> ComparisonKey:
        """What was compared."""
        return (self.first.sha256, self.second.sha256, self.dataset)

    def at(self, first: Thresholds, second: Thresholds) -> InspectorComparison:
        """Return the comparison with other thresholds for each of the two."""
        pairs = tuple(
            replace(
                pair,
                first=_moved(pair.first, self.first.point, first),
                second=_moved(pair.second, self.second.point, second),
            )
            for pair in self.pairs
        )
        return replace(self, pairs=pairs)

    def scores(self, *, second: bool) -> list[float]:
        """The scores of one bundle, without parts that it could not judge."""
        rows = [pair.second if second else pair.first for pair in self.pairs]
        return [row.score for row in rows if row.score is not None]

    def verdicts(self, *, second: bool) -> Verdicts:
        """The verdicts of one bundle, with their rates."""
        return Verdicts(pictures=tuple(pair.second if second else pair.first for pair in self.pairs))

    @property
    def changes(self) -> list[ScorePair]:
        """Parts with different verdicts, bad parts first."""
        return sorted((pair for pair in self.pairs if pair.changed), key=lambda pair: pair.first.label is Label.GOOD)

    @property
    def better(self) -> int:
        """Number of parts on which the second bundle does better."""
        return sum(pair.gain > 0 for pair in self.pairs)

    @property
    def worse(self) -> int:
        """Number of parts on which the second bundle does worse."""
        return sum(pair.gain < 0 for pair in self.pairs)

    @property
    def chance(self) -> float:
        """p-value of the two-sided exact sign test: no difference between the two bundles."""
        uneven = self.better + self.worse
        return float(stats.binomtest(self.better, uneven).pvalue) if uneven else 1.0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A part to be judged by both bundles."""

    part: str
    label: Label
    defect: str | None
    name: str
    who: str
    picture: str
    was_used: Callable[[UsedPictures], bool]
    """Whether an inspector was trained or calibrated on it."""
    judge: Callable[[Inspector], tuple[State, float | None] | None]
    """Returns verdict and score; ``None`` if the picture no longer exists."""

    def prediction(self, found: tuple[State, float | None]) -> Prediction:
        """Combine the outcome with the label."""
        state, score = found
        return Prediction(
            file=self.name, part=self.part, label=self.label, defect=self.defect, state=state, score=score
        )


class Comparer:
    """Compares two bundles in the background and keeps the latest results in memory."""

    def __init__(self, ledger_pool: LedgerPool, datasets: Datasets, jobs: Jobs, worker: Worker) -> None:
        self._ledger_pool, self._datasets, self._jobs, self._worker = ledger_pool, datasets, jobs, worker
        self._lock = threading.Lock()
        self._found: OrderedDict[ComparisonKey, InspectorComparison] = OrderedDict()

    def of(self, first: OpenBundle, second: OpenBundle, dataset: str) -> InspectorComparison | None:
        """Return the result for two bundles as they are now; ``None`` if they were not compared yet."""
        with self._lock:
            return self._found.get((first.sha256, second.sha256, dataset))

    def latest(self) -> InspectorComparison | None:
        """Return the latest result."""
        with self._lock:
            return next(reversed(self._found.values()), None)

    def judged(self, sha256: str, dataset: str, file: str) -> bool:
        """Whether a comparison has judged this picture of a data set with this bundle."""
        with self._lock:
            return any(
                sha256 in key[:2] and key[2] == dataset and any(pair.name == file for pair in found.pairs)
                for key, found in self._found.items()
            )

    def choices(self) -> dict[str, tuple[int, bool]]:
        """Return the data sets with labelled pictures: how many are held out for tests, or how many there are at all.

        The second value says whether they are held out.
        """
        found = {}
        for name in self._datasets.names():
            records = self._datasets.read(name)
            held_out, labelled = len(_unused(records)), len(_every(records))
            if labelled:
                found[name] = (held_out or labelled, held_out > 0)
        return found

    def start(
        self, first: OpenBundle, second: OpenBundle, *, dataset: str, decisions: Sequence[ReviewDecision], who: str = ""
    ) -> Task:
        """Judge the same parts with both bundles.

        Args:
            first: The first bundle.
            second: The second bundle.
            dataset: The data set whose test pictures and pictures without a split are judged, or all labelled ones if
                one of the two was made with all of these; empty for the reviewed parts.
            decisions: The reviewed parts.
            who: Who asked.

        Raises:
            RefusedError: there are no parts to compare.
        """
        records = self._datasets.read(dataset) if dataset else None
        if not (decisions if records is None else _every(records)):
            raise RefusedError(N_("There are no parts to compare."))
        arguments: dict[str, JsonValue] = {"a": first.name, "b": second.name, "on": dataset}
        return self._worker.submit(
            ("compare", first.sha256, second.sha256, dataset),
            N_("Comparing two inspectors"),
            lambda task: self._compare(first, second, records, decisions, task),
            asked=Asked(kind=WorkKind.COMPARE, who=who, about=f"{first.name}, {second.name}", arguments=arguments),
        )

    def _compare(
        self,
        first: OpenBundle,
        second: OpenBundle,
        records: Records | None,
        decisions: Sequence[ReviewDecision],
        task: Task,
    ) -> None:
        used_by = {opened.name: self._jobs.used_pictures(opened.name) for opened in (first, second)}
        offered, unseen, seen = self._candidates(records, decisions, used_by)
        # The latest decisions, or a fixed random sample of a data set, which may be sorted by label.
        rows = np.arange(len(unseen))[-MOST:] if records is None else _sample_of(len(unseen))
        chosen = [unseen[row] for row in rows]
        if records is not None:  # before anything is shown: these pictures count as seen from here on
            files = {each.name for each in chosen}
            shown = tuple(sample for file, sample in records.samples.items() if file in files)
            record_judged(replace(records.dataset, samples=shown), (Split.CALIBRATE, Split.TEST))
        inspectors = [Inspector.load(each.path, policy=NOT_REQUIRED) for each in (first, second)]
        pairs, gone = [], 0
        for done, each in enumerate(chosen):
            task.step(done, len(chosen))
            found = [each.judge(inspector) for inspector in inspectors]
            if found[0] is None or found[1] is None:
                gone += 1
                continue
            both = each.prediction(found[0]), each.prediction(found[1])
            pairs.append(ScorePair(picture=each.picture, name=each.name, who=each.who, first=both[0], second=both[1]))
        result = InspectorComparison(
            first=first,
            second=second,
            dataset="" if records is None else records.name,
            pairs=_by_part(pairs),
            gone=gone,
            used=0 if seen else len(offered) - len(unseen),
            unknown=tuple(name for name, used in used_by.items() if used is None),
            seen=seen,
        )
        with self._lock:
            self._found.pop(result.key, None)
            self._found[result.key] = result
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)

    def _candidates(
        self,
        records: Records | None,
        decisions: Sequence[ReviewDecision],
        used_by: Mapping[str, UsedPictures | None],
    ) -> tuple[list[Candidate], list[Candidate], tuple[str, ...]]:
        """Return the parts on offer, those to be judged, and the bundles that were made with some of these."""
        if records is None:
            offered = [self._reviewed(each) for each in decisions]
        else:
            offered = [_labelled(records, each) for each in _unused(records)]
        unseen = [each for each in offered if not any(used and each.was_used(used) for used in used_by.values())]
        if unseen:
            return offered, unseen, ()
        every = offered if records is None else [_labelled(records, each) for each in _every(records)]
        seen = (name for name, used in used_by.items() if used and any(each.was_used(used) for each in every))
        return every, every, tuple(seen)

    def _reviewed(self, decision: ReviewDecision) -> Candidate:
        def judge(inspector: Inspector) -> tuple[State, float | None] | None:
            with self._ledger_pool.reading() as ledger:
                found = next(replay_ledger(ledger, inspector, after=decision.seq - 1, before=decision.seq + 1), None)
            return (found.state_after, found.score_after) if isinstance(found, Rejudged) else None

        return Candidate(
            part=f"row {decision.seq}",
            label=decision.label,
            defect=decision.defect,
            name=decision.part or f"{decision.seq}",
            who=decision.who,
            picture=urlencode({"seq": decision.seq}),
            was_used=lambda used: used.contains_frames(decision.frames_sha256, decision.part),
            judge=judge,
        )


def _labelled(records: Records, sample: Sample) -> Candidate:
    path = records.dataset.path(sample)

    def judge(inspector: Inspector) -> tuple[State, float | None] | None:
        if not path.is_file():
            return None
        _, verdict = inspector.inspect_file(path)
        return verdict.state, verdict.score

    assert sample.label is not None, "unlabelled pictures were skipped"
    return Candidate(
        part=sample.part_id,
        label=sample.label,
        defect=sample.defect,
        name=sample.file_name,
        who=str((sample.model_extra or {}).get("labelled_by") or ""),
        picture=urlencode({"dataset": records.name, "file": sample.file_name}),
        was_used=lambda used: used.contains_picture(path, sample.part),
        judge=judge,
    )


def _every(records: Records) -> list[Sample]:
    """All labelled pictures."""
    return [sample for sample in records.samples.values() if sample.label is not None]


def _unused(records: Records) -> list[Sample]:
    """Labelled pictures that were not used for training: in the test split, or without a split."""
    return [sample for sample in _every(records) if sample.split in (Split.TEST, None)]


def _sample_of(count: int) -> Int[np.ndarray, " chosen"]:
    return np.sort(np.random.default_rng(0).permutation(count)[:MOST])


def _by_part(pairs: Sequence[ScorePair]) -> tuple[ScorePair, ...]:
    """Merge the pictures of each part, so that a part counts once."""
    groups: defaultdict[str, list[ScorePair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.first.part].append(pair)
    return tuple(
        replace(
            group[0],
            first=worst_of_part([pair.first for pair in group]),
            second=worst_of_part([pair.second for pair in group]),
        )
        for group in groups.values()
    )


def _moved(row: Prediction, point: OperatingPoint | None, to: Thresholds) -> Prediction:
    state = JudgedScore(state=row.state, score=row.score).at(point, to.go_below, to.no_go_above)
    return replace(row, state=state)


def _rank(row: Prediction) -> int:
    """2 if the verdict is right, 1 for review or fault, 0 if it is wrong."""
    if row.state in (State.REVIEW, State.FAULT):
        return 1
    return 2 if row.state is _RIGHT[row.label] else 0
