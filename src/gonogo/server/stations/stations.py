"""The stations of a workspace: list, read, save, start, stop."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import tomli_w
from pydantic import JsonValue

from gonogo import locks
from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, parse_toml, read_text, write_beside
from gonogo.ledger import Action
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.signatures import Signatures, Signer
from gonogo.server.stations.form import TOKEN_FILE, Filled, Fixed, Values, from_content, to_content, usual_values
from gonogo.server.stations.keeper import Keeper
from gonogo.server.stations.rules import policy_lines, require_allowed, require_policy
from gonogo.server.workspace import Workspace
from gonogo.station.place import Phase, Place, Standing, Wish
from gonogo.station.settings import StationSettings, StdinTrigger, parse_settings, read_settings

MOST = 50
"""Largest number of stations of a workspace."""
REMOVED = ".removed"
"""Folder of the stations that were removed, inside that of the stations."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_BY_HAND = N_("It was set up by hand at the top of the workspace. Change, start and stop it where that was done.")


@dataclass(frozen=True, kw_only=True)
class Station:
    """One station of the workspace, as it is now."""

    name: str
    place: Place
    standing: Standing
    settings: StationSettings | None
    """``None`` if they cannot be used."""
    problem: str = ""
    """Why the settings cannot be used, in English."""
    by_hand: str = ""
    """Why it is not started and stopped from the pages, marked for translation; empty if it is."""

    @property
    def bundle(self) -> str:
        """What judges, for people."""
        if self.settings is None:
            return ""
        if self.settings.products:
            return ", ".join(self.settings.products)
        return "" if self.settings.bundle is None else self.settings.bundle.name


