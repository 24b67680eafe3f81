"""Exports: files that are made in the background, one after the other, and kept for a week.

Every export is an action in the ledger, recorded with the SHA-256 of the file before it can be downloaded. An export
that was interrupted leaves nothing.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gonogo.bundle import SEAL, SIGNATURE, read_bundle
from gonogo.config import Strict
from gonogo.dataset import export_dataset
from gonogo.dataset.exporting import Format
from gonogo.files import write_beside
from gonogo.ledger import RowKind
from gonogo.progress import reported_to, track
from gonogo.schema import State
from gonogo.server.background_work import Asked, Task, Worker, WorkKind
from gonogo.server.dataset_store import Datasets
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.records.row_index import RowIndex, Wanted
from gonogo.server.records.shift import write_shift
from gonogo.server.records.tables import (
    ACTION_COLUMNS,
    VERDICT_COLUMNS,
    TableFormat,
    action_rows,
    numbers_of,
    verdict_rows,
    write_table,
)
from gonogo.server.review.decisions import Decisions
from gonogo.server.signatures import Signatures
from gonogo.server.workspace import Workspace

EXPORTED = "export"
"""The action that records an export."""
MOST_WAITING = 4
"""Largest number of unfinished exports of one person."""
KEPT = 40
KEPT_FOR = timedelta(days=7)
_ABOUT = "about.json"


class ExportKind(StrEnum):
    """What is exported."""

    VERDICTS = "verdicts"
    ACTIONS = "actions"
    DATASET = "dataset"
    INSPECTOR = "inspector"
    SHIFT = "shift"


class ExportRequest(Strict):
    """What a person asked for; only the fields of its kind are set."""

    kind: ExportKind
    table_format: TableFormat = TableFormat.CSV
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None
    state: State | None = None
    station: str = ""
    product: str = ""
    who: str = ""
    action: str = ""
    dataset: str = ""
    label_format: Format = Format.COCO
    labels_only: bool = False
    bundle: str = ""
    shift: str = ""
    """Name of the shift, for the name of the file."""

    @property
    def wanted(self) -> Wanted:
        """The search for the rows of a table."""
        return Wanted(
            kind=RowKind.ACTION if self.kind is ExportKind.ACTIONS else RowKind.VERDICT,
            text=self.text,
            since=self.since,
            until=self.until,
            state=self.state,
            station=self.station,
            product=self.product,
            who=self.who,
            action=self.action,
        )

    def described(self) -> dict[str, Any]:
        """What was asked for, without what was left open."""
        return self.model_dump(mode="json", exclude_defaults=True)


class Finished(Strict):
    """A finished export, as it is kept beside its file."""

    number: int
    request: ExportRequest
    who: str
    at: datetime
    file: str
    count: int
    """Rows of a table, pictures of a data set, files of an inspector, parts of a shift."""
    size: int
    """In bytes."""
    sha256: str
    notes: tuple[str, ...] = ()
    """What the format cannot carry."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """An export of a person: waiting, running, failed or finished."""

    number: int
    request: ExportRequest
    who: str
    asked_at: datetime
    task: Task | None
    """``None`` if it was finished before the server was started."""
    finished: Finished | None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.finished is not None or (self.task is not None and self.task.over)


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What a maker wrote."""

    count: int
    notes: tuple[str, ...] = ()


