"""Drift watch: the alarm of `gonogo.drift`, run over the stored frames of the line.

The test continues from visit to visit. Its choice of parts does not depend on their content, so the false alarm
probability holds over the whole life of the bundle.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gonogo import drift
from gonogo.drift import DriftReference, DriftTest, Signs, Watch
from gonogo.drift.alarm import LEVELS, RISK
from gonogo.errors import GonogoError, InputError
from gonogo.evaluate import Rate
from gonogo.files import write_beside
from gonogo.inspector import Inspector
from gonogo.server.background_work import Task, Worker
from gonogo.server.inspectors.bundles import OpenBundle
from gonogo.server.language import N_
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.understand.line import Line, LinePart
from gonogo.signing import NOT_REQUIRED

AT_ONCE = 120
"""Maximum number of parts tested per visit, newest first."""
SHOWN = 240
"""Number of parts drawn."""
ALARM_AT = 2 / RISK
MEANINGS = (
    N_("Scores higher than at calibration"),
    N_("Scores lower than at calibration"),
    N_("Unlike anything in training"),
    N_("Brighter than at calibration: check the lamp and the exposure"),
    N_("Darker than at calibration: check the lamp and the exposure"),
    N_("More fine detail than at calibration: check focus, gain and noise"),
    N_("Less sharp than at calibration: check focus, lens and vibration"),
)
"""Texts of `gonogo.drift.Watch.meaning`, marked for translation."""


@dataclass(frozen=True, kw_only=True)
class BeyondLimit:
    """Share of the drawn parts beyond one limit."""

    watch: Watch
    rate: Rate


@dataclass(frozen=True, kw_only=True)
class DriftState:
    """What was seen so far."""

    test: DriftTest
    seq: int
    """The last ledger row tested."""
    signs: tuple[Signs, ...]
    """Signs of the last `SHOWN` parts, oldest first."""

    def values(self, sign: str) -> list[float]:
        """Values of one sign, one per part."""
        return [float(getattr(each, sign)) for each in self.signs]

    def beyond(self, sign: str) -> list[BeyondLimit]:
        """The strict limits of a sign and the share of parts beyond each."""
        found, seen = [], set()
        for watch in self.test.watches:
            # The strict limit of each end comes first: see `gonogo.drift.fit_watches`.
            if watch.sign == sign and watch.above not in seen:
                seen.add(watch.above)
                count = sum(watch.strange(each) for each in self.signs)
                found.append(BeyondLimit(watch=watch, rate=Rate(count=count, of=len(self.signs))))
        return found


SIGNS = tuple(each.name for each in fields(Signs))
assert LEVELS[0] < LEVELS[1], "`DriftState.beyond` takes the first limit of each end for the strict one"


class DriftWatch:
    """Tests the stored frames of the line in the background."""

    def __init__(self, ledger_pool: LedgerPool, line: Line, cache: Path, worker: Worker) -> None:
        self._ledger_pool, self._line, self._cache, self._worker = ledger_pool, line, cache, worker
        self._lock = threading.Lock()
        self._watched: dict[str, DriftState] = {}

    def of(self, opened: OpenBundle) -> DriftState | None:
        """Return the state after the latest `refresh`.

        Returns:
            ``None`` if no part was tested yet or the bundle has no drift limits.
        """
        if opened.reference is None or not opened.reference.watches:
            return None
        now = self._so_far(_key(opened, opened.reference), opened.reference)
        return now if now.signs else None

    def refresh(self, opened: OpenBundle) -> None:
        """Test new parts in the background."""
        if opened.reference is None or not opened.reference.watches:
            return
        key = _key(opened, opened.reference)
        if self._line.parts(opened.family, after=self._so_far(key, opened.reference).seq):
            self._worker.submit(
                ("watch", key), N_("Checking pictures from the line"), lambda task: self._look(opened, key, task)
            )

    def _so_far(self, key: str, reference: DriftReference) -> DriftState:
        with self._lock:
            if key not in self._watched:
                self._watched[key] = _read(self._path(key), reference)
            return self._watched[key]

    def _look(self, opened: OpenBundle, key: str, task: Task) -> None:
        with self._lock:
            before = self._watched[key]
        parts = self._line.parts(opened.family, after=before.seq)[-AT_ONCE:]
        inspector = Inspector.load(opened.path, replay=False, policy=NOT_REQUIRED)
        test, signs = before.test, list(before.signs)
        for done, part in enumerate(parts):
            task.step(done, len(parts))
            seen = self._observe(inspector, part)
            if seen is not None:
                test = test.update(seen)
                signs.append(seen)
        after = DriftState(test=test, seq=parts[-1].seq if parts else before.seq, signs=tuple(signs[-SHOWN:]))
        _write(self._path(key), after)
        with self._lock:
            self._watched[key] = after

    def _observe(self, inspector: Inspector, part: LinePart) -> Signs | None:
        assert inspector.drift is not None, "checked before"
        try:
            with self._ledger_pool.reading() as ledger:
                photograph = ledger.frames.photograph(part.frame_sha256)
        except GonogoError:  # deleted by the retention limit
            return None
        verdict = inspector.inspect(photograph)
        return drift.observe(photograph, verdict, inspector.drift.features, inspector.recipe)

    def _path(self, key: str) -> Path:
        return self._cache / f"drift-{key[:16]}.json"


def _key(opened: OpenBundle, reference: DriftReference) -> str:
    limits = [asdict(watch) for watch in reference.watches]
    return hashlib.sha256(f"{opened.graph} {json.dumps(limits)}".encode()).hexdigest()


def _write(path: Path, watched: DriftState) -> None:
    record = {
        "seq": watched.seq,
        "test": watched.test.to_json(),
        "signs": [[getattr(each, name) for name in SIGNS] for each in watched.signs],
    }
    write_beside(path, json.dumps(record).encode())


def _read(path: Path, reference: DriftReference) -> DriftState:
    """Read the saved state; start a new test if the file is missing or damaged."""
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        return DriftState(
            test=DriftTest.from_json(record["test"], reference.watches),
            seq=int(record["seq"]),
            signs=tuple(Signs(**dict(zip(SIGNS, row, strict=True))) for row in record["signs"]),
        )
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return DriftState(test=DriftTest.start(reference.watches), seq=0, signs=())
