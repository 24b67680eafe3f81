"""What the commands about a centre print."""

from __future__ import annotations

from collections.abc import Mapping

from gonogo.centre import Chain, Link, Moved
from gonogo.cli.printed.build import Printed, combined

LedgerMigrate = combined("LedgerMigrate", Moved, {"rows_per_s": float})
LedgerForward = combined("LedgerForward", Link, {"lag_rows": int})
LedgerChains = combined("LedgerChains", Chain)

PRINTED: Mapping[str, Printed] = {
    "ledger migrate": Printed(type=LedgerMigrate),
    "ledger forward": Printed(type=LedgerForward, lines=True),
    "ledger chains": Printed(type=LedgerChains, lines=True),
}
