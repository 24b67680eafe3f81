"""The workspace folder of a server: data sets, bundles, ledger, training runs and database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gonogo.errors import InputError
from gonogo.files import write_beside
from gonogo.names import readable
from gonogo.signing import SignaturePolicy, machine_policy
from gonogo.station.settings import read_settings, signature_policy

_MARK = "server.db"


def _is_text(name: str) -> bool:
    return readable(name) == name


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Paths of a workspace. Create it with `open`, which creates the folders.

    ::

        datasets/<name>/             pictures and metadata.jsonl
        bundles/<name>.inspector/    trained inspectors

        active                       one line: the bundle in use, bundles/<name>.inspector
        ledger/line.ledger           every verdict and every action; line.ledger-frames/ beside it
        state/                       status of the station of station.toml
        stations/<name>/             stations that were set up on the pages, see gonogo.station.place

        jobs/                        training runs
        station.toml                 settings of a station on this machine; may name another ledger and state folder
        server.db                    people, sessions, tokens
    """

    root: Path
    ledger: Path
    """The ledger of verdicts and actions."""
    station_state: Path
    """The folder in which the station writes its status several times a minute."""
    signatures: SignaturePolicy
    """Whether a bundle that is deployed, shown as in use or asked by programs must be signed, and by whom."""

    @classmethod
    def open(cls, root: Path) -> Workspace:
        """Open a workspace; an empty or missing folder is initialized.

        Raises:
            InputError: the folder contains something else or is not writable, or its ``station.toml`` is malformed.
        """
        root = root.resolve()
        ledger, state, signatures = root / "ledger" / "line.ledger", root / "state", machine_policy()
        if (root / "station.toml").is_file():
            station = read_settings(root / "station.toml")
            ledger, state, signatures = station.ledger, station.state_dir, signature_policy(station)
        space = cls(root=root, ledger=ledger, station_state=state, signatures=signatures)
        if root.exists() and not root.is_dir():
            raise InputError(f"{root}: expected a folder for the workspace, found a file. Choose a folder.")
        if root.is_dir() and any(root.iterdir()) and not space._begun():
            raise InputError(
                f"{root}: expected a workspace or an empty folder, found a folder with other files. "
                "Choose a new folder."
            )
        try:
            for folder in (space.datasets, space.bundles, space.jobs, space.ledger.parent):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{root}: cannot be written ({error.strerror}). Choose another folder.") from error
        return space

    def _begun(self) -> bool:
        return any(
            (self.root / name).exists() for name in (_MARK, "ledger", "station.toml", "stations", "datasets", "bundles")
        )

    @property
    def datasets(self) -> Path:
        """One folder for each data set."""
        return self.root / "datasets"

    @property
    def bundles(self) -> Path:
        """One folder for each inspector, ``<name>.inspector``."""
        return self.root / "bundles"

    @property
    def jobs(self) -> Path:
        """One folder for each training run."""
        return self.root / "jobs"

    @property
    def database(self) -> Path:
        """People, sessions and tokens."""
        return self.root / _MARK

    def bundle_paths(self) -> list[Path]:
        """Paths of all bundles by name."""
        return sorted(path for path in self.bundles.glob("*.inspector") if path.is_dir() and _is_text(path.name))

    def unusable_bundles(self) -> list[Path]:
        """Paths that look like bundles but are not folders or have unprintable names."""
        return sorted(set(self.bundles.glob("*.inspector")) - set(self.bundle_paths()))

    def active_bundle(self) -> Path | None:
        """Path of the bundle in use, or ``None``."""
        pointer = self.root / "active"
        if not pointer.is_file():
            return None
        path = self.root / pointer.read_text("utf-8", errors="replace").strip()
        return path if path in self.bundle_paths() else None

    def activate(self, name: str) -> None:
        """Deploy a bundle: make it the one in use.

        Args:
            name: Folder name, such as ``tile.inspector``.

        Raises:
            InputError: there is no such bundle.
        """
        if name not in [path.name for path in self.bundle_paths()]:
            raise InputError(f"{self.bundles}: expected a bundle named {name!r}, found none.")
        # A path, so that station.toml can say bundle = "active" and the station follows.
        write_beside(self.root / "active", f"{self.bundles.name}/{name}\n".encode())
