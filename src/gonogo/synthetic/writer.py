"""A rendered series as a data set folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from gonogo import images
from gonogo.dataset import Dataset, Sample, write_metadata
from gonogo.dataset.splits import Fractions, assign_splits, merge_groups
from gonogo.errors import InputError
from gonogo.files import folder_beside
from gonogo.progress import track
from gonogo.synthetic.scene import Mix, Rendering, render

PARTS_PER_TASK = 8

# Workers make the same large buffers for every picture: without these glibc hands each back to the kernel and faults
# it in again, a quarter of the time of a rendering.
_KEEP_BUFFERS = {
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "536870912",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A range of parts for one worker to render and write."""

    folder: Path
    first: int
    stop: int
    seed: int
    difficulty: float
    size_wh: tuple[int, int]
    mix: Mix


def write_dataset(
    out: str | Path,
    parts: int,
    *,
    seed: int = 1,
    difficulty: float = 0.5,
    size_wh: tuple[int, int] = (640, 480),
    mix: Mix | None = None,
    workers: int = 1,
    fractions: Fractions | None = None,
) -> Dataset:
    """Render a series of parts into a data set folder: ``images/``, ``masks/`` and ``metadata.jsonl``.

    The folder appears under its name when it is complete; an interruption leaves nothing behind. Splits are dealt by
    whole lots. Pictures with no chip or two have no label, no box and no split.

    Args:
        out: The folder to make; must not exist.
        parts: How many parts, one picture each.
        seed: Which series; part ``i`` of a series is the same picture however many parts are asked for.
        difficulty: 0 to 1.
        size_wh: Width and height of the pictures in pixels.
        mix: How often a part is bad, and which boards, chips and defects there are.
        workers: Processes. With more than one, call this under ``if __name__ == "__main__":``.
        fractions: Shares of the splits; the usual ones where omitted.

    Raises:
        InputError: a number outside its range, ``out`` exists, or the disk is full.
    """
    out, mix = Path(out), mix or Mix()
    if parts < 1 or workers < 1:
        raise InputError(f"expected at least one part and one worker, found {parts} and {workers}.")
    with folder_beside(out) as folder:
        for name in ("images", "masks"):
            (folder / name).mkdir()
        tasks = [
            _Task(
                folder=folder,
                first=first,
                stop=min(first + PARTS_PER_TASK, parts),
                seed=seed,
                difficulty=difficulty,
                size_wh=size_wh,
                mix=mix,
            )
            for first in range(0, parts, PARTS_PER_TASK)
        ]
        samples = [
            sample for written in track(_written(tasks, workers), "rendering", total=len(tasks)) for sample in written
        ]
        samples.sort(key=lambda sample: sample.file_name)
        write_metadata(folder, _deal_splits(samples, seed, fractions or Fractions()))
    return Dataset.read(out)


def _deal_splits(samples: list[Sample], seed: int, fractions: Fractions) -> list[Sample]:
    """Give every labelled sample a split, by whole lots; the others keep none."""
    labelled = [sample for sample in samples if sample.label is not None]
    groups = merge_groups(labelled, range(len(labelled)))
    dealt = {sample.file_name: sample for sample in assign_splits(labelled, groups, fractions, seed)}
    return [dealt.get(sample.file_name, sample) for sample in samples]


def _written(tasks: list[_Task], workers: int) -> Iterator[list[Sample]]:
    if workers == 1:
        yield from map(_render_range, tasks)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_worker)
    try:
        with _environment(_KEEP_BUFFERS):
            futures = [pool.submit(_render_range, task) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that child processes started in the block inherit; those already set are left alone."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _render_range(task: _Task) -> list[Sample]:
    return [
        _write(
            task.folder,
            render(number, seed=task.seed, difficulty=task.difficulty, size_wh=task.size_wh, mix=task.mix),
        )
        for number in range(task.first, task.stop)
    ]


def _write(folder: Path, rendering: Rendering) -> Sample:
    file_name, mask_name = f"images/{rendering.part}.jpg", None
    (folder / file_name).write_bytes(rendering.jpeg)
    if rendering.mask is not None:
        mask_name = f"masks/{rendering.part}.png"
        (folder / mask_name).write_bytes(images.encode_png(rendering.mask.astype(np.uint8) * 255))
    return sample_of(rendering, file_name, mask_name)


def sample_of(rendering: Rendering, file_name: str, mask_file_name: str | None) -> Sample:
    """The record of a rendering; ``board``, ``chip`` and ``chips`` are extra columns."""
    return Sample.model_validate(
        {
            "file_name": file_name,
            "label": rendering.label,
            "defect": rendering.defect and str(rendering.defect),
            "part": rendering.part,
            "lot": rendering.lot,
            "mask_file_name": mask_file_name,
            "box_xyxy": rendering.box and tuple(round(value, 2) for value in rendering.box.xyxy),
            "quad": rendering.quad and tuple((round(x, 2), round(y, 2)) for x, y in rendering.quad),
            "present": None if rendering.chips == 1 else False,
            "board": str(rendering.board),
            "chip": str(rendering.chip),
            "chips": rendering.chips,
        }
    )
