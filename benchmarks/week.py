"""Simulate a week of a line faster than real time: a real station on a simulated clock, with typical incidents.

Everything is real but the clock, the camera and the people: the bundle judges, the ledger records, the rules hold. Each
part is a picture of a labelled data set, so that the people in the simulation know what is wrong with it.

``make week``, or ``python benchmarks/week.py --out FOLDER --bundle BUNDLE --dataset DATASET``; it writes the shift
leader's page beside the ledger. ``QUICK=1`` sends 450 parts, not 3,000. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from command import print_figures, run
from gonogo import bundle as bundles
from gonogo import images
from gonogo.capture import HealthLimits
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import InputError
from gonogo.files import write_beside
from gonogo.ledger import REVIEW, Action, Ledger
from gonogo.line.messages import Answer, Trigger
from gonogo.progress import track
from gonogo.schema import Frame, Label, State
from gonogo.station.cameras import CameraParts
from gonogo.station.challenge import ACKNOWLEDGE
from gonogo.station.judging import Station
from gonogo.station.models import ModelSlot
from gonogo.station.settings import StationSettings, parse_settings
from gonogo.station.shift_page import write_shift_page
from gonogo.station.shift_report import gather
from gonogo.synthetic import Mix, write_dataset
from gonogo.testing import FakeCamera, Mishap, fake_frame, write_fake_bundle

STATION = "line-1"
_MONDAY = datetime(2026, 1, 12, 6, 0, tzinfo=UTC)
_DAYS, _SHIFT_H = 5, 8
_LOT_PARTS = (60, 120)
_ORDINARY_BAD, _POOR_BAD = 0.02, 0.10
_POOR_LOTS = 0.12
_REPEATED = 0.005
_STRAY = 0.001
_REVIEWERS = {6: "A. Frueh", 14: "B. Spaet", 22: "C. Nacht"}
_NOTICED = timedelta(minutes=12)  # how soon somebody sees that nothing passes
_MISJUDGED = 0.002  # how often a person is wrong about a part


@dataclass(frozen=True, kw_only=True)
class _Trouble:
    """An incident with a start and an end."""

    start: datetime
    minutes: float
    mishap: Mishap


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A part that arrives at the station."""

    at: datetime
    name: str
    lot: str
    sample: Sample
    mishap: Mishap = Mishap.NONE


@dataclass(kw_only=True)
class VirtualClock:
    """A simulated clock, advanced by the simulation."""

    now: datetime
    start: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.now

    def seconds(self) -> float:
        """Seconds since the start; the monotonic time of this clock."""
        return (self.now - self.start).total_seconds()

    def sleep(self, duration_s: float) -> None:
        """Advance the clock."""
        self.now += timedelta(seconds=duration_s)

    def until(self, moment: datetime) -> None:
        """Advance to a time; do nothing if it has passed."""
        self.now = max(self.now, moment)


