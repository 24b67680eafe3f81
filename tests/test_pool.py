from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from gonogo.batch import BatchJob, judge_files, judge_job
from gonogo.dataset import Dataset, Split
from gonogo.errors import BundleError, InputError
from gonogo.inspector import Inspector
from gonogo.schema import State


@pytest.mark.slow
def test_several_processes_say_what_one_says_in_the_same_order(trained: Path, discs: Dataset, tmp_path: Path) -> None:
    files = [discs.path(sample) for sample in discs.split(Split.TEST)[:12]]
    (tmp_path / "text.jpg").write_text("no picture")
    files.insert(5, tmp_path / "text.jpg")
    jobs = [BatchJob(file=file, heatmap=tmp_path / "maps" / f"{file.stem}.jpg") for file in files]
    inspector = Inspector.load(trained)
    alone = [judge_job(inspector, job) for job in jobs]
    together = list(judge_files(trained, jobs, workers=2))
    assert [done.job for done in together] == jobs
    assert [done.verdict.state for done in together] == [done.verdict.state for done in alone]
    for one, other in zip(alone, together, strict=True):
        assert other.verdict.score == pytest.approx(one.verdict.score, abs=1e-3)
    assert together[5].verdict.state is State.FAULT
    assert not together[5].readable
    assert (tmp_path / "maps" / f"{files[0].stem}.jpg").is_file()
    assert not jobs[5].heatmap.is_file()  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_bundle_that_cannot_be_opened_is_told_as_such(tmp_path: Path, discs: Dataset) -> None:
    with pytest.raises(BundleError, match="expected a bundle"):
        list(judge_files(tmp_path, [BatchJob(file=discs.path(discs.samples[0]))], workers=2))


@pytest.mark.slow
def test_a_worker_ended_from_outside_is_no_silence(trained: Path, discs: Dataset) -> None:
    jobs = [BatchJob(file=discs.path(sample)) for sample in discs.samples] * 4
    found = judge_files(trained, jobs, workers=2)
    next(found)
    workers = [
        child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())
    ]
    os.kill(workers[0].pid, signal.SIGKILL)
    with pytest.raises(InputError, match="fewer --workers"):
        list(found)
