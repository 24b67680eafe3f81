"""The route table: every address of the server, who may use it, and what answers. A page is added here.

The guard, the navigation, the tests of access and the screenshots all read this table.
"""

from __future__ import annotations

from gonogo.server.access import (
    ADMINS,
    AUDITORS,
    EVERYONE,
    PUBLIC,
    Route,
    data,
    form,
    page,
)
from gonogo.server.language import N_
from gonogo.server.views import account, audit, home, parts, people, station

PUBLIC_PATHS = frozenset({"/health", "/login"})
"""All that a visitor without login reaches, besides the static files."""

ROUTES: tuple[Route, ...] = (
    # Before login
    data("/health", account.health, PUBLIC),
    page("/login", account.login_page, PUBLIC),
    form("/login", account.login, PUBLIC),
    # One's own account
    form("/logout", account.logout, EVERYONE, before_password_change=True),
    page("/password", account.password_page, EVERYONE, before_password_change=True),
    form("/password", account.change_password, EVERYONE, before_password_change=True),
    form("/taste", account.set_taste, EVERYONE, before_password_change=True),
    # Overview and station
    page("/", home.overview, EVERYONE, menu=N_("Overview")),
    page("/station", station.station_page, EVERYONE, menu=N_("Station")),
    data("/station/events", station.events, EVERYONE),
    data("/parts/{seq}/picture.jpg", parts.picture, EVERYONE, example={"seq": "2"}),
    # People and records
    page("/people", people.people_page, ADMINS, menu=N_("People")),
    form("/people", people.add_person, ADMINS),
    form("/people/{user_id}/role", people.set_role, ADMINS, example={"user_id": "1"}),
    form("/people/{user_id}/disable", people.disable, ADMINS, example={"user_id": "1"}),
    form("/people/{user_id}/enable", people.enable, ADMINS, example={"user_id": "1"}),
    form("/people/{user_id}/password", people.reset_password, ADMINS, example={"user_id": "1"}),
    form("/tokens", people.issue_token, ADMINS),
    form("/tokens/{token_id}/revoke", people.revoke_token, ADMINS, example={"token_id": "1"}),
    page("/audit", audit.audit_page, AUDITORS, menu=N_("Audit log")),
)
