"""The agent of a station: takes releases from the release server, installs their bundles, and runs the silent judge.

``gonogo station run`` runs it beside the station if the settings have ``[fleet]``: ``python -m gonogo.fleet agent
station.toml``. It writes the path of the bundle to use into the file that the station watches; the station verifies,
loads and replaces by itself. Without the network the last release stays in force.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import JsonValue

from gonogo import locks
from gonogo.capture import read_token
from gonogo.errors import GonogoError, InputError, UnfitError
from gonogo.files import read_regular, write_beside
from gonogo.fleet.evidence import CRASHED, EvidenceReader, LedgerFile
from gonogo.fleet.pulling import FolderSource, HttpSource, Pull, Source, UnreachableError
from gonogo.fleet.releases import Assignment, Release, SeenRelease, assignment_of, objection, open_release
from gonogo.fleet.rollout import Verdict, decide
from gonogo.fleet.shadow import ShadowJob
from gonogo.fleet.shelf import MOST_RELEASE_BYTES
from gonogo.ledger import Action, Ledger, Where
from gonogo.names import readable
from gonogo.signing import TrustedKey, read_trust_store
from gonogo.station import StationSettings, read_settings
from gonogo.station.companion import end_child, end_with_parent, start_child
from gonogo.station.settings import FleetSettings, signature_policy

TAKEN, REFUSED, HALTED = "release_taken", "release_refused", "release_halted"
"""Actions: a release that a station takes, one that it refuses, and one that it stops following by itself."""
_TICK_S = 1.0
_GUARD_S = 5.0
_RETRY_S = 5.0
_WORKER_ENDED = "worker_restarted"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A verified release, and the key that signed it."""

    release: Release
    key: TrustedKey
    data: bytes


