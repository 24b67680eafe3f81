"""Makes a second inspector that has the checks of a data set; the inspector that it is copied from stays as it is."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

from gonogo.bundle import SUFFIX, read_bundle
from gonogo.config import Checks
from gonogo.files import folder_beside
from gonogo.rules import ChecksSet, set_checks
from gonogo.server.dataset_store import checked_name
from gonogo.server.inspectors import OpenBundle
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.workspace import Workspace


def copy_with_checks(
    workspace: Workspace, ledger_pool: LedgerPool, opened: OpenBundle, name: str, checks: Checks, *, who: str
) -> ChecksSet:
    """Copy an inspector under a new name with these checks; recorded before the copy can be used.

    Raises:
        RefusedError: the name is invalid or taken.
        InputError: the checks do not fit the inspector.
        LedgerError: the action could not be recorded; there is no copy.
    """
    path = workspace.bundles / (checked_name(name.removesuffix(SUFFIX)) + SUFFIX)
    if path.exists():
        raise RefusedError(N_("The inspector %(name)s already exists."), name=path.name)
    with folder_beside(path) as partial:
        shutil.copytree(opened.path, partial, dirs_exist_ok=True)
        made = set_checks(read_bundle(partial), checks, now=datetime.now(UTC).isoformat(timespec="seconds"))
        ledger_pool.act(
            "checks",
            who,
            bundle=path.name,
            bundle_sha256=made.bundle.sha256,
            before=opened.name,
            before_sha256=opened.sha256,
            certified=made.bundle.manifest.operating_point is not None,
            rules=[f"{rule.name} ({rule.then})" for rule in checks.rules],
        )
    return made
