"""The pages of the inspectors: list, one of them, notes, archive."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import Form, Request
from fastapi.responses import Response

from gonogo.server import responses
from gonogo.server.access import ENGINEERS
from gonogo.server.auth.visitor import Me
from gonogo.server.catalogue import LONGEST_NOTE, Catalogue
from gonogo.server.context import Use
from gonogo.server.inspectors import Inspectors
from gonogo.server.language import N_, RefusedError
from gonogo.server.model_list.facts import list_inspectors, one_inspector
from gonogo.server.shadow import Shadows
from gonogo.server.signatures import Signatures


def inspectors_page(
    request: Request,
    inspectors: Use[Inspectors],
    catalogue: Use[Catalogue],
    shadows: Use[Shadows],
    signatures: Use[Signatures],
    me: Me,
    archived: bool = False,
) -> Response:
    """All inspectors, or the archived ones."""
    return responses.page(
        request,
        "inspectors.html",
        listed=list_inspectors(inspectors, catalogue, shadows, archived=archived),
        archived=archived,
        offer=signatures.offer(me),
        others=len(inspectors.workspace.bundle_paths()),
        away=len(catalogue.archived() & {path.name for path in inspectors.workspace.bundle_paths()}),
        may=me.role in ENGINEERS,
    )


def inspector_page(
    request: Request,
    inspectors: Use[Inspectors],
    catalogue: Use[Catalogue],
    shadows: Use[Shadows],
    signatures: Use[Signatures],
    me: Me,
    name: str,
) -> Response:
    """One inspector: quality, promise, data, notes, and what can be done with it."""
    active, each = inspectors.in_use(), one_inspector(inspectors, catalogue, shadows, name)
    return responses.page(
        request,
        "inspector.html",
        each=each,
        offer=signatures.offer(me),
        signed=None if each.opened is None else signatures.in_force(each.opened.sha256),
        active=active,
        longest=LONGEST_NOTE,
        may=me.role in ENGINEERS,
    )


def note(
    request: Request,
    catalogue: Use[Catalogue],
    me: Me,
    name: str,
    text: Annotated[str, Form(max_length=8 * LONGEST_NOTE)] = "",
) -> Response:
    """Add a note."""
    catalogue.note(name, text, me.name)
    return responses.back(request, _address(name), responses.gettext_of(me)(N_("Noted.")))


def archive(request: Request, catalogue: Use[Catalogue], shadows: Use[Shadows], me: Me, name: str) -> Response:
    """Hide an inspector from the lists."""
    with catalogue.changing:
        running = shadows.running()
        if running is not None and running.candidate == name:
            raise RefusedError(N_("%(name)s judges silently. Stop that first."), name=name)
        catalogue.archive(name, me.name)
    return responses.back(request, "/inspectors", responses.gettext_of(me)(N_("Archived. Nothing was deleted.")))


def restore(request: Request, catalogue: Use[Catalogue], me: Me, name: str) -> Response:
    """Bring an inspector back."""
    catalogue.restore(name, me.name)
    return responses.back(request, _address(name), responses.gettext_of(me)(N_("It is in the list again.")))


def _address(name: str) -> str:
    return f"/inspectors/{quote(name, safe='')}"