def simulate_week(
    folder: Path, bundle: Path, dataset: Dataset, *, parts: int = 3_000, seed: int = 1, update: Path | None = None
) -> Path:
    """Run the week and return its ledger.

    Five days of three shifts; lots of 60 to 120 parts, some of them poor; a lamp that fails on Tuesday, a cable on
    Thursday, a camera that freezes on Friday; stray lost frames and repeated triggers; a damaged bundle on Wednesday
    that must be refused, and its good copy an hour later; a known bad part at the start of every shift, forgotten once.

    Args:
        folder: Where ledger and state go.
        bundle: What judges.
        dataset: Labelled pictures; its test split where it has one, else all of it.
        parts: How many parts come in the week.
        seed: Of everything random.
        update: What replaces the bundle on Wednesday; by default the same network, sealed again.
    """
    rng = random.Random(seed)
    clock = VirtualClock(now=_MONDAY - timedelta(minutes=30))
    settings = _settings(folder)
    pointer = folder / "bundle"
    _point(pointer, bundle)
    schedule = list(_schedule(dataset, parts, rng))
    planned = {part.name: part for part in schedule}
    noise = np.random.default_rng(seed)

    def frame_of(trigger_id: str) -> Frame:
        return _exposure(dataset.load(planned[trigger_id].sample), noise)

    camera = FakeCamera(frame_of, lambda trigger_id: planned[trigger_id].mishap, delay_s=2.0, sleep=clock.sleep)
    slot = ModelSlot(pointer, settings.state_dir / "bundles")
    view = CameraParts(name="main", open_camera=lambda: camera, health=HealthLimits(sharpness=0.0), slot=slot)

    def open_ledger(path: Path, create: bool) -> Ledger:
        return Ledger.open(path, create=create, now=lambda: clock.now)

    station = Station(settings, (view,), open_ledger=open_ledger, clock=clock.seconds, now=lambda: clock.now)
    station.start()
    people = _People(settings, clock, planned, rng)
    changes = _Changes(folder, pointer, bundle, update)
    for part in track(schedule, "A week"):
        people.work_until(part.at)
        changes.until(part.at, station)
        clock.until(part.at)
        station.idle()
        trigger = Trigger(
            id=part.name, part=part.name, lot=part.lot, at=clock.now, due_s=clock.seconds() + settings.window_s
        )
        answer = station.judge(trigger)
        people.receive(answer)
        if rng.random() < _REPEATED:
            _require_same(answer, station.judge(trigger))
    people.work_until(schedule[-1].at + timedelta(hours=1))
    station.close()
    return settings.ledger


def _settings(folder: Path) -> StationSettings:
    text = f"""
station = "{STATION}"
bundle = "bundle"
ledger = "{STATION}.ledger"
state_dir = "state"
min_free_mb = 1
[[cameras]]
camera = {{ kind = "fake", pictures = "none" }}
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
[challenge]
every_s = {_SHIFT_H * 3600.0}
grace_s = 1800.0
parts = ["CHALLENGE-*"]
must_be = ["no_go", "review"]
"""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.ledger")):
        raise InputError(f"{folder}: holds a ledger already. Choose another folder for the week.")
    return parse_settings(text, folder=folder)


