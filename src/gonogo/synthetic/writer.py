"""Writes a rendered series as a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gonogo import images
from gonogo.dataset import Dataset, Sample, write_metadata
from gonogo.dataset.splits import Fractions, assign_splits, merge_groups
from gonogo.errors import InputError
from gonogo.files import folder_beside
from gonogo.progress import track
from gonogo.synthetic.processes import in_processes, part_ranges
from gonogo.synthetic.scene import Mix, Rendering, render_scene


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A range of parts for one worker to render and write."""

    folder: Path
    parts: range
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
    """Render a series of parts as a data set: ``images/``, ``masks/`` and ``metadata.jsonl``.

    The folder is renamed to ``out`` when it is complete; an interruption leaves nothing behind. Lots are not divided
    between splits. Pictures with no chip or two chips have no label, no box and no split.

    Args:
        out: The output folder; must not exist.
        parts: Number of parts, one picture each.
        seed: Random seed of the series; part ``i`` is the same picture for any number of parts.
        difficulty: 0 to 1.
        size_wh: Width and height of the pictures in pixels.
        mix: Share of bad parts, and the boards, chips and defects to choose from.
        workers: Number of processes. With more than one, call this under ``if __name__ == "__main__":``.
        fractions: Shares of the splits; by default those of an import.

    Raises:
        InputError: A number is out of range, ``out`` exists, or the disk is full.
    """
    out, mix = Path(out), mix or Mix()
    if parts < 1 or workers < 1:
        raise InputError(f"expected at least one part and one worker, found {parts} and {workers}.")
    with folder_beside(out) as folder:
        for name in ("images", "masks"):
            (folder / name).mkdir()
        tasks = [
            _Task(folder=folder, parts=each, seed=seed, difficulty=difficulty, size_wh=size_wh, mix=mix)
            for each in part_ranges(parts)
        ]
        done = track(in_processes(_render_range, tasks, workers), "rendering", total=len(tasks))
        samples = [sample for written in done for sample in written]
        samples.sort(key=lambda sample: sample.file_name)
        write_metadata(folder, _deal_splits(samples, seed, fractions or Fractions()))
    return Dataset.read(out)


def _deal_splits(samples: list[Sample], seed: int, fractions: Fractions) -> list[Sample]:
    """Assign a split to every labelled sample, by whole lots."""
    labelled = [sample for sample in samples if sample.label is not None]
    groups = merge_groups(labelled, range(len(labelled)))
    dealt = {sample.file_name: sample for sample in assign_splits(labelled, groups, fractions, seed)}
    return [dealt.get(sample.file_name, sample) for sample in samples]


def _render_range(task: _Task) -> list[Sample]:
    return [
        _write(
            task.folder,
            render_scene(number, seed=task.seed, difficulty=task.difficulty, size_wh=task.size_wh, mix=task.mix),
        )
        for number in task.parts
    ]


def _write(folder: Path, rendering: Rendering) -> Sample:
    file_name, mask_name = f"images/{rendering.part}.jpg", None
    (folder / file_name).write_bytes(rendering.jpeg)
    if rendering.mask is not None:
        mask_name = f"masks/{rendering.part}.png"
        (folder / mask_name).write_bytes(images.encode_png(rendering.mask.astype(np.uint8) * 255))
    return sample_of(rendering, file_name, mask_name)


def sample_of(rendering: Rendering, file_name: str, mask_file_name: str | None) -> Sample:
    """Create the record of a rendering; ``board``, ``chip`` and ``chips`` are extra columns."""
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
