"""Where the part may be in a picture: proposed by a recipe, by a learned region, or by what was boxed so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gonogo import bundle, images
from gonogo.dataset import Sample
from gonogo.errors import GonogoError
from gonogo.roi import RECIPE, ClassicalConfig, ClassicalRoi, Roi, open_roi
from gonogo.roi.scoring import read_examples
from gonogo.roi.tuning import tune
from gonogo.schema import Located
from gonogo.server.dataset_store import Datasets, Records
from gonogo.server.language import N_

TUNE_FROM = 6
"""Boxes from which a recipe is tuned to them; anew whenever there are half as many again."""
_AGAIN = 1.5
_MOST_EXAMPLES = 40
_TUNE_LIMIT_S = 6.0
_SIDE_PX = 320
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
"""Before anybody drew a box: a compact even region, else what has outlines. Often wrong, and cheap to correct."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A region that a person may take or correct."""

    located: Located
    source: str
    """The recipe's or inspector's folder, or one of the marked texts below."""


@dataclass
class _Tuned:
    boxes: int
    roi: ClassicalRoi | None = None
    thread: threading.Thread | None = None


class Proposals:
    """Finds the part with the first method that finds it, the most particular method first."""

    def __init__(self, datasets: Datasets, choose: Callable[[str], Path | None]) -> None:
        self._datasets, self._choose = datasets, choose
        self._opened: dict[Path, tuple[float, Roi]] = {}
        self._tuned: dict[str, _Tuned] = {}
        self._lock = threading.Lock()  # compiled networks are not thread-safe

    def propose(self, dataset: str, file: str) -> Proposal:
        """Look for the part in a picture.

        Raises:
            RefusedError: no such data set or picture.
            ImageError: an unreadable picture.
        """
        records = self._datasets.read(dataset)
        frame = images.load_confined(records.root / records.find(file).file_name)
        with self._lock:
            for roi, source in self._methods(dataset, records):
                located = roi.locate(frame)
                if located.present and located.box is not None:
                    return Proposal(located=located, source=source)
        return Proposal(located=Located(present=False, reason=N_("No part found. Draw the box yourself.")), source="")

    def tune(self, dataset: str) -> None:
        """Begin to tune a recipe in the background, where there are enough new boxes and no other is being tuned.

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
        """Wait for the search in the background: a thread in the middle of it would end the process with an error."""
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
                return None  # another method proposes; whoever inspects with this one is told
        return self._opened[path][1]


def _search(tuned: _Tuned, records: Records, boxed: list[Sample]) -> None:
    try:
        examples = read_examples(records.dataset, boxed, side_px=_SIDE_PX)
    except GonogoError:
        return  # the picture that cannot be read is reported where it is shown
    tuned.roi = ClassicalRoi(tune(examples, trials=150, side_px=_SIDE_PX, limit_s=_TUNE_LIMIT_S).recipe)
