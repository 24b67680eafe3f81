"""The visitor that sends a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from gonogo.server.access import Role
from gonogo.server.auth.people import User
from gonogo.server.auth.screens import Screen


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """The person or program that sends a request, and the language of the response."""

    name: str
    """``""`` without a login."""
    role: Role | None
    """``None`` without a login."""
    language: str
    theme: str
    """``light``, ``dark``, or ``auto`` (browser preference)."""
    user: User | None = None
    """The person; ``None`` for a program or without a login."""
    session: str | None = None
    """The session's secret, from the cookie."""
    screen: Screen | None = None
    """The wall screen, if this is one; it opens only what `gonogo.server.access.Route.screens` allows."""


def _visitor(request: Request) -> Visitor:
    found: Visitor = request.state.visitor
    return found


Me = Annotated[Visitor, Depends(_visitor)]
"""Type of a handler argument that receives the visitor."""
