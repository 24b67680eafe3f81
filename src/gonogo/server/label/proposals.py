"""Proposes the region of the part: from an ROI config, a learned ROI, or the boxes drawn so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gonogo import bundle, images
from gonogo.dataset import Sample
from gonogo.dataset.levels import levels_of
from gonogo.errors import GonogoError
from gonogo.roi import RECIPE, ClassicalConfig, ClassicalRoi, Roi, open_roi
from gonogo.roi.scoring import read_examples
from gonogo.roi.tuning import tune
from gonogo.schema import Located
from gonogo.server.dataset_store import Datasets, Records
from gonogo.server.language import N_

TUNE_FROM = 6
"""Minimum number of boxes for tuning an ROI config; it is tuned again whenever there are 50 % more."""
_AGAIN = 1.5
_MOST_EXAMPLES = 40
_TUNE_LIMIT_S = 6.0
_SIDE_PX = 320
_SAME_IOU = 0.9
_GUESSES = tuple(
    ClassicalRoi(ClassicalConfig.model_validate({"shape": "box", "area": [0.02, 0.9], **recipe}))
    for recipe in (
        {
            "choose": "most-rectangular",
            "grow_short": 0.15,
            "steps": [
                {"step": "channel", "channel": "blue"},
                {"step": "open", "size": 7},
                {"step": "gradient", "size": 9},
                {"step": "threshold-fixed", "level": 9},
                {"step": "fill"},
                {"step": "open", "size": 5},
            ],
        },
        {
            "steps": [
                {"step": "grey"},
                {"step": "blur", "size": 5},
                {"step": "gradient", "size": 9},
                {"step": "threshold-otsu", "keep": "bright"},
                {"step": "close", "size": 9},
                {"step": "fill"},
                {"step": "open", "size": 21},
            ],
        },
    )
)
"""Used before any box is drawn: a compact uniform region, else one with edges. Often wrong, but easy to correct."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A proposed region, to be accepted or corrected."""

    located: Located
    source: str
    """Name of the ROI config or inspector, or one of the translatable texts below."""
    number: int = 0
    count: int = 0
    """Which one this is of so many different ones, from 1."""


@dataclass
class _Tuned:
    boxes: int
    roi: ClassicalRoi | None = None
    thread: threading.Thread | None = None


class Proposals:
    """Finds the part with several methods, the most specific one first."""

    def __init__(self, datasets: Datasets, choose: Callable[[str], Path | None]) -> None:
        self._datasets, self._choose = datasets, choose
        self._opened: dict[Path, tuple[float, Roi]] = {}
        self._tuned: dict[str, _Tuned] = {}
        self._lock = threading.Lock()  # compiled networks are not thread-safe

    def propose(self, dataset: str, file: str, turn: int = 0) -> Proposal:
        """Propose a region in a picture.

        Args:
            dataset: The data set.
            file: The picture.
            turn: Number of proposals for this picture that the person has seen already: the next one comes.

        Raises:
            RefusedError: there is no such data set or picture.
            ImageError: the picture is unreadable.
        """
        records = self._datasets.read(dataset)
        path = records.root / records.find(file).file_name
        frame = images.load_confined(path, depth=levels_of(path))
        found: list[Proposal] = []
        with self._lock:
            for roi, source in self._methods(dataset, records):
                located = roi.locate(frame)
                if located.present and located.box is not None and not any(_same(located, each) for each in found):
                    found.append(Proposal(located=located, source=source))
        if found:
            number = turn % len(found)
            return replace(found[number], number=number + 1, count=len(found))
        return Proposal(located=Located(present=False, reason=N_("No part found. Draw the box yourself.")), source="")

    def tune(self, dataset: str) -> None:
        """Start tuning an ROI config in the background if there are enough new boxes and no tuning is running.

        Raises:
            RefusedError: no such data set.
        """
        records = self._datasets.read(dataset)
        boxed = [sample for sample in records.samples.values() if sample.box is not None]
        with self._lock:
            tuned = self._tuned.setdefault(dataset, _Tuned(boxes=0))
            busy = any(each.thread is not None and each.thread.is_alive() for each in self._tuned.values())
            if len(boxed) < max(TUNE_FROM, _AGAIN * tuned.boxes) or busy:
                return
            tuned.boxes = len(boxed)
            tuned.thread = threading.Thread(
                target=_search, args=(tuned, records, boxed[-_MOST_EXAMPLES:]), name="tune", daemon=True
            )
            tuned.thread.start()

    def close(self) -> None:
        """Wait for the background search, because exiting during it would end the process with an error."""
        for tuned in list(self._tuned.values()):
            if tuned.thread is not None:
                tuned.thread.join()

    def _methods(self, dataset: str, records: Records) -> Iterator[tuple[Roi, str]]:
        own, trained = records.root / RECIPE, self._choose(dataset)
        for path in [own] + ([] if trained is None else [trained / bundle.ROI_RECIPE]):
            opened = self._open(path)
            if opened is not None:
                yield opened, path.parent.name
        tuned = self._tuned.get(dataset)
        if tuned is not None and tuned.roi is not None:
            yield tuned.roi, N_("the boxes drawn so far")
        for guess in _GUESSES:
            yield guess, N_("a first guess")

    def _open(self, path: Path) -> Roi | None:
        if not path.is_file():
            return None
        changed = path.stat().st_mtime
        if self._opened.get(path, (0.0, None))[0] != changed:
            try:
                self._opened[path] = (changed, open_roi(path))
            except GonogoError:
                return None  # fall back to another method; inspection reports the error
        return self._opened[path][1]


def _same(located: Located, proposal: Proposal) -> bool:
    """Whether two regions are one to the eye."""
    assert located.box is not None, "checked by the caller"
    assert proposal.located.box is not None, "checked when it was found"
    return located.box.iou(proposal.located.box) > _SAME_IOU


def _search(tuned: _Tuned, records: Records, boxed: list[Sample]) -> None:
    try:
        examples = read_examples(records.dataset, boxed, side_px=_SIDE_PX)
    except GonogoError:
        return  # the page reports an unreadable picture where it shows it
    tuned.roi = ClassicalRoi(tune(examples, trials=150, side_px=_SIDE_PX, limit_s=_TUNE_LIMIT_S).recipe)
