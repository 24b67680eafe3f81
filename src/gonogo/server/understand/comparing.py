"""Two bundles on the same parts, which neither was taught: whose verdicts agree better with what people said."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import numpy as np
from jaxtyping import Int
from scipy import stats

from gonogo.dataset import Sample, Split
from gonogo.evaluate import Verdicts, worst_of_part
from gonogo.inspector import Inspector
from gonogo.replay import Rejudged, replay_ledger
from gonogo.schema import Label, Prediction, State
from gonogo.server.background_work import Task, Worker
from gonogo.server.dataset_store import Datasets, Records
from gonogo.server.inspectors.bundles import OpenBundle
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.review import ReviewDecision
from gonogo.server.training.jobs import Jobs
from gonogo.server.training.used_pictures import UsedPictures

MOST = 500
"""Reviewed parts or labelled pictures compared at once."""
_RIGHT = {Label.GOOD: State.GO, Label.BAD: State.NO_GO}


@dataclass(frozen=True, kw_only=True)
class ScorePair:
    """One part of which a person said what it is, judged by both."""

    picture: str
    """Address of its picture, which takes a ``width``."""
    name: str
    """What the part is called."""
    who: str
    """Who said what it is; empty where nobody is named."""
    first: Prediction
    second: Prediction

    @property
    def changed(self) -> bool:
        """Whether the two verdicts differ."""
        return self.first.state is not self.second.state

    @property
    def gain(self) -> int:
        """1 where the second does better: right before left to a person before wrong. -1 where the first does."""
        first, second = _worth(self.first), _worth(self.second)
        return (second > first) - (second < first)


@dataclass(frozen=True, kw_only=True)
class InspectorComparison:
    """What came of it."""

    first: OpenBundle
    second: OpenBundle
    dataset: str
    """Whose labelled pictures were judged; empty for the reviewed parts of the line."""
    pairs: tuple[ScorePair, ...]
    gone: int
    """Parts left out because their pictures are gone."""
    taught: int
    """Parts left out because one of the two was made with them: it has seen the answer."""
    unknown: tuple[str, ...]
    """The bundles of which nothing here says what they were made with."""

    def verdicts(self, *, second: bool) -> Verdicts:
        """What one of the two said, with every rate that follows."""
        return Verdicts(pictures=tuple(pair.second if second else pair.first for pair in self.pairs))

    @property
    def changes(self) -> list[ScorePair]:
        """Where the verdicts differ: bad parts first."""
        return sorted((pair for pair in self.pairs if pair.changed), key=lambda pair: pair.first.label is Label.GOOD)

    @property
    def better(self) -> int:
        """Parts on which the second does better."""
        return sum(pair.gain > 0 for pair in self.pairs)

    @property
    def worse(self) -> int:
        """Parts on which the second does worse."""
        return sum(pair.gain < 0 for pair in self.pairs)

    @property
    def chance(self) -> float:
        """How likely so uneven a count would be, were the two equally good: the two-sided exact sign test."""
        uneven = self.better + self.worse
        return float(stats.binomtest(self.better, uneven).pvalue) if uneven else 1.0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A part to be judged by both."""

    part: str
    label: Label
    defect: str | None
    name: str
    who: str
    picture: str
    known: Callable[[UsedPictures], bool]
    """Whether an inspector was made with it."""
    judge: Callable[[Inspector], tuple[State, float | None] | None]
    """Verdict and score, or nothing where its picture is gone."""

    def prediction(self, found: tuple[State, float | None]) -> Prediction:
        """The outcome beside the truth."""
        state, score = found
        return Prediction(
            file=self.name, part=self.part, label=self.label, defect=self.defect, state=state, score=score
        )


