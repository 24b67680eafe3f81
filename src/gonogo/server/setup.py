"""The first start: somebody must be able to let everybody else in."""

from __future__ import annotations

from gonogo.server.access import Role
from gonogo.server.services import Services


def first_administrator(services: Services) -> str | None:
    """Make the administrator of a new workspace.

    Returns:
        The one-time password of ``admin``, to be told to whoever started the server; ``None`` where there are people.
    """
    with services.store.transaction():
        if services.people.all():
            return None
        _, password = services.people.add("admin", Role.ADMIN)
        services.book.act("user_added", "gonogo serve", user="admin", role=Role.ADMIN)
    return password
