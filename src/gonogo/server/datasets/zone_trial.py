"""Tries zones on the pictures of a data set before they are used: what their codes say, and which defects they hide.

Nothing is judged, so pictures of all splits are used: neither a code nor a hidden mask says anything about a score.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gonogo import images
from gonogo.codes import read_identity, require_reader
from gonogo.config import CodeZone, Zone
from gonogo.config.zones import DrawnOn
from gonogo.dataset import Sample
from gonogo.dataset.levels import levels_of
from gonogo.errors import ImageError
from gonogo.evaluate import Rate
from gonogo.images.zones import Place
from gonogo.schema import Frame, Label, PartIdentity, Region, State
from gonogo.server.background_work import Task, Worker
from gonogo.server.dataset_store import Datasets, Records
from gonogo.server.datasets.placing import pictures_to_draw_on, place_of
from gonogo.server.language import N_
from gonogo.zoning import hidden, ignored

MOST_TRIED = 500
"""Largest number of pictures that are tried, evenly spread over the data set."""
MOST_LISTED = 40
_HELD = 50


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A picture whose codes could not be read."""

    file: str
    why: str


@dataclass(frozen=True, kw_only=True)
class ZoneTrial:
    """What zones do on the pictures of a data set."""

    of: int
    """Number of pictures that show a whole part."""
    tried: int
    codes: Rate | None = None
    """Pictures on which every code zone was read; ``None`` without a code zone."""
    unread: tuple[Unread, ...] = ()
    """At most `MOST_LISTED` of the others."""
    names: int = 0
    """Number of different parts that the codes name."""
    twice: tuple[str, ...] = ()
    """Names that the codes give to several parts of the data set, at most `MOST_LISTED`."""
    hidden: tuple[str, ...] = ()
    """Bad pictures whose whole defect an ignore zone hides."""


@dataclass(frozen=True, kw_only=True)
class ZoneText:
    """What one code zone says in one picture."""

    zone: str
    text: str
    """The text of the code; empty if none could be read."""
    named: dict[str, str]
    """The named groups of the pattern that it matched."""
    why: str
    """Why there is no text."""


class ZoneTrials:
    """Tries zones in the background, and keeps the latest results."""

    def __init__(self, datasets: Datasets, worker: Worker) -> None:
        self._datasets, self._worker = datasets, worker
        self._lock = threading.Lock()
        self._done: dict[tuple[object, ...], ZoneTrial] = {}

    def read(self, name: str, file: str, drawn_on: DrawnOn, zones: Sequence[CodeZone]) -> tuple[ZoneText, ...]:
        """Read the code of every zone in one picture.

        Raises:
            RefusedError: there is no such picture.
            ImageError: it is unreadable.
            MissingExtraError: the package that reads codes is not installed.
        """
        require_reader()
        records = self._datasets.read(name)
        sample = records.find(file)
        _, parts = pictures_to_draw_on(records, drawn_on)
        frame, place = _seen(records, sample, parts.get(file))
        return tuple(_text(zone, read_identity(frame, place, [zone])[0]) for zone in zones)

    def attempt(self, name: str, drawn_on: DrawnOn, zones: Sequence[Zone]) -> ZoneTrial | Task:
        """Return the result of trying zones on a data set, or the task that is working on it.

        Raises:
            RefusedError: there is no such data set.
            MissingExtraError: there is a code zone, and the package that reads codes is not installed.
        """
        if any(isinstance(zone, CodeZone) for zone in zones):
            require_reader()
        records = self._datasets.read(name)
        key = (name, records.version, drawn_on, tuple(zone.model_dump_json() for zone in zones))
        with self._lock:
            if key in self._done:
                return self._done[key]

        def work(task: Task) -> None:
            found = _tried(records, drawn_on, zones, task)
            with self._lock:
                self._done[key] = found
                while len(self._done) > _HELD:
                    del self._done[next(iter(self._done))]

        return self._worker.submit(("zones", *key), N_("Trying zones on the pictures"), work)


def _tried(records: Records, drawn_on: DrawnOn, zones: Sequence[Zone], task: Task) -> ZoneTrial:
    shown, parts = pictures_to_draw_on(records, drawn_on)
    tried = spread(shown, MOST_TRIED)
    code_zones = [zone for zone in zones if isinstance(zone, CodeZone)]
    unread, said, hides = [], [], []
    for done, sample in enumerate(tried):
        task.step(done, len(tried))
        looks_hidden = bool(ignored(zones)) and sample.label is Label.BAD and sample.mask_file_name is not None
        if not code_zones and not looks_hidden:
            continue
        try:
            frame, place = _seen(records, sample, parts.get(sample.file_name))
            identity, at_best = read_identity(frame, place, code_zones)
        except ImageError as error:
            unread.append(Unread(file=sample.file_name, why=str(error)))
            continue
        if at_best is not State.GO:
            unread.append(Unread(file=sample.file_name, why=identity.trouble))
        elif name := identity.name:
            said.append((name, sample.part_id))
        if looks_hidden and _is_hidden(records, sample, frame, place, zones):
            hides.append(sample.file_name)
    parts_of_name = Counter(name for name, _ in set(said))
    return ZoneTrial(
        of=len(shown),
        tried=len(tried),
        codes=Rate(count=len(tried) - len(unread), of=len(tried)) if code_zones else None,
        unread=tuple(unread[:MOST_LISTED]),
        names=len(parts_of_name),
        twice=tuple(sorted(name for name, count in parts_of_name.items() if count > 1)[:MOST_LISTED]),
        hidden=tuple(hides),
    )


def spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many samples, evenly spread over all of them."""
    if len(samples) <= most:
        return list(samples)
    return [samples[number * len(samples) // most] for number in range(most)]


def _seen(records: Records, sample: Sample, part: Region | None) -> tuple[Frame, Place]:
    path = records.root / sample.file_name
    frame = images.load_confined(path, depth=levels_of(path))
    return frame, place_of(part, (frame.shape[1], frame.shape[0]))


def _is_hidden(records: Records, sample: Sample, frame: Frame, place: Place, zones: Sequence[Zone]) -> bool:
    mask = records.dataset.load_mask(sample, (frame.shape[0], frame.shape[1]))
    if mask is None or not mask.any():
        return False
    return not bool((mask & ~hidden(place, zones, (frame.shape[1], frame.shape[0]))).any())


def _text(zone: CodeZone, identity: PartIdentity) -> ZoneText:
    named = {key: value for key in ("part", "lot", "product", "serial") if (value := getattr(identity, key))}
    return ZoneText(zone=zone.name, text=identity.codes[0] if identity.codes else "", named=named, why=identity.trouble)
