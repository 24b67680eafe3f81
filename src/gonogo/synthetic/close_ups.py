"""Close-ups of one chip, good or with one of four plain defects, in one folder per class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from gonogo import images
from gonogo.files import write_beside
from gonogo.progress import track
from gonogo.schema import Label
from gonogo.synthetic.catalogue import BoardType, ChipType, Defect
from gonogo.synthetic.processes import in_processes, part_ranges
from gonogo.synthetic.scene import Mix, render_scene

MIX = Mix(
    bad=0.5,
    without_chip=0.0,
    with_two_chips=0.0,
    boards=(BoardType.CONTROLLER,),
    chips=(ChipType.QFP32,),
    defects=(Defect.SCRATCH, Defect.CRACK, Defect.STAIN, Defect.MISSING_PIN),
)
SEED = 7
AROUND = 0.06
"""Visible margin of the board around the chip, as a share of its width."""


def write_close_ups(folder: Path, parts: int, *, difficulty: float = 0.0, workers: int = 1, mix: Mix = MIX) -> None:
    """Render parts as JPEG into ``good/`` and ``bad/<kind>/``, with the mask of each defect beside its picture.

    Args:
        folder: Output folder; created if missing.
        parts: Number of parts; part ``i`` is the same picture for any number.
        difficulty: 0 to 1, see `Difficulty`.
        workers: Number of processes. With more than one, call this under ``if __name__ == "__main__":``.
        mix: Boards, chips and defects to choose from; every picture must show one chip.
    """
    ranges = part_ranges(parts)
    for _ in track(
        in_processes(partial(_write, folder, difficulty, mix), ranges, workers), "rendering", total=len(ranges)
    ):
        pass


def close_up(part: int, difficulty: float = 0.0, mix: Mix = MIX) -> tuple[str, bytes, bytes | None]:
    """Render a close-up of one part; returns its path, the JPEG, and the mask as PNG."""
    shot = render_scene(part, seed=SEED, difficulty=difficulty, size_wh=(320, 240), mix=mix)
    assert shot.box is not None, "every part of this mix has one chip"
    margin = AROUND * shot.box.width
    x1, y1, x2, y2 = images.pixel_window(shot.frame, shot.box.expanded(margin, margin, margin, margin))
    folder = "good" if shot.label is Label.GOOD else f"bad/{shot.defect}"
    picture = images.encode_jpeg(shot.frame[y1:y2, x1:x2], quality=95)
    if shot.mask is None or not shot.mask.any():
        return f"{folder}/{shot.part}", picture, None
    return f"{folder}/{shot.part}", picture, images.encode_png(shot.mask[y1:y2, x1:x2].astype(np.uint8) * 255)


def _write(folder: Path, difficulty: float, mix: Mix, parts: range) -> None:
    for name, picture, mask in (close_up(part, difficulty, mix) for part in parts):
        write_beside(folder / f"{name}.jpg", picture)
        if mask is not None:
            write_beside(folder / f"{name}_mask.png", mask)
