"""Keyboard shortcuts per person and page."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gonogo.server.database import Database
from gonogo.server.language import N_, RefusedError


class Shortcuts:
    """Shortcuts by person and page, in the server's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keys(self, user_id: int, page: str, defaults: Mapping[str, str]) -> dict[str, str]:
        """Return a person's key for each action of a page."""
        found = self._database.run(
            "SELECT value FROM preferences WHERE user_id = ? AND name = ?", user_id, f"keys {page}"
        )
        chosen = json.loads(found[0][0]) if found else {}
        # Stored by action: new actions of a later version get their default key unless the person already uses it.
        keys = {action: chosen.get(action, key) for action, key in defaults.items()}
        taken = {key for action, key in keys.items() if action in chosen}
        return {action: "" if action not in chosen and key in taken else key for action, key in keys.items()}

    def set_keys(self, user_id: int, page: str, defaults: Mapping[str, str], keys: Mapping[str, str]) -> None:
        """Save a person's keys; an empty mapping restores the defaults.

        Raises:
            RefusedError: an unknown action, a duplicate key, or a key that is not one printable non-digit character.
        """
        chosen = {action: key.lower() for action, key in keys.items()}
        if set(chosen) - set(defaults):
            raise RefusedError(N_("There is no such action."))
        used = [key for key in chosen.values() if key]
        if any(len(key) != 1 or not key.isprintable() or key.isspace() or key.isdigit() for key in used):
            raise RefusedError(N_("A shortcut is one letter or symbol. Digits are reserved for the kinds of defect."))
        if len(set(used)) < len(used):
            raise RefusedError(N_("Two actions have the same key."))
        with self._database.transaction():
            self._database.run("DELETE FROM preferences WHERE user_id = ? AND name = ?", user_id, f"keys {page}")
            if chosen:
                self._database.run(
                    "INSERT INTO preferences VALUES (?, ?, ?)", user_id, f"keys {page}", json.dumps(chosen)
                )
