"""``python -m gonogo.server.training.run WORKSPACE NUMBER``: execute one training run. Started by the server.

Assigns missing splits, trains, evaluates on the test split, and records every step in the run's folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gonogo.dataset import Dataset, Fractions, Sample, with_groups, write_metadata
from gonogo.dataset.checking import missing_for_training
from gonogo.dataset.history import name_snapshot
from gonogo.dataset.judged import JUDGED, judged_unlabelled
from gonogo.dataset.splits import complete_splits
from gonogo.errors import GonogoError, UnfitError
from gonogo.files import folder_beside, write_beside
from gonogo.server.dataset_store import Datasets
from gonogo.server.training.jobs import (
    Jobs,
    Phase,
    Status,
    TrainingJob,
    lower_priority,
    read_job_status,
    working_on,
    write_status,
)
from gonogo.server.workspace import Workspace
from gonogo.server.zone_file import ZONES

_POLL_S = 0.2
_PATIENCE_S = 10.0
_FEW = (Fractions(), Fractions(0.6, 0.1, 0.2, 0.1), Fractions(0.7, 0.1, 0.1, 0.1))
"""Tried in order: with few labels, most are needed for training."""
_SEEDS = 5


class CancelledError(GonogoError):
    """The run was cancelled."""


def run_training(root: Path, number: int) -> int:
    """Execute a run; returns the exit code."""
    space = Workspace.open(root)
    job = Jobs(space).find(number)
    with working_on(job.folder) as free:
        if not free or read_job_status(job.folder).phase is not Phase.QUEUED:
            return 0  # another process is executing it
        lower_priority()
        began = Status(phase=Phase.SPLITTING, began_at=datetime.now(UTC))
        write_status(job.folder, began)
        try:
            _work(space, job, began)
            ended = Status(phase=Phase.DONE)
        except CancelledError:
            ended = Status(phase=Phase.CANCELLED)
        except (GonogoError, OSError) as error:
            ended = Status(phase=Phase.FAILED, problem=str(error))
        write_status(job.folder, ended.model_copy(update={"began_at": began.began_at, "ended_at": datetime.now(UTC)}))
    return 0 if ended.phase is Phase.DONE else 1


def _work(space: Workspace, job: TrainingJob, began: Status) -> None:
    _say("Splitting the pictures.")
    dataset = _snapshot(Datasets(space.datasets), job)
    made = space.bundles / job.request.bundle
    write_status(job.folder, began.model_copy(update={"phase": Phase.TRAINING}))
    arguments = job.request.train_arguments(space.root / "weights", dataset)
    if not made.is_dir():  # otherwise an earlier start of this run made it and was interrupted afterwards
        _run(job, ["train", str(dataset), "--out", str(made), *arguments])
    write_status(job.folder, began.model_copy(update={"phase": Phase.JUDGING}))
    result = _run(job, ["evaluate", str(made), str(dataset), "--report", str(job.report), "--json"], keep=True)
    write_beside(job.folder / "evaluation.json", result)


def _snapshot(datasets: Datasets, job: TrainingJob) -> Path:
    """Write a snapshot of the labels with splits, because people continue labelling during training.

    A run that is continued keeps the snapshot of its first start.

    Raises:
        UnfitError: there are too few pictures, or too few distinct ones.
    """
    if job.snapshot.is_dir():
        return job.snapshot
    before = datasets.read(job.request.dataset)
    grouped = with_groups(before.dataset)
    labelled = [sample for sample in grouped if sample.label is not None]
    split = _split(labelled, before.root, job.request.splits)
    known = {sample.file_name: sample for sample in (*grouped, *split)}
    dealt = {sample.file_name for sample in split}
    with datasets.changing(job.request.dataset, what="train", who=job.request.who) as draft:
        draft.put(
            sample.model_copy(update={"group": known[file].group, "split": known[file].split})
            for file, sample in draft.samples.items()
            if file in known
        )
    used = [
        sample
        for file, sample in draft.samples.items()
        if (file in dealt and sample.label is not None)
        or (file in known and sample.present is False)  # the inspector learns to refuse these
    ]
    files = [file for sample in used for file in (sample.file_name, sample.mask_file_name) if file is not None]
    with folder_beside(job.snapshot) as folder:
        for top in {file.split("/")[0] for file in files}:
            (folder / top).symlink_to(before.root / top)
        (folder / JUDGED).symlink_to(before.root / JUDGED)  # scores seen here count as seen in the data set
        if job.request.zones and (before.root / ZONES).is_file():
            (folder / ZONES).write_bytes((before.root / ZONES).read_bytes())
        write_metadata(folder, used)
        if draft.revision is not None:
            name_snapshot(folder, draft.revision, dataset=job.request.dataset)
    return job.snapshot


def _split(labelled: Sequence[Sample], root: Path, splits: str) -> tuple[Sample, ...]:
    missing: list[str] = []
    early = judged_unlabelled(Dataset(root=root, samples=()))
    for fractions in (Fractions.parse(splits),) if splits else _FEW:
        for seed in range(_SEEDS):
            samples = complete_splits(labelled, fractions, seed, early=early)
            lacking = missing_for_training(Dataset(root=root, samples=samples), good_only=True)
            if not lacking:
                return samples
            missing = missing or lacking
    raise UnfitError(" ".join(sentence[0].upper() + sentence[1:] for sentence in missing))


def _run(job: TrainingJob, arguments: Sequence[str], *, keep: bool = False) -> bytes:
    """Run a gonogo command; its output is logged, or returned if ``keep`` is set.

    Raises:
        CancelledError: the run was cancelled.
        UnfitError: the command failed; the message is its last error.
    """
    _say(f"$ gonogo {' '.join(arguments)}")
    said = job.folder / "said.txt"
    environment = os.environ | {"GONOGO_PROGRESS_FILE": str(job.folder / "progress.json"), "PYTHONUNBUFFERED": "1"}
    environment["COLUMNS"] = "1000"  # the page wraps lines; the program would break paths
    with said.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "gonogo", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if keep else errors,
            stderr=errors,
            env=environment,
        )
        output = _wait(job, child, said)
    if child.returncode != 0:
        lines = [line for line in said.read_text("utf-8", errors="replace").splitlines() if line.strip()]
        raise UnfitError(_reason(lines) or f"gonogo {arguments[0]} exited with code {child.returncode}.")
    said.unlink()
    (job.folder / "progress.json").unlink(missing_ok=True)
    return output


def _wait(job: TrainingJob, child: subprocess.Popen[bytes], said: Path) -> bytes:
    """Wait for a command while copying its output to the log; terminate it on cancellation."""
    shown = 0
    while True:
        try:
            output, _ = child.communicate(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            shown = _copy_new_output(said, shown)
            if not (job.folder / "cancel").exists():
                continue
            child.terminate()
            try:
                child.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            _say("Cancelled.")
            raise CancelledError("cancelled") from None
        _copy_new_output(said, shown)
        return output or b""


def _copy_new_output(said: Path, shown: int) -> int:
    with said.open("rb") as file:
        file.seek(shown)
        new = file.read()
    os.write(sys.stdout.fileno(), new)
    return shown + len(new)


def _reason(lines: Sequence[str]) -> str:
    """Extract the error message from a command's output: its last own message, else the last line."""
    starts = [row for row, line in enumerate(lines) if line.startswith("gonogo: ")]
    message = lines[starts[-1] :] if starts else lines[-1:]
    return " ".join(message).removeprefix("gonogo: ")


def _say(line: str) -> None:
    os.write(sys.stdout.fileno(), f"{time.strftime('%H:%M:%S')}  {line}\n".encode())


if __name__ == "__main__":
    sys.exit(run_training(Path(sys.argv[1]), int(sys.argv[2])))
