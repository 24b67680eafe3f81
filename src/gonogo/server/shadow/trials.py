"""Starting, stopping and ending the shadow stage of a candidate beside the inspector in use of a workspace.

The engine is that of `gonogo.fleet`: its terms, its silent judge, its evidence and its decision. Only what a workspace
lacks is left out: a release server, canary stations and signed releases. Each move is an action in the ledger, and the
trial is read back from there, so a restart of the server goes on with it.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from gonogo import bundle
from gonogo.errors import GonogoError
from gonogo.files import write_beside
from gonogo.fleet import (
    CRASHED,
    MOVED,
    RUNNING,
    SILENT_JUDGE,
    BesideJob,
    Event,
    EvidenceReader,
    Judgement,
    LedgerFile,
    Release,
    SeenPart,
    Stage,
    Terms,
    Verdict,
    Watched,
    first_release,
    following,
    judgement_of,
    promise_of,
)
from gonogo.ledger import Row, Where
from gonogo.ledger.records import Action
from gonogo.schema import OperatingPoint
from gonogo.server.catalogue import Catalogue
from gonogo.server.inspectors.bundles import seal_of
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.signatures import Signer
from gonogo.server.workspace import Workspace
from gonogo.signing import machine_policy, verify_bundle
from gonogo.station import StationSettings, read_settings
from gonogo.station.companion import Companion

LOCAL = "workspace"
"""The channel of a workspace's own trials. No release is published on it."""
ANY_FLIPS = 1 - 1e-6
"""The largest share of flips beside people: every part that the candidate passes is one."""
_log = logging.getLogger(__name__)
_NICE = ["nice", "-n", "19"] if sys.platform != "win32" else []


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The latest trial of a workspace, running or over."""

    release: Release
    """As it was while the candidate judged silently."""
    stage: Stage
    """Where it stands now: shadow, stopped or done."""
    sequence: int
    candidate: str
    """Name of the bundle's folder."""
    beside: str
    """Name of the inspector that was in use when it started."""
    people: bool
    """Whether that one sent every part to a person."""
    who: str
    at: datetime
    why: str

    @property
    def running(self) -> bool:
        """Whether the candidate judges silently now."""
        return self.stage in RUNNING


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A trial with its evidence."""

    judgement: Judgement
    parts: tuple[SeenPart, ...]


class Shadows:
    """The trials of a workspace. At most one runs at a time."""

    def __init__(self, workspace: Workspace, ledger_pool: LedgerPool, catalogue: Catalogue) -> None:
        self._workspace, self._ledger_pool, self._catalogue = workspace, ledger_pool, catalogue
        self._folder = workspace.root / "cache" / "shadow"
        self._companion: Companion | None = None
        self._reader: tuple[Release, EvidenceReader] | None = None
        self._reading = threading.Lock()
        self.command: Callable[[Path], list[str]] = beside_command
        """Returns the command that judges silently, given the file of its job."""

    # --- what is known

    def latest(self) -> Trial | None:
        """The latest trial; ``None`` before the first."""
        row = self._latest_move()
        return None if row is None else _trial(row)

    def running(self) -> Trial | None:
        """The trial that runs; ``None`` if none does."""
        found = self.latest()
        return found if found is not None and found.running else None

    def standing(self, trial: Trial) -> Standing:
        """Read the evidence of a trial; a second reading reads only the new rows.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        release = trial.release
        with self._reading:
            if self._reader is None or self._reader[0] != release:
                self._reader = (release, EvidenceReader((LedgerFile(path=self._workspace.ledger),), release))
            reader = self._reader[1]
            evidence = reader.read()
            return Standing(judgement=judgement_of(release, evidence), parts=reader.parts())

    def changed(self, trial: Trial) -> str:
        """Say why a running trial gets no more parts; empty if it does. The message is marked with ``N_``."""
        active = self._workspace.active_bundle()
        if active is None or seal_of(active) != trial.release.bundle_sha256:
            return N_(
                "The inspector in use has changed since the start, or its limits have. Parts are no longer compared. "
                "Stop here and start again."
            )
        if seal_of(self._workspace.bundles / trial.candidate) != trial.release.candidate_sha256:
            return N_("The candidate has changed since the start, or its limits have. Stop here and start again.")
        return ""

    def follows_releases(self) -> str:
        """The channel that the station of this workspace follows; empty if people deploy here."""
        settings = self._station()
        return "" if settings is None or settings.fleet is None else settings.fleet.channel

    # --- moves

    def start(self, name: str, terms: Terms, who: str) -> None:
        """Let a candidate judge silently beside the inspector in use, from the next part on.

        Args:
            name: The candidate's folder name.
            terms: The terms. Beside people, the limit of flips does not apply.
            who: The person.

        Raises:
            RefusedError: there is nothing to compare with, another trial runs, or releases decide here.
            BundleError: one of the two is damaged.
            SignatureError: this machine demands a signature that the candidate lacks.
        """
        with self._catalogue.changing:
            path, active = self._catalogue.find(name), self._workspace.active_bundle()
            self._refuse_start(name, path, active)
            assert active is not None, "refused without one"
            candidate, old = bundle.read_bundle(path), bundle.read_bundle(active)
            verify_bundle(candidate, machine_policy())
            if candidate.sha256 == old.sha256:
                raise RefusedError(N_("The candidate is a copy of the inspector in use."))
            people = every_part_to_a_person(old.manifest.operating_point)
            if people:
                terms = terms.model_copy(update={"max_flips": ANY_FLIPS})
            made = datetime.now(UTC)
            before = first_release(old.sha256, channel=LOCAL, who=who, why="", made=made)
            before = before.model_copy(update={"sequence": self._last_sequence() + 1})
            release = following(
                before,
                Event.START,
                who=who,
                why="",
                made=made,
                candidate_sha256=candidate.sha256,
                terms=terms,
                promise=promise_of(candidate),
            )
            trial = Trial(
                release=release,
                stage=release.stage,
                sequence=release.sequence,
                candidate=name,
                beside=active.name,
                people=people,
                who=who,
                at=made,
                why="",
            )
            self._record(trial, Event.START)
            self._launch(release, path)

    def stop(self, who: str, why: str = "") -> None:
        """Stop the running trial.

        Raises:
            RefusedError: none runs.
        """
        with self._catalogue.changing:
            self._end(self._needed(), Event.STOP, Stage.STOPPED, who=who, why=why[:2000])

    def switch(self, signer: Signer, candidate_sha256: str) -> None:
        """Deploy the candidate of the running trial, if the evidence allows it; see `Catalogue.deploy`.

        Args:
            signer: The person.
            candidate_sha256: The candidate that the person saw.

        Raises:
            RefusedError: none runs, it is another one, or something is missing; the message says what.
        """
        with self._catalogue.changing:
            trial = self._needed()
            if trial.release.candidate_sha256 != candidate_sha256:
                raise RefusedError(N_("Another candidate judges silently now. Reload the page."))
            if why := self.changed(trial):
                raise RefusedError(why)
            decision = self.standing(trial).judgement.decision
            if decision.verdict is not Verdict.READY:
                raise RefusedError(N_("The evidence does not allow it: %(why)s"), why=" ".join(decision.reasons))
            self._catalogue.deploy(trial.candidate, signer, seen_sha256=candidate_sha256, rollout=trial.release.rollout)
            self._end(trial, Event.PROMOTE, Stage.DONE, who=signer.who, why="")

    # --- the process

    def resume(self) -> None:
        """Go on with the trial that ran when the server ended."""
        trial = self.running()
        if trial is not None:
            self._launch(trial.release, self._workspace.bundles / trial.candidate)

    def warm(self) -> None:
        """Read the evidence of the running trial, so that the first visit need not."""
        trial = self.latest()
        if trial is not None:
            self.standing(trial)

    def close(self) -> None:
        """End the silent judge; `resume` starts it again."""
        if self._companion is not None:
            self._companion.stop()
            self._companion = None

    def log(self) -> str:
        """What the silent judge said last; empty if nothing."""
        try:
            return (self._folder / "log.txt").read_text("utf-8", errors="replace")[-2000:]
        except OSError:
            return ""

    def _launch(self, release: Release, path: Path) -> None:
        self.close()
        settings = self._station()
        job = BesideJob(
            release=release,
            place=str(path),
            ledger=str(self._workspace.ledger),
            watched=Watched(station=None, challenge=None if settings is None else settings.challenge),
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        write_beside(self._folder / "job.json", job.model_dump_json().encode())
        self._companion = Companion(
            self.command(self._folder / "job.json"),
            lambda code: self._ended(release, code),
            log=self._folder / "log.txt",
            environment={"GONOGO_THREADS": "1"},
        )
        self._companion.start()

    def _ended(self, release: Release, code: int) -> None:
        """Record that the silent judge ended by itself. It starts again, unless this was once too often."""
        details: dict[str, JsonValue] = {
            "rollout": release.rollout,
            "stage": release.stage.value,
            "shadow_by": release.candidate_sha256,
            "what": f"exit code {code}",
        }
        try:
            self._ledger_pool.append(Action(action=CRASHED, who=SILENT_JUDGE, details=details))
            trial = self.running()
            crashes = 0 if trial is None else self.standing(trial).judgement.evidence.crashes
        except GonogoError as error:  # a full disk, say: it starts again, and is counted the next time
            _log.warning("the end of the silent judge was not recorded: %s", error)
            return
        if crashes <= release.terms.max_crashes:
            return
        companion, self._companion = self._companion, None
        if companion is not None:  # called in its own thread, which cannot wait for itself
            threading.Thread(target=companion.stop, name="shadow", daemon=True).start()

    # --- the ledger

    def _record(self, trial: Trial, event: Event, found: Judgement | None = None) -> None:
        self._ledger_pool.act(
            MOVED,
            trial.who,
            event=event.value,
            rollout=trial.release.rollout,
            channel=LOCAL,
            sequence=trial.sequence,
            to=trial.stage.value,
            why=trial.why,
            bundle=trial.candidate,
            beside=trial.beside,
            people=trial.people,
            release=trial.release.model_dump(mode="json"),
            evidence=None if found is None else asdict(found.evidence),
            reasons=[] if found is None else list(found.decision.reasons),
        )

    def _end(self, trial: Trial, event: Event, stage: Stage, *, who: str, why: str) -> None:
        found = self.standing(trial).judgement
        ended = replace(trial, stage=stage, sequence=trial.sequence + 1, who=who, why=why)
        self._record(ended, event, found)
        self.close()

    def _needed(self) -> Trial:
        trial = self.running()
        if trial is None:
            raise RefusedError(N_("No inspector judges silently at present. Somebody may have stopped it."))
        return trial

    def _latest_move(self) -> Row[Action] | None:
        with self._ledger_pool.reading() as ledger:
            for row in ledger.actions(Where(action=MOVED), newest_first=True):
                if row.record.details.get("channel") == LOCAL:
                    return row
        return None

    def _last_sequence(self) -> int:
        """Number of the latest move; a trial that is named by it is no earlier one."""
        row = self._latest_move()
        found = None if row is None else row.record.details.get("sequence")
        return found if isinstance(found, int) else 0

    def _refuse_start(self, name: str, path: Path, active: Path | None) -> None:
        if active is None:
            raise RefusedError(N_("No inspector is in use, so there is nothing to judge beside."))
        if path == active:
            raise RefusedError(N_("%(name)s is in use. Choose another one."), name=name)
        if name in self._catalogue.archived():
            raise RefusedError(N_("%(name)s is archived. Restore it first."), name=name)
        if channel := self.follows_releases():
            raise RefusedError(
                N_("This station follows the releases of channel %(channel)s. Start there: gonogo fleet start"),
                channel=channel,
            )
        running = self.running()
        if running is not None:
            raise RefusedError(
                N_("%(name)s already judges silently, since %(who)s started it. Stop it first."),
                name=running.candidate,
                who=running.who,
            )

    def _station(self) -> StationSettings | None:
        try:
            return read_settings(self._workspace.root / "station.toml")
        except (GonogoError, OSError):
            return None


def every_part_to_a_person(point: OperatingPoint | None) -> bool:
    """Whether an inspector with this operating point passes no part by itself."""
    return point is None or point.go_below == -math.inf


def beside_command(job: Path) -> list[str]:
    """Return the command that starts the silent judge of a workspace, at the lowest priority."""
    return [*_NICE, sys.executable, "-m", "gonogo.fleet", "beside", str(job)]


def _trial(row: Row[Action]) -> Trial | None:
    details = row.record.details
    try:
        release = Release.model_validate_json(json.dumps(details.get("release")))
        stage, sequence = Stage(str(details.get("to"))), int(str(details.get("sequence")))
    except ValueError:
        return None  # written by another version
    return Trial(
        release=release,
        stage=stage,
        sequence=sequence,
        candidate=str(details.get("bundle")),
        beside=str(details.get("beside")),
        people=details.get("people") is True,
        who=row.record.who,
        at=row.at,
        why=str(details.get("why") or ""),
    )