class Exports:
    """Makes exports and keeps them for those who asked for them."""

    def __init__(
        self,
        root: Path,
        worker: Worker,
        *,
        workspace: Workspace,
        ledger_pool: LedgerPool,
        index: RowIndex,
        datasets: Datasets,
        decisions: Decisions,
        signatures: Signatures,
    ) -> None:
        self._signatures = signatures
        self._root, self._worker, self._workspace = root, worker, workspace
        self._ledger_pool, self._index, self._datasets, self._decisions = ledger_pool, index, datasets, decisions
        self._lock = threading.Lock()
        self._exports: dict[int, Export] | None = None

    def start(self, request: ExportRequest, who: str) -> Export:
        """Start an export.

        Raises:
            RefusedError: too many exports of this person are waiting.
        """
        with self._lock:
            known = self._known()
            if sum(not each.over for each in known.values() if each.who == who) >= MOST_WAITING:
                raise RefusedError(N_("Several of your exports are not finished yet. Wait for them first."))
            self._forget_old(known)
            number = max(known, default=0) + 1
            task = self._worker.submit(
                ("export", number),
                N_("Exporting"),
                lambda task: self._make(task, number, request, who),
                asked=Asked(
                    kind=WorkKind.EXPORT,
                    who=who,
                    about=_file_name(request, number),
                    arguments={"request": request.described()},
                ),
            )
            known[number] = Export(
                number=number, request=request, who=who, asked_at=datetime.now(UTC), task=task, finished=None
            )
            return known[number]

    def of(self, who: str) -> list[Export]:
        """The exports of a person, the latest first."""
        with self._lock:
            return [each for _, each in sorted(self._known().items(), reverse=True) if each.who == who]

    def file(self, number: int, who: str) -> tuple[Path, str] | None:
        """The file of a finished export of this person, and its name for the download."""
        with self._lock:
            found = self._known().get(number)
        if found is None or found.finished is None or found.who != who:
            return None
        path = self._root / f"{number:04d}" / found.finished.file
        return (path, found.finished.file) if path.is_file() else None

    def _make(self, task: Task, number: int, request: ExportRequest, who: str) -> None:
        folder = self._root / f"{number:04d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made = False
        try:
            path = folder / _file_name(request, number)
            with reported_to(task.step):
                done = _MAKERS[request.kind](self, request, path)
            finished = Finished(
                number=number,
                request=request,
                who=who,
                at=datetime.now(UTC),
                file=path.name,
                count=done.count,
                size=path.stat().st_size,
                sha256=_sha256(path),
                notes=done.notes,
            )
            self._record(finished)
            write_beside(folder / _ABOUT, finished.model_dump_json().encode())
            with self._lock:
                self._known()[number] = Export(
                    number=number, request=request, who=who, asked_at=finished.at, task=task, finished=finished
                )
            made = True
        finally:
            if not made:
                shutil.rmtree(folder, ignore_errors=True)

    def _record(self, finished: Finished) -> None:
        self._ledger_pool.act(
            EXPORTED,
            finished.who,
            number=finished.number,
            file=finished.file,
            count=finished.count,
            bytes=finished.size,
            sha256=finished.sha256,
            what=", ".join(f"{name}={value}" for name, value in finished.request.described().items()),
        )

    def _verdicts(self, request: ExportRequest, path: Path) -> _Made:
        self._index.update()
        decisions = self._decisions.standing()
        with self._ledger_pool.reading() as ledger, path.open("xb") as file:
            numbers = numbers_of(self._index, request.wanted, ledger.head().seq)
            tracked = track(numbers, "exporting", total=self._expected(request))
            rows = verdict_rows(ledger, tracked, decisions, self._signatures)
            return _Made(count=write_table(rows, VERDICT_COLUMNS, file, request.table_format))

    def _actions(self, request: ExportRequest, path: Path) -> _Made:
        self._index.update()
        with self._ledger_pool.reading() as ledger, path.open("xb") as file:
            numbers = numbers_of(self._index, request.wanted, ledger.head().seq)
            rows = action_rows(ledger, track(numbers, "exporting", total=self._expected(request)))
            return _Made(count=write_table(rows, ACTION_COLUMNS, file, request.table_format))

    def _expected(self, request: ExportRequest) -> int:
        return self._index.count(request.wanted, most=None)

    def _dataset(self, request: ExportRequest, path: Path) -> _Made:
        dataset = self._datasets.read(request.dataset).dataset
        done = export_dataset(dataset, path, request.label_format, labels_only=request.labels_only)
        return _Made(count=done.pictures, notes=done.notes)

    def _inspector(self, request: ExportRequest, path: Path) -> _Made:
        opened = read_bundle(next(each for each in self._workspace.bundle_paths() if each.name == request.bundle))
        names = [*opened.digests, SEAL]
        with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
            for name in track(names, "packing"):
                data = opened.data(name) if name in opened.digests else (opened.root / SEAL).read_bytes()
                archive.writestr(f"{opened.root.name}/{name}", data)
            if opened.signature is not None:
                archive.writestr(f"{opened.root.name}/{SIGNATURE}", opened.signature)
        return _Made(count=len(names) + (opened.signature is not None))

    def _shift(self, request: ExportRequest, path: Path) -> _Made:
        return _Made(count=write_shift(self._ledger_pool.path, path, request.station, request.since, request.until))

    def _known(self) -> dict[int, Export]:
        """All exports; on the first call those of earlier runs are read, and unfinished ones are removed."""
        if self._exports is None:
            self._exports = {}
            for folder in sorted(self._root.glob("[0-9]*")):
                try:
                    finished = Finished.model_validate_json((folder / _ABOUT).read_bytes())
                except (OSError, ValidationError):
                    shutil.rmtree(folder, ignore_errors=True)
                    continue
                self._exports[finished.number] = Export(
                    number=finished.number,
                    request=finished.request,
                    who=finished.who,
                    asked_at=finished.at,
                    task=None,
                    finished=finished,
                )
        return self._exports

    def _forget_old(self, known: dict[int, Export]) -> None:
        over = [each for _, each in sorted(known.items(), reverse=True) if each.over]
        now = datetime.now(UTC)
        for place, each in enumerate(over):
            if place >= KEPT or now - each.asked_at > KEPT_FOR:
                shutil.rmtree(self._root / f"{each.number:04d}", ignore_errors=True)
                del known[each.number]


_MAKERS: dict[ExportKind, Callable[[Exports, ExportRequest, Path], _Made]] = {
    ExportKind.VERDICTS: Exports._verdicts,
    ExportKind.ACTIONS: Exports._actions,
    ExportKind.DATASET: Exports._dataset,
    ExportKind.INSPECTOR: Exports._inspector,
    ExportKind.SHIFT: Exports._shift,
}


def _file_name(request: ExportRequest, number: int) -> str:
    match request.kind:
        case ExportKind.VERDICTS | ExportKind.ACTIONS:
            return f"{request.kind}-{number:04d}.{request.table_format}"
        case ExportKind.DATASET:
            return f"{request.dataset}-{request.label_format}.zip"
        case ExportKind.INSPECTOR:
            return f"{request.bundle}.zip"
        case ExportKind.SHIFT:
            return f"shift-{request.shift}.html"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