class Comparer:
    """Compares in the background and remembers the last outcome."""

    def __init__(self, ledger_pool: LedgerPool, datasets: Datasets, jobs: Jobs, worker: Worker) -> None:
        self._ledger_pool, self._datasets, self._jobs, self._worker = ledger_pool, datasets, jobs, worker
        self._lock = threading.Lock()
        self._last: InspectorComparison | None = None

    def last(self) -> InspectorComparison | None:
        """The last outcome."""
        with self._lock:
            return self._last

    def held_out(self) -> dict[str, int]:
        """How many labelled pictures each data set has that are for testing, or for nothing yet; those with any."""
        found = {name: len(_open(self._datasets.read(name))) for name in self._datasets.names()}
        return {name: count for name, count in found.items() if count}

    def start(
        self, first: OpenBundle, second: OpenBundle, *, dataset: str, decisions: Sequence[ReviewDecision]
    ) -> Task:
        """Judge parts with both.

        Args:
            first: One bundle.
            second: Another.
            dataset: Judge its test pictures and those without a split; empty for the reviewed parts.
            decisions: The reviewed parts.

        Raises:
            RefusedError: there is nothing to compare on.
        """
        records = self._datasets.read(dataset) if dataset else None
        if not (decisions if records is None else _open(records)):
            raise RefusedError(N_("There are no parts to compare."))
        return self._worker.submit(
            "compare",
            N_("Comparing two inspectors"),
            lambda task: self._compare(first, second, records, decisions, task),
        )

    def _compare(
        self,
        first: OpenBundle,
        second: OpenBundle,
        records: Records | None,
        decisions: Sequence[ReviewDecision],
        task: Task,
    ) -> None:
        made_with = {opened.name: self._jobs.taught(opened.name) for opened in (first, second)}
        offered = (
            [self._reviewed(each) for each in decisions]
            if records is None
            else [_labelled(records, each) for each in _open(records)]
        )
        unseen = [each for each in offered if not any(taught and each.known(taught) for taught in made_with.values())]
        inspectors = Inspector.load(first.path), Inspector.load(second.path)
        pairs, gone = [], 0
        # The latest decisions; of a data set, which may be sorted by label, a random share, always the same.
        chosen = np.arange(len(unseen))[-MOST:] if records is None else _some(len(unseen))
        for done, row in enumerate(chosen):
            task.step(done, len(chosen))
            each = unseen[row]
            found = [each.judge(inspector) for inspector in inspectors]
            if found[0] is None or found[1] is None:
                gone += 1
                continue
            rows = each.prediction(found[0]), each.prediction(found[1])
            pairs.append(ScorePair(picture=each.picture, name=each.name, who=each.who, first=rows[0], second=rows[1]))
        with self._lock:
            self._last = InspectorComparison(
                first=first,
                second=second,
                dataset="" if records is None else records.name,
                pairs=_by_part(pairs),
                gone=gone,
                taught=len(offered) - len(unseen),
                unknown=tuple(name for name, taught in made_with.items() if taught is None),
            )

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
            picture=f"/parts/{decision.seq}/picture.jpg?",
            known=lambda taught: taught.knows_frames(decision.frames_sha256, decision.part),
            judge=judge,
        )


def _labelled(records: Records, sample: Sample) -> Candidate:
    path = records.dataset.path(sample)

    def judge(inspector: Inspector) -> tuple[State, float | None] | None:
        if not path.is_file():
            return None
        _, verdict = inspector.inspect_file(path)
        return verdict.state, verdict.score

    assert sample.label is not None, "others were left out"
    return Candidate(
        part=sample.part_id,
        label=sample.label,
        defect=sample.defect,
        name=sample.file_name,
        who=str((sample.model_extra or {}).get("labelled_by") or ""),
        picture=f"/datasets/{records.name}/picture.jpg?{urlencode({'file': sample.file_name})}&",
        known=lambda taught: taught.knows_picture(path, sample.part),
        judge=judge,
    )


def _open(records: Records) -> list[Sample]:
    """Labelled pictures that no later training may have learned from: for testing, or not shared out yet."""
    return [
        sample for sample in records.samples.values() if sample.label is not None and sample.split in (Split.TEST, None)
    ]


def _some(count: int) -> Int[np.ndarray, " chosen"]:
    return np.sort(np.random.default_rng(0).permutation(count)[:MOST])


def _by_part(pairs: Sequence[ScorePair]) -> tuple[ScorePair, ...]:
    """One pair for each part, however many pictures show it: a part counts once."""
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


def _worth(row: Prediction) -> int:
    """2 where it is right, 1 where it is left to a person, 0 where it is wrong."""
    if row.state in (State.REVIEW, State.FAULT):
        return 1
    return 2 if row.state is _RIGHT[row.label] else 0
