"""The options ``--require-signature`` and ``--trust-store`` of commands that judge with a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _require(required: bool) -> bool:
    """Require signatures in this process and those that it starts; the setting of the machine cannot be relaxed."""
    if required:
        from gonogo.config import use_setting

        use_setting("require_signature", "true")
    return required


def _use(store: Path | None) -> Path | None:
    if store is not None:
        from gonogo.config import use_setting
        from gonogo.signing import read_trust_store

        read_trust_store(store)  # a wrong file is refused before anything starts
        use_setting("trust_store", str(store.absolute()))
    return store


RequireSignatureOption = Annotated[
    bool,
    typer.Option(
        "--require-signature",
        callback=_require,
        help="Accept only bundles that are signed with a trusted key, as with GONOGO_REQUIRE_SIGNATURE.",
    ),
]
TrustStoreOption = Annotated[
    Path | None,
    typer.Option(
        "--trust-store",
        callback=_use,
        help="File with the trusted keys. [default: GONOGO_TRUST_STORE, or that of this user]",
    ),
]
"""The functions need not read them: settings are changed before they run."""
