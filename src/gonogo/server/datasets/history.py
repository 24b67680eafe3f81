"""The revisions of a data set: list, compare, restore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from gonogo.dataset import Changes, Revision, compare, restore_revision
from gonogo.errors import DatasetError
from gonogo.server import responses
from gonogo.server.auth.visitor import Me
from gonogo.server.context import Use
from gonogo.server.dataset_store import Datasets
from gonogo.server.language import N_
from gonogo.server.ledger_pool import LedgerPool

LATEST = 5
"""Number of revisions on the page of the data set."""
_NAMED = 40
WHAT_NAMES = {
    "import": N_("imported"),
    "add": N_("folder added"),
    "upload": N_("uploaded"),
    "label": N_("labelled"),
    "split": N_("split again"),
    "train": N_("split for training"),
    "review": N_("decided in review"),
    "collect": N_("collected from the line"),
    "remove": N_("pictures removed"),
    "restore": N_("restored"),
    "prune": N_("old files deleted"),
    "found": N_("first seen"),
    "outside": N_("changed by another program"),
    "interrupted": N_("the change before was not completed"),
}
CHANGE_NAMES = {
    "added": N_("added"),
    "removed": N_("removed"),
    "replaced": N_("replaced"),
    "relabelled": N_("relabelled"),
    "moved": N_("moved to another split"),
    "remasked": N_("outlined again"),
    "other": N_("changed in other columns"),
}

RevisionNumber = Annotated[int, Query(ge=1, le=10**9)]


@dataclass(frozen=True, kw_only=True)
class ListedChange:
    """One kind of change between two revisions, for the page."""

    name: str
    count: int
    files: tuple[tuple[str, str], ...]
    """File name and what changed, as far as they are listed."""


def history_page(
    request: Request,
    datasets: Use[Datasets],
    name: str,
    first: RevisionNumber | None = None,
    second: RevisionNumber | None = None,
) -> Response:
    """The revisions of a data set, and what differs between two of them."""
    root = datasets.root_of(name)
    listed = datasets.revision_heads(name)
    last = listed[0].number if listed else 0
    chosen = (min(first, last), min(second or last, last)) if first is not None and last else None
    return responses.page(
        request,
        "history.html",
        name=name,
        listed=listed,
        last=last,
        chosen=chosen,
        changes=() if chosen is None else _listed(compare(root, *chosen)),
        what_names=WHAT_NAMES,
        change_names=CHANGE_NAMES,
    )


def restore(
    request: Request,
    datasets: Use[Datasets],
    ledger_pool: Use[LedgerPool],
    me: Me,
    name: str,
    revision: Annotated[int, Form(ge=1, le=10**9)],
) -> Response:
    """Bring a revision back, as a new one."""
    root = datasets.root_of(name)
    ledger_pool.act("dataset_restored", me.name, dataset=name, revision=revision)
    restore_revision(root, revision, who=me.name)
    return RedirectResponse(f"/datasets/{name}/revisions", 303)


def latest_revisions(datasets: Datasets, name: str) -> tuple[Revision, ...]:
    """The latest revisions of a data set, the newest first; empty if the list is malformed."""
    try:
        return datasets.revision_heads(name)[:LATEST]
    except DatasetError:
        return ()


def _listed(changes: Changes) -> tuple[ListedChange, ...]:
    return tuple(
        ListedChange(
            name=kind,
            count=len(content),
            files=tuple(
                (each, "") if isinstance(each, str) else (each["file"], f"{each['before']} → {each['after']}")
                for each in content[:_NAMED]
            ),
        )
        for kind, content in changes.to_json().items()
        if content
    )
