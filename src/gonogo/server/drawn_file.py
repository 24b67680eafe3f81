"""A TOML file of a data set that a page edits: read with its digest, saved in the ledger first and then in the file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fastapi.responses import JSONResponse, Response
from pydantic import JsonValue

from gonogo.config.strict import Strict, read_toml
from gonogo.dataset import locked
from gonogo.errors import GonogoError, InputError
from gonogo.files import write_beside
from gonogo.server.auth.visitor import Me
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.ledger_pool import LedgerPool

Content = TypeVar("Content", bound=Strict)


@dataclass(frozen=True, kw_only=True)
class Saved(Generic[Content]):
    """What a data set's file holds."""

    content: Content
    """As if nothing had been drawn where there is no file, or where it cannot be used."""
    digest: str = ""
    """SHA-256 of the file; empty if there is none."""
    problem: str = ""
    """Why the file cannot be used."""


@dataclass(frozen=True, kw_only=True)
class RowProblem:
    """A wrong value of one drawn row of a request."""

    row: int
    field: str
    message: str
    """English; translated by the page."""


class WrongRowsError(GonogoError):
    """Rows of the request are wrong; nothing was saved."""

    def __init__(self, problems: Sequence[RowProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"expected rows that can be saved, found {len(problems)} wrong values: correct them.")

    def answer(self, message: str, me: Me) -> Response:
        """The answer to the page's script: 422, with every wrong value in the visitor's language."""
        tell = translations(me.language).gettext
        problems = [{"row": each.row, "field": each.field, "message": tell(each.message)} for each in self.problems]
        return JSONResponse({"message": tell(message), "problems": problems}, 422)


class ChangedFileError(GonogoError):
    """The file has changed since the page was loaded; nothing was saved."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: was changed in the meantime. Load the page again.")


@dataclass(frozen=True, kw_only=True)
class DrawnFile(Generic[Content]):
    """The file of one page, in the folder of each data set.

    Attributes:
        name: The file's name, such as ``zones.toml``.
        empty: What a data set without the file has.
        as_toml: Writes the file.
        example: The command that writes an example, for the error of a malformed file.
        event: Name of the ledger's record of a change.
    """

    name: str
    empty: Content
    as_toml: Callable[[Content], bytes]
    example: str
    event: str

    @property
    def before(self) -> str:
        """Name of the file as it was before the last save, with its comments."""
        return self.name.replace(".toml", ".before.toml")

    def read(self, root: Path) -> Saved[Content]:
        """Read the file of a data set; a malformed one is reported in ``problem``."""
        path = root / self.name
        if not path.is_file():
            return Saved(content=self.empty)
        try:
            digest = _digest(path.read_bytes())  # before the content, so that a change in between is a conflict
            found = read_toml(path, type(self.empty), example=self.example)
        except (InputError, OSError) as error:
            return Saved(content=self.empty, problem=str(error))
        return Saved(content=found, digest=digest)

    def readable(self, root: Path) -> Saved[Content]:
        """Read the file of a data set.

        Raises:
            RefusedError: the file is malformed.
        """
        saved = self.read(root)
        if saved.problem:
            raise RefusedError(N_("%(file)s cannot be read: %(problem)s"), file=self.name, problem=saved.problem)
        return saved

    def save(
        self,
        root: Path,
        *,
        seen: str,
        change: Callable[[Content], Content],
        told: Callable[[Content], Mapping[str, JsonValue]],
        who: str,
        ledger_pool: LedgerPool,
    ) -> Saved[Content]:
        """Change the file: first in the ledger, then on the disk. The same content again changes nothing.

        Args:
            root: Folder of the data set.
            seen: `Saved.digest` of the file that the page shows.
            change: Makes the new content from the old one.
            told: What the ledger says of the new content, beside the digests.
            who: Name of the person.
            ledger_pool: The workspace's ledger.

        Raises:
            ChangedFileError: another version was saved since the page was loaded.
            RefusedError: the file is malformed.
            LedgerError: the change could not be recorded and was not saved.
        """
        with locked(root):
            before = self.readable(root)
            if before.digest != seen:
                raise ChangedFileError(self.name)
            after = change(before.content)
            if after == before.content and before.digest:
                return before
            data = self.as_toml(after)
            details: dict[str, Any] = {"dataset": root.name, **told(after), "before": before.digest}
            details[f"{self.name.removesuffix('.toml')}_sha256"] = _digest(data)
            ledger_pool.act(self.event, who, **details)
            if before.digest:
                write_beside(root / self.before, (root / self.name).read_bytes())
            write_beside(root / self.name, data)
        return Saved(content=after, digest=_digest(data))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
