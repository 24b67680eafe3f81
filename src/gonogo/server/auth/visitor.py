"""Who is asking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from gonogo.server.access import Role
from gonogo.server.auth.people import User


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Who is asking, and in which language they are answered."""

    name: str
    """``""`` before login."""
    role: Role | None
    """``None`` before login."""
    language: str
    theme: str
    """``light``, ``dark``, or ``auto``: as the browser prefers."""
    user: User | None = None
    """The person; ``None`` for a program and before login."""
    session: str | None = None
    """The session's secret, from the cookie."""


def _visitor(request: Request) -> Visitor:
    found: Visitor = request.state.visitor
    return found


Me = Annotated[Visitor, Depends(_visitor)]
"""Who is asking, as an argument of a handler."""
