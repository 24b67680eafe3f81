"""What ``gonogo serve-key`` and ``gonogo workspace`` print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from gonogo.cli.printed.build import Document, Printed, combined
from gonogo.server.access import Role
from gonogo.server.backup import Backup, Restored


class KeyFacts(Document):
    """A program's key, without its secret."""

    number: int
    name: str
    role: Role
    created_by: str
    expires: str
    state: Literal["valid", "expired", "revoked"]


class ServeKeyAdd(KeyFacts):
    """A new key."""

    key: str
    """The secret; it cannot be shown again."""


ServeKeyList = list[KeyFacts]
WorkspaceBackup = combined("WorkspaceBackup", Backup)
WorkspaceRestore = combined("WorkspaceRestore", Restored)


class WorkspacePassword(Document):
    """A new one-time password."""

    name: str
    one_time_password: str


PRINTED: Mapping[str, Printed] = {
    "serve-key add": Printed(type=ServeKeyAdd),
    "serve-key list": Printed(type=ServeKeyList),
    "serve-key revoke": Printed(type=KeyFacts),
    "workspace backup": Printed(type=WorkspaceBackup),
    "workspace restore": Printed(type=WorkspaceRestore),
    "workspace password": Printed(type=WorkspacePassword),
}
