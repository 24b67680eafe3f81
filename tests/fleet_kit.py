"""A release server with a shelf, and stations that follow it, in one folder and one process."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from gonogo import bundle, signing
from gonogo.capture import HealthLimits
from gonogo.fleet import Agent, LedgerFile, Release, ReleaseServer, Shelf, Terms, settle
from gonogo.fleet.pulling import FolderSource, Source
from gonogo.fleet.shadow import Shadow, Watched
from gonogo.ledger import Ledger
from gonogo.operating_point import best_rate
from gonogo.schema import Frame
from gonogo.signing import SigningKey, Use
from gonogo.station import Answer, CameraParts, ModelSlot, Station, StationSettings, Trigger, parse_settings
from gonogo.station.models import load_model
from gonogo.station.settings import signature_policy
from gonogo.testing import FakeCamera, fake_frame, write_fake_bundle

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TERMS = Terms(max_flips=0.6, max_bad_flips=0.4, min_settled=2, min_live=3)


@dataclass(kw_only=True)
class Clock:
    """A monotonic clock that tests move."""

    now_s: float = 0.0

    def __call__(self) -> float:
        self.now_s += 60.0
        return self.now_s


def make_bundle(root: Path, name: str, *, go_below: float, certified: bool = True) -> Path:
    """A fake bundle with other thresholds: its score is the mean red value minus 128."""
    made = write_fake_bundle(root, name="part")
    point = made.manifest.operating_point
    assert point is not None
    point = replace(point, go_below=go_below, no_go_above=max(20.0, go_below + 1.0))
    if not certified:
        none = replace(point.escape, parts=10, allowed=None, parts_missing=289, best_rate=best_rate(10, 0.05))
        point = replace(point, escape=none, go_without_promise=True)
    bundle.write_manifest(root, made.manifest.model_copy(update={"operating_point": point, "created": name}))
    return root


@dataclass(kw_only=True)
class Plant:
    """The release server, its keys, and bundles by name."""

    folder: Path
    bundles: dict[str, Path]
    anna: SigningKey = field(init=False)
    robot: SigningKey = field(init=False)

    def __post_init__(self) -> None:
        self.anna = self.key("anna", Use.BUNDLE)
        self.robot = self.key("robot", Use.RELEASE)
        self.own = self.folder / "releases.ledger"
        Ledger.open(self.own).close()
        self.shelf = Shelf(self.folder / "shelf")
        self.stations: dict[str, Line] = {}

    @property
    def store(self) -> Path:
        return self.folder / "trust.json"

    def key(self, name: str, *uses: Use) -> SigningKey:
        made, public = signing.make_key_pair(self.folder / f"{name}.key", name)
        signing.add_key(self.store, signing.read_public_key(public), uses, now=NOW)
        return made

    def sign(self, name: str) -> Path:
        signing.sign_bundle(bundle.read_bundle(self.bundles[name]), self.anna, now=NOW)
        return self.bundles[name]

    def sha(self, name: str) -> str:
        return bundle.read_bundle(self.bundles[name]).sha256

    def server(self, **changes: object) -> ReleaseServer:
        places = tuple(LedgerFile(path=line.settings.ledger) for line in self.stations.values())
        made = ReleaseServer(shelf=self.shelf, channel="chip", trust_store=self.store, ledger=self.own, places=places)
        return replace(made, **changes)  # type: ignore[arg-type]

    def first(self, name: str = "old") -> Release:
        return self.server().put_first(self.sign(name), self.robot, who="anna", why="commissioned")

    def start(self, name: str, **terms: object) -> Release:
        return self.server().start(
            self.sign(name),
            self.robot,
            canaries=("canary-*",),
            terms=TERMS.model_copy(update=terms),
            who="anna",
            why="trial",
        )

    def add(self, name: str, **more: object) -> Line:
        self.stations[name] = Line(plant=self, name=name, **more)  # type: ignore[arg-type]
        return self.stations[name]


@dataclass(kw_only=True)
class Line:
    """One station: its agent, its judge with a real `ModelSlot`, and its silent judge, each stepped by the test."""

    plant: Plant
    name: str
    source: Source | None = None
    command: tuple[str, ...] = ("cat",)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.plant.folder / self.name
        self.folder.mkdir()
        self.settings = settings_of(self.folder, self.name, self.plant)
        Ledger.open(self.settings.ledger).close()
        self.station: Station | None = None
        self.shadow: tuple[str, Shadow] | None = None
        self.parts = 0
        self.restart()

    def restart(self) -> None:
        """Start agent and station anew, as after a power cut."""
        self.close()
        source = self.source or FolderSource(self.plant.shelf.root)
        self.clock = Clock()
        self.agent = Agent(self.settings, list(self.command), source=source, clock=self.clock, say=self.said.append)

    def close(self) -> None:
        if hasattr(self, "agent"):
            self.agent.close()
        if self.station is not None:
            self.station.close()
            self.station = None

    def pull(self) -> None:
        """Let the agent work, and the station take the bundle that it points at."""
        self.agent.tick()
        if self.station is None:
            self.station = self._station()
            self.station.start()
        slot = self.station.slots[0]
        self.station.idle()
        while slot.unsettled:
            self.station.idle()

    @property
    def active(self) -> str | None:
        assert self.station is not None
        model = self.station.slots[0].model
        return None if model is None else model.sha256

    def judge(self, *parts: str) -> list[Answer]:
        """Send parts past the station; the number at the end of a name is its red value, and its score plus 128."""
        assert self.station is not None
        answers = []
        for part in parts:
            self.parts += 1
            trigger = Trigger(id=f"{self.parts}.{part}", part=part, at=datetime.now(UTC), due_s=time.monotonic() + 60)
            answers.append(self.station.judge(trigger))
        return answers

    def judge_silently(self) -> None:
        """Let the silent judge work on all parts that it has not judged yet."""
        release = self.agent.release
        assert release is not None
        assigned = self.agent.assigned(release)
        if assigned.shadow is None:
            return
        key = f"{release.sequence}"
        if self.shadow is None or self.shadow[0] != key:
            place = self.agent.place_of(assigned.shadow)
            model = load_model(place, policy=signature_policy(self.settings))
            self.shadow = (key, Shadow(Watched.of(self.settings), release, model))
        with Ledger.open(self.settings.ledger) as ledger:
            self.shadow[1].step(ledger)

    def run(self, *parts: str) -> list[Answer]:
        """Judge parts, each silently as well."""
        self.judge_silently()
        answers = []
        for part in parts:
            answers += self.judge(part)
            self.judge_silently()
        return answers

    def settle(self, row: int | None, label: str, who: str = "bert") -> None:
        assert row is not None
        settle(self.settings.ledger, row, label, who=who)

    def _station(self) -> Station:
        policy = signature_policy(self.settings)
        slot = ModelSlot(
            self.settings.bundle,
            self.settings.state_dir / "bundles" / "0",
            loader=partial(load_model, policy=policy),
            fallback=partial(load_model, policy=replace(policy, accept_revoked=True)),
            trust_store=policy.trust_store,
        )
        camera = FakeCamera(frame_of, delay_s=0.0)
        view = CameraParts(name="main", open_camera=lambda: camera, health=HealthLimits(frozen=False), slot=slot)
        return Station(self.settings, (view,))


def frame_of(trigger: str) -> Frame:
    frame = fake_frame(zlib.crc32(trigger.encode()))
    frame[..., 0] = int(trigger.rpartition("-")[2])
    return frame


def settings_of(folder: Path, name: str, plant: Plant) -> StationSettings:
    text = f"""
station = "{name}"
bundle = "active"
trust_store = "{plant.store}"
ledger = "station.ledger"
state_dir = "state"
min_free_mb = 1
[[cameras]]
camera = {{ kind = "fake", pictures = "none" }}
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
[challenge]
every_s = 86400.0
parts = ["CHALLENGE-*"]
[fleet]
channel = "chip"
folder = "{plant.shelf.root}"
keep = 1000
"""
    (folder / "station.toml").write_text(text)
    return parse_settings(text, folder=folder)
