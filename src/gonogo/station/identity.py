"""What the codes on a part do at a station: select the product, contradict the trigger, or repeat an earlier part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gonogo.images import Photograph
from gonogo.ledger import Ledger, Row, VerdictRecord, Where
from gonogo.line.messages import Cause, Trigger
from gonogo.schema import PartIdentity, State, Verdict
from gonogo.station.changeover import Changeover, InUse
from gonogo.station.ledger_handle import LedgerHandle
from gonogo.station.models import ModelSlot
from gonogo.station.outcomes import Outcome

MOST_EARLIER = 100
"""Number of earlier rows about a part that are looked at for a duplicate."""
_NAMES = ("part", "lot", "product", "serial")


def merged(verdicts: Sequence[Verdict]) -> PartIdentity | None:
    """Return what the codes in all pictures of a part say; ``None`` if no recipe has a code zone."""
    found = [verdict.identity for verdict in verdicts if verdict.identity is not None]
    if not found:
        return None
    said: dict[str, str] = {}
    troubles = [identity.trouble for identity in found if identity.trouble]
    for identity in found:
        for name in _NAMES:
            value = getattr(identity, name)
            if value is not None and said.setdefault(name, value) != value:
                troubles.append(f"the codes in two pictures disagree: {name} {said[name]!r} and {value!r}")
    codes = tuple(dict.fromkeys(code for identity in found for code in identity.codes))
    return PartIdentity(codes=codes, trouble="; ".join(troubles), **said)


def product_in_code(changeover: Changeover, photographs: Sequence[Photograph | None]) -> str | None:
    """Read the product in the code on a part, with the code zones of each loaded product, the selected one first.

    Returns:
        The product; ``None`` if no code names one.
    """
    for _, slots in changeover.candidates():
        for slot, photograph in zip(slots, photographs, strict=True):
            read = _reader(slot)
            if photograph is not None and read is not None:
                identity = read(photograph)
                if identity is not None and identity.product is not None:
                    return identity.product
    return None


def _reader(slot: ModelSlot) -> Callable[[Photograph], PartIdentity | None] | None:
    return slot.model.identify if slot.model is not None and _names_product(slot) else None


def _names_product(slot: ModelSlot) -> bool:
    zones = () if slot.model is None else slot.model.recipe.code_zones
    return any("(?P<product>" in zone.pattern for zone in zones)


def codes_select(changeover: Changeover) -> bool:
    """Whether the code on a part may select its product: a loaded bundle has a code zone that names one."""
    return changeover.several and any(_names_product(slot) for _, slot in changeover.slots.values())


def contradiction(trigger: Trigger, identity: PartIdentity, use: InUse) -> str:
    """Say how the code on a part contradicts its trigger or the product that it was judged as; empty if it does not."""
    product = trigger.product if use.product is None else use.product
    named = {"part": (trigger.part, identity.name), "lot": (trigger.lot, identity.lot)}
    named["product"] = (product or (use.model.name if identity.product else None), identity.product)
    differing = [
        f"{name} {said!r}, expected {expected!r}"
        for name, (expected, said) in named.items()
        if expected is not None and said is not None and expected != said
    ]
    return f"the code on the part says {'; '.join(differing)}" if differing else ""


def earlier(trigger: Trigger, outcome: Outcome, ledger: Ledger, station: str) -> Row[VerdictRecord] | None:
    """Return the latest earlier verdict on a part with the same name, lot and product, other than a fault."""
    identity = outcome.identity
    if identity is None or identity.name is None:
        return None
    lot = trigger.lot or identity.lot
    product = trigger.product or outcome.product or identity.product
    rows = ledger.verdicts(Where(station=station, part=identity.name), newest_first=True, limit=MOST_EARLIER)
    for row in rows:
        record = row.record
        same = record.codes and (record.lot, record.product) == (lot, product)
        if same and record.state is not State.FAULT and record.trigger_id != trigger.id:
            return row
    return None


def checked(
    trigger: Trigger, outcome: Outcome, verdicts: Sequence[Verdict], use: InUse, ledger: LedgerHandle, station: str
) -> Outcome:
    """Complete an outcome with the identity of the part; it becomes worse, never better.

    Raises:
        LedgerError: the ledger cannot be asked for a duplicate.
    """
    identity = merged(verdicts)
    if identity is None:
        return outcome
    outcome = replace(outcome, identity=identity)
    if outcome.state is State.FAULT and outcome.cause is not Cause.INSPECTOR:
        return outcome
    if outcome.state is State.FAULT and identity.trouble:
        return replace(outcome, cause=Cause.CODE)
    wrong = contradiction(trigger, identity, use)
    if not wrong and "disagree" in identity.trouble:
        wrong = identity.trouble
    if wrong:
        return replace(outcome, state=State.FAULT, cause=Cause.CODE, reason=f"{wrong}; otherwise {outcome.reason}")
    before = earlier(trigger, outcome, ledger.open(), station)
    if before is None:
        return outcome
    lot = f" of lot {before.record.lot}" if before.record.lot else ""
    reason = f"{identity.name}{lot} was judged before: {before.record.state.value} (row {before.seq})"
    state = State.REVIEW if outcome.state is State.GO else outcome.state
    return replace(outcome, state=state, reason=f"{reason}; otherwise {outcome.reason}")