def _schedule(dataset: Dataset, parts: int, rng: random.Random) -> Iterator[_Part]:
    """Yield all parts of the week in order, challenge parts included."""
    good, bad = _pools(dataset)
    troubles = _troubles()
    shifts = [_MONDAY + timedelta(hours=_SHIFT_H * number) for number in range(_DAYS * 24 // _SHIFT_H)]
    number, lot, left, bad_share = 0, 0, 0, 0.0
    for turn, start in enumerate(shifts):
        if turn != _DAYS * 24 // _SHIFT_H - 4:  # one shift forgets its known bad part
            yield _Part(
                at=start + timedelta(minutes=1), name=f"CHALLENGE-{turn:02d}", lot="challenge", sample=_worst(bad)
            )
        share = parts * (turn + 1) // len(shifts) - parts * turn // len(shifts)
        moments = sorted(rng.uniform(3, _SHIFT_H * 60 - 3) for _ in range(share))
        for minutes in moments:
            if left == 0:
                lot, left = lot + 1, rng.randint(*_LOT_PARTS)
                bad_share = _POOR_BAD if rng.random() < _POOR_LOTS else _ORDINARY_BAD
            number, left = number + 1, left - 1
            at = start + timedelta(minutes=minutes)
            sample = rng.choice(bad if rng.random() < bad_share else good)
            stray = rng.choice((Mishap.DROP, Mishap.DELAY)) if rng.random() < _STRAY else Mishap.NONE
            mishap = next((each.mishap for each in troubles if _during(at, each)), stray)
            yield _Part(at=at, name=f"P{number:05d}", lot=f"L{lot:03d}", sample=sample, mishap=mishap)


def _troubles() -> tuple[_Trouble, ...]:
    def at(day: int, hour: int, minute: int) -> datetime:
        return _MONDAY.replace(hour=0) + timedelta(days=day, hours=hour, minutes=minute)

    return (
        _Trouble(start=at(1, 10, 12), minutes=35, mishap=Mishap.DARK),
        _Trouble(start=at(3, 16, 40), minutes=25, mishap=Mishap.LOST),
        _Trouble(start=at(4, 8, 5), minutes=20, mishap=Mishap.FREEZE),
    )


def _during(at: datetime, trouble: _Trouble) -> bool:
    return trouble.start <= at < trouble.start + timedelta(minutes=trouble.minutes)


def _pools(dataset: Dataset) -> tuple[list[Sample], list[Sample]]:
    samples = dataset.split(Split.TEST) or dataset.samples
    good = [sample for sample in samples if sample.label is Label.GOOD]
    bad = [sample for sample in samples if sample.label is Label.BAD]
    if not good or not bad:
        raise InputError(f"{dataset.root}: expected good and bad parts, found {len(good)} good and {len(bad)} bad.")
    return good, bad


def _worst(bad: list[Sample]) -> Sample:
    """Return the challenge part, always the same one."""
    return bad[0]


def _exposure(frame: Frame, noise: np.random.Generator) -> Frame:
    """Return another photograph of the part, with a little sensor noise, so that no two are equal."""
    grain = noise.normal(0.0, 1.0, frame.shape[:2])[..., None]
    return np.clip(np.rint(frame + grain), 0, 255).astype(np.uint8)


def _require_same(first: Answer, again: Answer) -> None:
    if again.state is not first.state or again.row != first.row:
        raise AssertionError(f"{first.trigger_id}: a repeat gave {again}, after {first}")


class _People:
    """People at the line: they review doubtful and rejected parts, and acknowledge failed challenge tests."""

    def __init__(
        self, settings: StationSettings, clock: VirtualClock, planned: dict[str, _Part], rng: random.Random
    ) -> None:
        self._settings, self._clock, self._planned, self._rng = settings, clock, planned, rng
        self._to_do: list[tuple[datetime, Answer]] = []
        self._held_since: datetime | None = None

    def receive(self, answer: Answer) -> None:
        """Queue a part for review if necessary."""
        if answer.state in (State.REVIEW, State.NO_GO) and not answer.trigger_id.startswith("CHALLENGE"):
            self._to_do.append((self._clock.now + timedelta(minutes=self._rng.uniform(4, 45)), answer))
        held = answer.cause is not None and answer.cause.value == "challenge"
        if held and self._held_since is None:
            self._held_since = self._clock.now

    def work_until(self, moment: datetime) -> None:
        """Make the decisions that are due."""
        due = sorted((each for each in self._to_do if each[0] <= moment), key=lambda each: each[0])
        self._to_do = [each for each in self._to_do if each[0] > moment]
        if due:
            with Ledger.open(self._settings.ledger, now=lambda: self._clock.now) as ledger:
                for at, answer in due:
                    self._clock.until(at)
                    self._decide(ledger, answer)
        if self._held_since is not None and moment > self._held_since + _NOTICED:
            self._clock.until(self._held_since + _NOTICED)
            self._acknowledge()
            self._held_since = None

    def _acknowledge(self) -> None:
        note = "the shift had forgotten the known bad part; it was put on and rejected by hand"
        with Ledger.open(self._settings.ledger, now=lambda: self._clock.now) as ledger:
            ledger.append_action(Action(action=ACKNOWLEDGE, who=self._who(), station=STATION, details={"note": note}))

    def _decide(self, ledger: Ledger, answer: Answer) -> None:
        sample = self._planned[answer.trigger_id].sample
        bad = (sample.label is Label.BAD) != (self._rng.random() < _MISJUDGED)
        defect = (sample.defect or "other") if bad else None
        label = Label.BAD if bad else Label.GOOD
        ledger.append_action(
            Action(action=REVIEW, who=self._who(), station=STATION, about=answer.row, label=label, defect=defect)
        )

    def _who(self) -> str:
        hour = self._clock.now.hour
        return _REVIEWERS[max((start for start in _REVIEWERS if start <= hour), default=22)]


class _Changes:
    """Changes of the installed bundle during the week."""

    def __init__(self, folder: Path, pointer: Path, bundle: Path, update: Path | None) -> None:
        self._pointer = pointer
        newer = update or _sealed_again(bundle, folder / "update.inspector")
        damaged = folder / "damaged.inspector"
        shutil.copytree(newer, damaged)
        weights = damaged / bundles.CLASSIFIER.replace(".xml", ".bin")
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
        wednesday = _MONDAY + timedelta(days=2)
        self._due = [(wednesday + timedelta(hours=4), damaged), (wednesday + timedelta(hours=5), newer)]

    def until(self, moment: datetime, station: Station) -> None:
        """Make the changes that are due, and let the station detect them."""
        while self._due and self._due[0][0] <= moment:
            _point(self._pointer, self._due.pop(0)[1])
            while any(slot.unsettled for slot in station.slots):
                station.idle()


def _sealed_again(bundle: Path, target: Path) -> Path:
    """Return a new bundle with the same network, like a retraining without changes."""
    shutil.copytree(bundle, target)
    manifest = bundles.read_bundle(target).manifest
    bundles.write_manifest(target, manifest.model_copy(update={"training": {**manifest.training, "issue": 2}}))
    return target


def _point(pointer: Path, target: Path) -> None:
    write_beside(pointer, f"{target.resolve()}\n".encode())


def fake_parts(folder: Path, count: int = 40) -> Dataset:
    """Write labelled pictures for a fake bundle; every fourth part is bad."""
    folder.mkdir(parents=True)
    samples = []
    for number in range(count):
        bad, name = number % 4 == 0, f"{number}.png"
        (folder / name).write_bytes(images.encode_png(fake_frame(number, bad=bad)))
        label, defect = (Label.BAD, "crack" if number % 8 else "stain") if bad else (Label.GOOD, None)
        samples.append(Sample(file_name=name, label=label, defect=defect))
    dataset = Dataset(root=folder, samples=tuple(samples))
    dataset.write()
    return dataset


def main() -> None:
    """Simulate the week and write the shift report."""
    given = _arguments()
    if given.bundle is None and given.dataset is not None:
        raise InputError("--dataset: expected --bundle with it. Pass the bundle that judges these parts.")
    if given.out.exists():
        raise InputError(f"{given.out}: exists already. Delete it, or choose another --out.")
    given.out.mkdir(parents=True)
    bundle = given.bundle or write_fake_bundle(given.out / "fake.inspector").root
    parts = given.parts or (450 if given.quick else 3000)
    ledger = simulate_week(given.out, bundle, _dataset(given), parts=parts, seed=given.seed, update=given.update)
    period = gather(ledger)
    write_shift_page(period, ledger, given.out / "week.html")
    states = {state.value: count for state, count in period.total.states.items()}
    print_figures({"page": str(given.out / "week.html"), "parts": period.total.parts, **states})


def _dataset(given: argparse.Namespace) -> Dataset:
    if given.dataset is not None:
        return Dataset.read(given.dataset)
    if given.bundle is None:
        return fake_parts(given.out / "parts")
    return write_dataset(given.out / "parts", 240, seed=given.seed, mix=Mix(without_chip=0.0, with_two_chips=0.0))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="450 parts.")
    parser.add_argument("--out", type=Path, required=True, help="Folder to create for the ledger and the report.")
    parser.add_argument("--bundle", type=Path, help="Bundle to judge with. Default: a fake one with its own pictures.")
    parser.add_argument("--dataset", type=Path, help="Data set of labelled pictures. Default: rendered boards.")
    parser.add_argument(
        "--update",
        type=Path,
        help="Bundle that replaces the first on Wednesday. Default: the same network, sealed again.",
    )
    parser.add_argument("--parts", type=int, help="Number of parts in the week. Default: 3,000.")
    parser.add_argument("--seed", type=int, default=1, help="Random seed.")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
