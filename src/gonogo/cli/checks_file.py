"""Reads and changes ``checks.toml``; what a command does not set is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gonogo.config import Checks


def read_checks(path: Path) -> Checks:
    """Read a checks file.

    Raises:
        InputError: See `gonogo.config.read_toml`.
    """
    from gonogo.config import Checks, read_toml

    return read_toml(path, Checks, example="gonogo roi calibrate, or gonogo presence learn")


def update_checks(path: Path, **changes: Any) -> Checks:
    """Change some of the tables of a checks file, which need not exist yet.

    Raises:
        InputError: The file is malformed, or cannot be written.
    """
    import tomli_w

    from gonogo.config import Checks
    from gonogo.files import write_beside

    before = read_checks(path) if path.exists() else Checks()
    checks = before.model_copy(update=changes)
    write_beside(path, tomli_w.dumps(checks.model_dump(mode="json", exclude_none=True)).encode())
    return checks