Sign: TypeAlias = Callable[[str], Signer]
"""Returns who changes a station, given the inspectors that would judge there from now on; empty if they stay."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """The file of a station, for the form."""

    text: str
    seen: str
    """SHA-256 of the file: a form that was filled in from another one is refused."""
    filled: Filled


class Stations:
    """The stations of a workspace. `start` lets those run again that people want to run."""

    def __init__(self, workspace: Workspace, ledger_pool: LedgerPool, signatures: Signatures) -> None:
        self._space, self._ledger_pool, self._signatures = workspace, ledger_pool, signatures
        self.root = workspace.root / "stations"
        self.keeper = Keeper(self.root, self.names, lambda name: self.find(name).standing, self._ended)
        self._guard = threading.Lock()
        self._parsed: dict[Path, tuple[tuple[int, ...], StationSettings | None, str]] = {}

    # --- reading

    def names(self) -> list[str]:
        """Sorted names of the stations that the pages start."""
        if not self.root.is_dir():
            return []
        return sorted(
            path.parent.name for path in self.root.glob("*/station.toml") if _NAME.fullmatch(path.parent.name)
        )

    def all(self) -> list[Station]:
        """Return every station, the one at the top of the workspace first."""
        top = self._top()
        return ([] if top is None else [top]) + [self.find(name) for name in self.names()]

    def find(self, name: str) -> Station:
        """Return one station.

        Raises:
            RefusedError: there is none of this name.
        """
        top = self._top()
        if top is not None and top.name == name:
            return top
        # Compared with the existing folders, so that no name points outside this folder.
        if name not in self.names():
            raise RefusedError(N_("There is no station %(name)s."), name=name[:64])
        place = Place(folder=self.root / name)
        settings, problem = self._settings(place.toml)
        if settings is not None:
            problem = self._strange(name, settings)
            settings = None if problem else settings
        state_dir = place.folder / "state" if settings is None else settings.state_dir
        return Station(name=name, place=place, standing=place.standing(state_dir), settings=settings, problem=problem)

    def _strange(self, name: str, settings: StationSettings) -> str:
        """Why the pages would show other things than this station does; empty if they show what it does."""
        if settings.station != name:
            return f"expected station = {name!r}, the name of its folder, found {settings.station!r}."
        if settings.ledger.resolve() != self._space.ledger.resolve():
            return f"expected the ledger of this workspace, found {settings.ledger}."
        return ""

    def _top(self) -> Station | None:
        """The station whose ``station.toml`` lies at the top of the workspace."""
        place = Place(folder=self._space.root)
        if not place.toml.is_file():
            return None
        settings, problem = self._settings(place.toml)
        state_dir = self._space.station_state if settings is None else settings.state_dir
        return Station(
            name="station" if settings is None else settings.station,
            place=place,
            standing=place.standing(state_dir),
            settings=settings,
            problem=problem,
            by_hand=_BY_HAND,
        )

    def _settings(self, toml: Path) -> tuple[StationSettings | None, str]:
        """Read settings; from memory while the file does not change."""
        stat = toml.stat()
        mark = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        known = self._parsed.get(toml)
        if known is None or known[0] != mark:
            try:
                known = (mark, read_settings(toml), "")
            except InputError as error:
                known = (mark, None, str(error))
            self._parsed[toml] = known
        return known[1], known[2]

    def new_values(self, name: str) -> Values:
        """Return the fields of a new station of this workspace."""
        lines = policy_lines(self.root / name, self._space)
        return usual_values(name) | {"more": "".join(f"{line}\n" for line in lines)}

    def fixed(self, name: str) -> Fixed:
        """What the workspace decides about a station."""
        folder = self.root / name
        return Fixed(
            name=name,
            ledger=Path(os.path.relpath(self._space.ledger, folder)).as_posix(),
            bundles=Path(os.path.relpath(self._space.root, folder)).as_posix(),
        )

    def read(self, station: Station) -> Read:
        """Read the file of a station for the form."""
        try:
            text = read_text(station.place.toml, most_bytes=MOST_SETTINGS_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{station.place.toml}: cannot be read ({error}).") from error
        seen = hashlib.sha256(text.encode()).hexdigest()
        try:
            content: Mapping[str, Any] = parse_toml(text)
        except tomllib.TOMLDecodeError as error:
            reason = N_("The file is not TOML: %(detail)s. Edit the file instead.")
            filled = Filled(values=usual_values(station.name), reason=reason, detail=str(error))
            return Read(text=text, seen=seen, filled=filled)
        if station.by_hand:
            return Read(text=text, seen=seen, filled=Filled(values={}, reason=station.by_hand))
        return Read(text=text, seen=seen, filled=from_content(content, text, self.fixed(station.name)))

    # --- changing

    def create(self, values: Values, *, who: str, anywhere: bool, sign: Sign | None = None) -> Station:
        """Set up a new station; see `save`.

        Raises:
            RefusedError: the name or the settings cannot be used.
        """
        name = values.get("name", "").strip()
        if not _NAME.fullmatch(name):
            raise RefusedError(
                N_("A name must have 1 to 60 characters: letters a to z, digits, hyphens and underscores.")
            )
        with self._alone():
            taken = {each.name.casefold() for each in self.all()}
            if name.casefold() in {*taken, "new", "list"} or (self.root / name).exists():
                raise RefusedError(N_("The station %(name)s already exists. Choose another name."), name=name)
            if len(taken) >= MOST:
                raise RefusedError(N_("A workspace has at most %(most)s stations."), most=MOST)
            self._write(name, values, sign or _unsigned(who), anywhere=anywhere, before=None)
        return self.find(name)

    def save(self, name: str, values: Values, *, seen: str, who: str, anywhere: bool, sign: Sign | None = None) -> None:
        """Replace the settings of a station that does not run.

        Args:
            name: The station.
            values: The fields of the form.
            seen: `Read.seen` of the file that the form was filled in from.
            who: The person.
            anywhere: Whether the person may name folders and files outside the workspace.
            sign: Asked for the person's signature where one is required, and other inspectors would judge.

        Raises:
            RefusedError: the station runs, its file was changed meanwhile, the form cannot express it, or the settings
                cannot be used.
        """
        with self._alone():
            station = self.find(name)
            read = self.read(station)
            if station.by_hand or read.filled.reason:
                raise RefusedError(read.filled.reason or station.by_hand, detail=read.filled.detail)
            if read.seen != seen:
                raise RefusedError(N_("The settings were changed meanwhile. Load the page again, then change them."))
            if station.standing.phase.holds_camera or station.place.wish().run:
                raise RefusedError(N_("The station is running. Stop it, then change its settings."))
            self._write(name, values, sign or _unsigned(who), anywhere=anywhere, before=seen)

    def _write(self, name: str, values: Values, sign: Sign, *, anywhere: bool, before: str | None) -> None:
        folder = self.root / name
        content = to_content(values, self.fixed(name))
        text = tomli_w.dumps(content)
        try:
            settings = parse_settings(text, name="station.toml", folder=folder)
        except InputError as error:
            raise RefusedError(N_("These settings cannot be used: %(why)s"), why=str(error)) from error
        require_allowed(settings, folder, self._space, anywhere=anywhere)
        digest = hashlib.sha256(text.encode()).hexdigest()
        other = self._other_inspectors(name, settings, new=before is None)
        self._signatures.act(
            sign(other), "station_saved", station=name, settings_sha256=digest, before=before, inspectors=other or None
        )
        _make_folders(settings, folder, self._space.root)
        if TOKEN_FILE in text and not (folder / TOKEN_FILE).exists():
            write_beside(folder / TOKEN_FILE, f"{secrets.token_hex(32)}\n".encode(), mode=0o600)
        write_beside(folder / "station.toml", text.encode())

    def _other_inspectors(self, name: str, settings: StationSettings, *, new: bool) -> str:
        """The inspectors that would judge at a station, if they are others than now; empty if they are the same."""
        sources = settings.sources()
        if new:
            pointer = (self._space.root / "active").resolve()
            same = {path.resolve() for places in sources.values() for path in places} == {pointer}
        else:
            now = self.find(name).settings
            same = now is not None and list(now.sources().items()) == list(sources.items())
        listed = {str(product or ""): [path.name for path in places] for product, places in sources.items()}
        return "" if same else json.dumps(listed, ensure_ascii=False)

    def want(self, name: str, *, run: bool, who: str, again: bool = False) -> bool:
        """Start or stop a station; ``again`` restarts a running one.

        Returns:
            False if it was so already, for example because another person was faster.

        Raises:
            RefusedError: it cannot be started or stopped from the pages.
        """
        with self._alone():
            station = self.find(name)
            wish = station.place.wish()
            if wish.run == run and not (run and again):
                return False
            self._require_startable(station, run=run)
            action = "station_stopped" if not run else "station_restarted" if wish.run else "station_started"
            self._act(action, name, who)
            number = wish.number + 1 if run else wish.number
            station.place.write_wish(Wish(run=run, number=number, who=who, at=datetime.now(UTC)))
        self.keeper.start()
        return True

    def remove(self, name: str, *, seen: str, who: str) -> Path:
        """Remove a station that does not run: its folder is kept, among the removed ones; its parts stay recorded.

        Args:
            name: The station.
            seen: `Read.seen` of the file that the page shows.
            who: The person.

        Returns:
            Where the folder is now. Moved back, it is the same station again.

        Raises:
            RefusedError: it runs, was set up by hand, or was changed meanwhile.
        """
        with self._alone():
            station = self.find(name)
            if station.by_hand:
                raise RefusedError(station.by_hand)
            if self.read(station).seen != seen:
                raise RefusedError(N_("The settings were changed meanwhile. Load the page again, then change them."))
            if station.standing.phase is not Phase.OFF or station.place.wish().run:
                raise RefusedError(N_("The station is running. Stop it, then remove it."))
            now = datetime.now(UTC)
            kept = self.root / REMOVED / f"{name}-{now:%Y%m%dT%H%M%S%f}"
            self._act("station_removed", name, who, kept=kept.name, settings_sha256=seen)
            try:
                kept.parent.mkdir(exist_ok=True)
                (self.root / name).rename(kept)
            except OSError as error:
                raise InputError(f"{self.root / name}: cannot be moved ({error.strerror or error}).") from error
        return kept

    def _require_startable(self, station: Station, *, run: bool) -> None:
        if station.by_hand:
            raise RefusedError(station.by_hand)
        if not run:
            return
        if station.settings is None:
            raise RefusedError(N_("These settings cannot be used: %(why)s"), why=station.problem)
        require_policy(station.settings, station.place.folder, self._space)
        if station.standing.phase is Phase.ELSEWHERE:
            raise RefusedError(N_("The station was started elsewhere, for example by systemd. Stop it there first."))
        if isinstance(station.settings.trigger, StdinTrigger):
            raise RefusedError(
                N_("Its triggers come from standard input, so only the program that sends them can start it.")
            )

    def token(self, station: Station) -> str | None:
        """Return the token that programs send to a station; ``None`` if it has none."""
        try:
            return read_text(station.place.folder / TOKEN_FILE, most_bytes=MOST_SETTINGS_BYTES).strip()
        except (OSError, UnicodeDecodeError):
            return None

    # --- running

    def start(self) -> None:
        """Let those stations run again that people want to run."""
        self.keeper.start()

    def close(self) -> None:
        """Start no more stations; those that run continue."""
        self.keeper.close()

    def _ended(self, name: str, why: str) -> None:
        self._act("station_ended", name, "gonogo", why=why[:500])

    def _act(self, action: str, name: str, who: str, **details: JsonValue) -> None:
        self._ledger_pool.append(Action(action=action, who=who, station=name, details=details))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep every other change of a station away, also those of other servers."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self._guard, (self.root / "changes.lock").open("ab") as file:
            locks.lock(file)
            yield


def _make_folders(settings: StationSettings, folder: Path, root: Path) -> None:
    """Create the folders inside the workspace that pictures come into."""
    wanted = [folder, *(getattr(each.camera, "folder", None) for each in settings.cameras)]
    wanted.append(getattr(settings.trigger, "folder", None))
    try:
        for each in wanted:
            if each is not None and each.resolve().is_relative_to(root):
                each.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}).") from error


def _unsigned(who: str) -> Sign:
    return lambda inspectors: Signer(who=who)