class Agent:
    """One station's agent. `tick` does all the work that is due; it raises only for what ends the process."""

    def __init__(
        self,
        settings: StationSettings,
        command: list[str],
        *,
        source: Source | None = None,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201  a process's log
    ) -> None:
        """Prepare the agent.

        Args:
            settings: Settings of the station, with ``[fleet]``.
            command: The command that starts the silent judge.
            source: The shelf, instead of the one in the settings.
            clock: Monotonic clock.
            say: Receives the log, one line at a time.

        Raises:
            InputError: the settings have no ``[fleet]``, or their bundle is a folder.
        """
        if settings.fleet is None:
            raise InputError(f"station {settings.station}: expected [fleet] in its settings, found none.")
        if settings.only_bundle.is_dir():
            raise InputError(
                f"{settings.only_bundle}: expected a text file that releases may write, found a folder. Name another "
                "file under bundle; it need not exist."
            )
        self._settings, self._fleet, self._clock, self._say = settings, settings.fleet, clock, say
        self._folder = settings.state_dir / "fleet"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._pull = Pull(source or _source_of(settings.fleet), self._folder)
        self._command = command
        self._due_s = 0.0
        self._release: Release | None = None
        self._reader: EvidenceReader | None = None
        self._halted: int | None = None
        self._counted = 0
        self._guard_due_s = 0.0
        self._crashes = 0
        self._child: tuple[Assignment, int, subprocess.Popen[str]] | None = None
        self._said = self._refused = ""

    def tick(self) -> None:
        """Ask the release server if it is time, stop if the own evidence demands it, see to bundle and silent judge."""
        try:
            if self._release is None:
                self._resume()
            if self._clock() >= self._due_s:
                self._due_s = self._clock() + self._fleet.every_s
                self._ask()
            if self._release is not None:
                self._guard(self._release)
                self._apply(self._release)
        except (GonogoError, OSError) as error:
            self._due_s = min(self._due_s, self._clock() + _RETRY_S)
            self._complain(str(error))

    @property
    def release(self) -> Release | None:
        """The release in force; ``None`` before the first one."""
        return self._release

    def assigned(self, release: Release) -> Assignment:
        """Return what this station does: what the release asks, or the old bundle if it has left the candidate."""
        if self._halted == release.sequence:
            return Assignment(active=release.bundle_sha256, shadow=None)
        return assignment_of(release, self._settings.station)

    @property
    def child(self) -> subprocess.Popen[str] | None:
        """The process of the silent judge."""
        return None if self._child is None else self._child[2]

    def place_of(self, sha256: str) -> Path:
        """Return the folder of a bundle that was pulled."""
        return self._pull.place_of(sha256)

    def close(self) -> None:
        """End the silent judge."""
        if self._child is not None:
            end_child(self._child[2])
            self._child = None

    # --- releases

    def _resume(self) -> None:
        """Go on with the last release that was taken, without the network."""
        try:
            data = read_regular(self._folder / "release.json", most_bytes=MOST_RELEASE_BYTES)
        except FileNotFoundError:
            return
        self._consider(data, "the stored release")

    def _ask(self) -> None:
        try:
            self._consider(self._pull.release(self._fleet.channel), f"channel {self._fleet.channel}")
        except UnreachableError as error:
            self._complain(f"{error} The last release stays in force.")

    def _consider(self, data: bytes, name: str) -> None:
        """Take a release if it is signed, newer, and its bundles are here and verified."""
        if self._release is not None and data == self._stored():
            return
        try:
            policy = signature_policy(self._settings)
            release, key = open_release(data, read_trust_store(policy.trust_store), name=name)
            seen = self._seen()
            why = objection(release, channel=self._fleet.channel, seen=seen)
            if why:
                raise InputError(f"{name}: {why}")
            assigned = assignment_of(release, self._settings.station)
            for sha256 in filter(None, (assigned.active, assigned.shadow)):
                self._pull.bundle(sha256, policy)
        except UnreachableError:
            raise
        except (GonogoError, OSError) as error:
            self._refuse(str(error))
            return
        self._take(Taken(release=release, key=key, data=data), seen, assigned)

    def _take(self, taken: Taken, seen: SeenRelease | None, assigned: Assignment) -> None:
        release = taken.release
        if seen is None or seen.sequence != release.sequence or seen.channel != release.channel:
            self._note(
                TAKEN,
                {
                    **release.model_dump(mode="json", exclude={"terms", "kind", "format"}),
                    "digest": release.digest,
                    "rollout": release.rollout,
                    "active": assigned.active,
                    "shadow": assigned.shadow,
                    "signed_by": taken.key.name,
                    "key_id": taken.key.key_id,
                },
            )
        write_beside(self._folder / "release.json", taken.data)
        self._release, self._said, self._refused = release, "", ""
        self._crashes = self._counted = 0
        self._reader = EvidenceReader((LedgerFile(path=self._settings.ledger),), release)
        self._halted = self._halted_before(release)
        needed = (assigned.active, assigned.shadow, release.bundle_sha256, release.previous_sha256)
        self._pull.prune(*filter(None, needed))
        self._say(f"release {release.sequence} of channel {release.channel}: {release.stage}, {assigned.active[:16]}")

    def _refuse(self, why: str) -> None:
        if why != self._refused:  # recorded once, not at every question
            self._note(REFUSED, {"channel": self._fleet.channel, "reason": readable(why)[:2000]})
        self._refused = why
        self._complain(why)

    def _seen(self) -> SeenRelease | None:
        """Return the last release of the channel that was taken; the ledger remembers, so nobody can put one back."""
        with self._opened() as ledger:
            for row in ledger.actions(Where(action=TAKEN, station=self._settings.station), newest_first=True):
                details = row.record.details
                if details.get("channel") != self._fleet.channel:
                    continue  # the station has followed another channel meanwhile
                return SeenRelease.model_validate({name: details.get(name) for name in SeenRelease.model_fields})
        return None

    def _stored(self) -> bytes:
        try:
            return read_regular(self._folder / "release.json", most_bytes=MOST_RELEASE_BYTES)
        except OSError:
            return b""

    # --- what the station has seen itself

    def _guard(self, release: Release) -> None:
        """Leave the candidate if this station's own rows demand it: a canary station needs no network for that."""
        if release.candidate_sha256 is None or self._halted == release.sequence or self._reader is None:
            return
        if self._clock() < self._guard_due_s:
            return
        self._guard_due_s = self._clock() + _GUARD_S
        self._count_crashes(release)
        evidence = self._reader.read()
        decision = decide(release.stage, evidence, release.terms, promised=release.promise is not None)
        if decision.verdict is not Verdict.STOP:
            return
        facts: dict[str, JsonValue] = {"rollout": release.rollout, "sequence": release.sequence, **asdict(evidence)}
        self._note(HALTED, {**facts, "reasons": list(decision.reasons)})
        self._halted = release.sequence
        self._say(f"roll-out {release.rollout}: left by this station. {' '.join(decision.reasons)}")

    def _count_crashes(self, release: Release) -> None:
        """Record each end of the worker while the candidate answers as a crash of the candidate."""
        if assignment_of(release, self._settings.station).active != release.candidate_sha256:
            return
        with self._opened() as ledger:
            if not self._counted:
                own = Where(station=self._settings.station)
                taken = Where(action=TAKEN, station=own.station)
                since = next((row.seq for row in ledger.actions(taken, newest_first=True, limit=1)), 0)
                counted = ledger.actions(Where(action=CRASHED, station=own.station), newest_first=True, limit=1)
                self._counted = max([since, *(row.record.about or 0 for row in counted)])
            ended = Where(action=_WORKER_ENDED, station=self._settings.station)
            for row in list(ledger.actions(ended, after=self._counted)):
                self._note(CRASHED, self._crash(release, "the worker ended"), about=row.seq)
                self._counted = row.seq

    def _crash(self, release: Release, what: str) -> dict[str, JsonValue]:
        return {
            "rollout": release.rollout,
            "stage": release.stage.value,
            "shadow_by": release.candidate_sha256,
            "what": what,
        }

    def _halted_before(self, release: Release) -> int | None:
        with self._opened() as ledger:
            halted = Where(action=HALTED, station=self._settings.station)
            for row in ledger.actions(halted, newest_first=True, limit=1):
                details = row.record.details
                if (details.get("rollout"), details.get("sequence")) == (release.rollout, release.sequence):
                    return release.sequence
        return None

    # --- bundle and silent judge

    def _apply(self, release: Release) -> None:
        assigned = self.assigned(release)
        self._point_at(self._pull.place_of(assigned.active))
        self._see_to_child(release, assigned)

    def _point_at(self, place: Path) -> None:
        try:
            now = self._settings.only_bundle.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            now = ""
        if now != str(place):
            if not place.is_dir():  # halted before the old bundle was ever fetched here
                self._pull.bundle(place.name.removesuffix(".inspector"), signature_policy(self._settings))
            write_beside(self._settings.only_bundle, f"{place}\n".encode())

    def _see_to_child(self, release: Release, assigned: Assignment) -> None:
        if self._child is not None:
            of, sequence, child = self._child
            code = child.poll()
            if code is None and (of, sequence) == (assigned, release.sequence):
                return
            self._child = None
            if code is None:
                end_child(child)
            elif (of, sequence) == (assigned, release.sequence):
                self._crashes += 1
                self._note(CRASHED, {**self._crash(release, f"exit code {code}"), "shadow_by": assigned.shadow})
                self._complain(f"the silent judge ended with exit code {code}.")
                self._guard_due_s = 0.0
                return  # it starts again at the next tick, unless this was once too often
            self._crashes = 0
        if assigned.shadow is not None and self._crashes <= release.terms.max_crashes:
            job = ShadowJob(release=release, place=str(self._pull.place_of(assigned.shadow)))
            child = start_child(self._command, environment={"GONOGO_THREADS": "1"})
            self._child = (assigned, release.sequence, child)
            assert child.stdin is not None, "the child has a pipe"
            child.stdin.write(job.model_dump_json() + "\n")
            child.stdin.flush()

    # --- the ledger

    def _opened(self) -> Ledger:
        return Ledger.open(self._settings.ledger, create=False)

    def _note(self, action: str, details: dict[str, JsonValue], *, about: int | None = None) -> None:
        station = self._settings.station
        with self._opened() as ledger:
            ledger.append_action(Action(action=action, who=station, station=station, about=about, details=details))

    def _complain(self, why: str) -> None:
        if why != self._said:
            self._say(why)
        self._said = why


def shadow_command(path: Path) -> list[str]:
    """Return the command that starts the silent judge of a station, at the lowest priority."""
    return ["nice", "-n", "19", sys.executable, "-m", "gonogo.fleet", "shadow", str(path)]


def agent_command(path: Path) -> list[str]:
    """Return the command that starts the agent of a station."""
    return [sys.executable, "-m", "gonogo.fleet", "agent", str(path)]


def _source_of(fleet: FleetSettings) -> Source:
    if fleet.folder is not None:
        return FolderSource(fleet.folder)
    assert fleet.url is not None, "the settings have one of both"
    return HttpSource(fleet.url, token=read_token(fleet.token_file))


def main(path: Path) -> None:
    """Run the agent until standard input ends.

    Raises:
        InputError: see `Agent`.
        UnfitError: another agent uses the same state folder.
    """
    end_with_parent(sys.stdin)
    settings = read_settings(path)
    agent = Agent(settings, shadow_command(path))
    with (settings.state_dir / "fleet" / "lock").open("ab") as lock:
        if not locks.try_lock(lock):
            raise UnfitError(f"{settings.state_dir}: another agent runs on this state_dir.")
        while True:
            agent.tick()
            time.sleep(_TICK_S)
