"""Access control: the roles, and how a route declares them. `gonogo.server.routes.ROUTES` is the route table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any
from urllib.parse import urlencode

from gonogo.server.language import N_

KIB, MIB = 1024, 1024**2


class Role(StrEnum):
    """The role of a person or an access token."""

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
"""Reachable without a login: only the login itself and ``/health``, as a test checks."""
EVERYONE = frozenset(Role)
REVIEWERS = frozenset({Role.REVIEWER, Role.ENGINEER, Role.ADMIN})
ENGINEERS = frozenset({Role.ENGINEER, Role.ADMIN})
OPERATORS = EVERYONE - {Role.AUDITOR}
ADMINS = frozenset({Role.ADMIN})
AUDITORS = frozenset({Role.AUDITOR, Role.ADMIN})
ENGINEERS_AND_AUDITORS = ENGINEERS | AUDITORS


class AccessKind(Enum):
    """The kind of response of a route, which also decides how it reports a refusal."""

    PAGE = "GET"
    """HTML; without a login, redirects to the login page."""
    FORM = "POST from a form"
    """Changes something, then redirects."""
    DATA = "GET by a script"
    """JSON, a picture or a stream; a refusal is a bare status code."""
    CALL = "POST by a script"
    """Changes something and returns JSON."""


class ScreenUse(Enum):
    """Whether wall screens, which log in without a person, may use a route."""

    NONE = "none"
    ALL_STATIONS = "screens that show all stations"
    ANY = "every screen; the handler shows only its stations"


@dataclass(frozen=True, kw_only=True)
class Route:
    """One entry of the route table."""

    kind: AccessKind
    path: str
    handler: Callable[..., Any]
    roles: frozenset[Role]
    menu: str = ""
    """The name in the navigation; empty if not listed there."""
    example: Mapping[str, str] = field(default_factory=dict)
    """Values for the placeholders in ``path``, for tests and screenshots that visit every route; other values go into
    the query."""
    max_body_bytes: int = 64 * KIB
    picture: bool = False
    """The response is a picture of a part: `gonogo.server.options.Options.audit_pictures` records who read it."""
    sandboxed: bool = False
    """The response is a page from elsewhere, such as a report: inline style is allowed, scripts are not."""
    before_password_change: bool = False
    """Whether it can be used with a one-time password that has not been changed yet."""
    screens: ScreenUse = ScreenUse.NONE
    """Whether wall screens may use it."""
    documented: Mapping[str, Any] | None = None
    """What the OpenAPI document says of a route for programs, in the words of `fastapi.FastAPI.add_api_route`; ``None``
    for the routes of the pages. A documented route reports errors as problem details (RFC 9457)."""
    scores_only: bool = False
    """It gives scores, not verdicts, and needs no key if `gonogo.server.options.Options.open_models` says so."""

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
    """An HTML page."""
    return Route(kind=AccessKind.PAGE, path=path, handler=handler, roles=roles, **more)


def form(path: str, handler: Callable[..., Any], roles: frozenset[Role], **more: Any) -> Route:
    """The target of an HTML form."""
    return Route(kind=AccessKind.FORM, path=path, handler=handler, roles=roles, **more)


def data(path: str, handler: Callable[..., Any], roles: frozenset[Role], **more: Any) -> Route:
    """JSON, a picture or a stream, fetched by a page's script."""
    return Route(kind=AccessKind.DATA, path=path, handler=handler, roles=roles, **more)


def call(path: str, handler: Callable[..., Any], roles: frozenset[Role], **more: Any) -> Route:
    """A change sent by a page's script."""
    return Route(kind=AccessKind.CALL, path=path, handler=handler, roles=roles, **more)
