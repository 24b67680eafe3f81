"""What the settings of a station may say: its own places, and at least the signatures that the workspace requires."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from gonogo.config import Strict
from gonogo.server.language import N_, RefusedError
from gonogo.server.workspace import Workspace
from gonogo.signing import machine_policy
from gonogo.station.settings import StationSettings, signature_policy


def require_allowed(settings: StationSettings, folder: Path, space: Workspace, *, anywhere: bool) -> None:
    """Raise if a person may not save these settings.

    Args:
        settings: What they asked for.
        folder: Folder of the station.
        space: The workspace.
        anywhere: Whether the person may name folders and files outside the workspace.

    Raises:
        RefusedError: says what to change.
    """
    own = (settings.ledger.resolve(), settings.state_dir.resolve())
    if own != (space.ledger.resolve(), (folder / "state").resolve()):
        raise RefusedError(N_("These settings cannot be used: %(why)s"), why="ledger and state_dir are fixed.")
    require_policy(settings, folder, space)
    keys = space.signatures.trust_store.resolve()
    outside = [path for path in _paths(settings) if not _inside(path, space.root) and path.resolve() != keys]
    if outside and not anywhere:
        raise RefusedError(
            N_("Only an administrator may name a place outside the workspace: %(path)s."), path=str(outside[0])
        )


def require_policy(settings: StationSettings, folder: Path, space: Workspace) -> None:
    """Raise if a station would judge with inspectors that the workspace refuses.

    Raises:
        RefusedError: says what to set.
    """
    wanted, found = space.signatures, signature_policy(settings)
    if not wanted.required or (found.required and found.trust_store.resolve() == wanted.trust_store.resolve()):
        return
    if lines := policy_lines(folder, space):
        raise RefusedError(
            N_("Inspectors must be signed here. Set in the further settings: %(lines)s."), lines=", ".join(lines)
        )
    raise RefusedError(
        N_("Inspectors must be signed here with the keys of this machine. Remove trust_store from the settings.")
    )


def policy_lines(folder: Path, space: Workspace) -> tuple[str, ...]:
    """What the settings in a folder must say about signatures; empty if the machine says it, or none are required."""
    wanted = space.signatures
    if not wanted.required or wanted == machine_policy():
        return ()
    store = Path(os.path.relpath(wanted.trust_store, folder)).as_posix()
    return ("require_signature = true", f"trust_store = {json.dumps(store)}")


def _inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root)


def _paths(value: object) -> Iterator[Path]:
    """Every path in settings, also those that are written as addresses."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, str) and value.startswith("file:"):
        yield Path(urlsplit(value).path)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _paths(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from _paths(each)
    elif isinstance(value, Strict):
        for name in type(value).model_fields:
            yield from _paths(getattr(value, name))
