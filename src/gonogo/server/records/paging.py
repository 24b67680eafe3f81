"""Searches of the ledger's rows, page by page: the parts and the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from gonogo.server.records.row_index import RowIndex, Wanted

PAGE_ROWS = 50


@dataclass(frozen=True, kw_only=True)
class PageOfRows:
    """One page of what a search found."""

    numbers: tuple[int, ...]
    """Numbers of the rows, the newest first."""
    here: str
    """Query of the search, without the place in it."""
    older: str
    """Query of the next page; empty on the last one."""

    @property
    def whole(self) -> bool:
        """Whether nothing older follows."""
        return not self.older


def page_of(index: RowIndex, wanted: Wanted, fields: Mapping[str, str], *, before: int | None) -> PageOfRows:
    """Find one page of rows.

    Args:
        index: The search index.
        wanted: The search.
        fields: The same search as the address names it.
        before: The last row of the page before; ``None`` for the newest.
    """
    found = index.find(wanted, before=before, limit=PAGE_ROWS + 1)
    shown = found[:PAGE_ROWS]
    older = urlencode({**fields, "before": shown[-1]}) if len(found) > PAGE_ROWS else ""
    return PageOfRows(numbers=tuple(shown), here=urlencode(fields), older=older)
