"""Saved results of a study, one file per piece, so that an interrupted study can continue."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from gonogo.errors import InputError
from gonogo.files import write_beside

T = TypeVar("T")

SETTINGS = "settings"


class Pieces:
    """A folder with one JSON file for each finished piece of a study."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Open the folder, or make it.

        Args:
            folder: Where the pieces lie.
            settings: All that decides the figures: pieces made with other settings are not mixed in.

        Raises:
            InputError: the folder holds pieces of another study.
        """
        self.folder = folder
        own: dict[str, Any] = TypeAdapter(dict[str, Any]).dump_python(settings, mode="json")
        found = self.once(SETTINGS, dict[str, Any], lambda: own)
        if found != own:
            differing = ", ".join(sorted(name for name in own | found if own.get(name) != found.get(name)))
            raise InputError(
                f"{folder}: expected pieces of the same study, found one with other settings ({differing}). "
                "Choose another --out, or pass --overwrite to start again."
            )

    def once(self, name: str, kind: type[T], make: Callable[[], T]) -> T:
        """Return a piece: read it if it is finished, otherwise compute and save it.

        Args:
            name: Of its file, without suffix.
            kind: A dataclass, or whatever else Pydantic can read back.
            make: What takes long.

        Raises:
            InputError: a file that does not hold such a piece.
        """
        known = self.known(name, kind)
        if known is not None:
            return known
        made = make()
        write_beside(self._path(name), json.dumps(TypeAdapter(kind).dump_python(made, mode="json"), indent=1).encode())
        return made

    def known(self, name: str, kind: type[T]) -> T | None:
        """Return a finished piece, or ``None``."""
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            return TypeAdapter(kind).validate_json(path.read_bytes())
        except ValidationError as error:
            raise InputError(
                f"{path}: expected a finished piece of the study, found something else ({error.error_count()} "
                "differences). Remove the file, and it is computed again."
            ) from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"
