"""Who may do what: the roles, and how a route declares them. The table itself is `gonogo.server.routes.ROUTES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any
from urllib.parse import urlencode

from gonogo.server.language import N_

KIB, MIB = 1024, 1024**2


class Role(StrEnum):
    """What a person or a token is trusted with."""

    OPERATOR = "operator"
    """Watches the station."""
    REVIEWER = "reviewer"
    """Decides doubtful parts."""
    ENGINEER = "engineer"
    """Labels, trains, sets limits, deploys."""
    AUDITOR = "auditor"
    """Reads everything, changes nothing."""
    ADMIN = "admin"
    """Manages people; may do everything."""


ROLE_NAMES: Mapping[Role, str] = {
    Role.OPERATOR: N_("operator"),
    Role.REVIEWER: N_("reviewer"),
    Role.ENGINEER: N_("engineer"),
    Role.AUDITOR: N_("auditor"),
    Role.ADMIN: N_("administrator"),
}

PUBLIC: frozenset[Role] = frozenset()
"""Reachable without login. Only the login itself and ``/health``; a test holds the list."""
EVERYONE = frozenset(Role)
REVIEWERS = frozenset({Role.REVIEWER, Role.ENGINEER, Role.ADMIN})
ENGINEERS = frozenset({Role.ENGINEER, Role.ADMIN})
ADMINS = frozenset({Role.ADMIN})
AUDITORS = frozenset({Role.AUDITOR, Role.ADMIN})
ENGINEERS_AND_AUDITORS = ENGINEERS | AUDITORS


class AccessKind(Enum):
    """What a route answers, and so how it refuses."""

    PAGE = "GET"
    """HTML; a visitor without login is sent to the login page."""
    FORM = "POST from a form"
    """Changes something, then redirects."""
    DATA = "GET by a script"
    """JSON, a picture or a stream; refuses with a bare status."""
    CALL = "POST by a script"
    """Changes something, answers JSON."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """One line of the route table."""

    kind: AccessKind
    path: str
    handler: Callable[..., Any]
    roles: frozenset[Role]
    menu: str = ""
    """Its name in the navigation; empty: not listed there."""
    example: Mapping[str, str] = field(default_factory=dict)
    """Values for the placeholders in ``path``, for the tests and the screenshots that visit every route; others become
    its query."""
    max_body_bytes: int = 64 * KIB
    sandboxed: bool = False
    """Answers with a page written elsewhere, such as a report: it may bring its own style, and runs nothing."""
    before_password_change: bool = False
    """Whether a person who still has a one-time password may use it."""

    @property
    def method(self) -> str:
        """GET or POST."""
        return "GET" if self.kind in (AccessKind.PAGE, AccessKind.DATA) else "POST"

    @property
    def example_path(self) -> str:
        """The path with its example values."""
        query = {name: value for name, value in self.example.items() if f"{{{name}}}" not in self.path}
        return self.path.format(**self.example) + (f"?{urlencode(query)}" if query else "")


def page_route(path: str, handler: Callable[..., Any], roles: frozenset[Role], **more: Any) -> Route:
    """A page to look at."""
    return Route(kind=AccessKind.PAGE, path=path, handler=handler, roles=roles, **more)


def form(path: str, handler: Callable[..., Any], roles: frozenset[Role], **more: Any) -> Route:
    """What a form on a page is sent to."""
    return Route(kind=AccessKind.FORM, path=path, handler=handler, roles=roles, **more)


def data(path: str, handler: Callable[..., Any], roles: frozenset[Role], **more: Any) -> Route:
    """JSON, a picture or a stream that a page's script fetches."""
    return Route(kind=AccessKind.DATA, path=path, handler=handler, roles=roles, **more)


def call(path: str, handler: Callable[..., Any], roles: frozenset[Role], **more: Any) -> Route:
    """What a page's script sends a change to."""
    return Route(kind=AccessKind.CALL, path=path, handler=handler, roles=roles, **more)
