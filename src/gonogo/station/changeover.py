"""Changeover: which product is on the line, and which bundles judge it.

A trigger, a code on the part or a person selects the product. Every change of the selection is a row of the ledger,
written before the part is judged. All bundles are loaded before they are needed, within a memory budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from pydantic import JsonValue

from gonogo.errors import GonogoError
from gonogo.ledger import Action, Ledger, Where
from gonogo.line.messages import Cause, Trigger
from gonogo.names import readable
from gonogo.station.memory import give_back, resident_bytes
from gonogo.station.messages import REQUESTED
from gonogo.station.models import LoadedBundle, ModelSlot, Swap
from gonogo.station.together import not_together, without_promise

SELECTED = "product_selected"
"""Action of a change of product: ``from``, ``to``, ``by``, and the SHA-256 of each camera's bundle."""
REFUSED = "product_refused"
"""Action for a `REQUESTED` that names a product that the station does not have."""


class ProductError(GonogoError):
    """A part cannot be judged, because of its product; the message becomes the reason of the fault."""

    cause = Cause.MODEL


@dataclass(frozen=True, kw_only=True)
class InUse:
    """The bundles that judge one part, from its trigger to its answer."""

    product: str | None
    slots: tuple[ModelSlot, ...]
    """One for each camera."""
    by: str | None = None
    """What selected the product, see `Answer.selected_by`; ``None`` at a station for one product."""

    @property
    def model(self) -> LoadedBundle:
        """The bundle of the first camera."""
        model = self.slots[0].model
        assert model is not None, "parts without a bundle are refused earlier"
        return model


class Changeover:
    """The products of a station, their bundles and the selected one. Used by the worker's main thread only."""

    def __init__(
        self,
        slots: Mapping[str | None, tuple[ModelSlot, ...]],
        *,
        station: str,
        cameras: Sequence[str] = (),
        memory_mb: int | None = None,
        resident: Callable[[], int | None] = resident_bytes,
    ) -> None:
        """Store the arguments; nothing is loaded yet.

        Args:
            slots: Bundles of each product, one for each camera; the only product of a station has the name ``None``.
            station: Name of the station.
            cameras: Names of the cameras, in the order of the slots.
            memory_mb: Memory budget of this process in megabytes; ``None`` keeps everything loaded.
            resident: Measures the memory of this process, in bytes.
        """
        self._slots = dict(slots)
        self._cameras = tuple(cameras)
        self._station = station
        self._budget = None if memory_mb is None else memory_mb * 1_000_000
        self._resident = resident
        self._active: list[str | None] = []
        """Products that are loaded, or being loaded."""
        self._wanted = list(self._slots)
        """Products that are to be loaded, one after the other."""
        self._uses = count(1)
        self._used: dict[str | None, int] = {}
        self._seen: int | None = None
        """Row up to which requests were followed; ``None`` before the ledger was read."""
        self.current: str | None = None
        self.by: str | None = None
        """What selected the current product."""

    @property
    def several(self) -> bool:
        """Whether products are selected by name."""
        return None not in self._slots

    @property
    def slots(self) -> dict[int, tuple[str | None, ModelSlot]]:
        """Every slot once, with its product."""
        return {id(slot): (product, slot) for product, slots in self._slots.items() for slot in slots}

    def start(self, *, within_s: float) -> list[Swap]:
        """Load the bundles, that of the selected product first; those that take too long are loaded by `poll`."""
        until = time.monotonic() + within_s
        swaps: list[Swap] = []
        waiting = [product for product in self._slots if product not in self._active]
        self._wanted = sorted(waiting, key=lambda product: product != self.current)
        while self._wanted and (not swaps or time.monotonic() < until):
            product = self._wanted.pop(0)
            self._active.append(product)
            swaps += [slot.start() for slot in _once(self._slots[product])]
            self._keep_within_budget()
        return swaps

    def poll(self, *, loading_only: bool = False) -> list[Swap]:
        """Take over what was loaded meanwhile, and begin to load what is wanted; return what changed.

        Args:
            loading_only: Do not look for changed bundles, which takes a few file accesses for each.
        """
        swaps = []
        for product in self._active:
            slots = [slot for slot in _once(self._slots[product]) if slot.loading or not loading_only]
            swaps += [swap for slot in slots if (swap := slot.poll()) is not None]
        if swaps:
            self._keep_within_budget()
        if self._wanted and not self._loading():
            self._want(self._wanted[0])
        return swaps

    def follow(self, ledger: Ledger) -> list[str]:
        """Restore the selection after a start, and follow what people have selected since.

        Returns:
            A sentence for each request that was refused.
        """
        if not self.several:
            return []
        if self._seen is None:
            last = next(ledger.actions(Where(station=self._station, action=SELECTED), newest_first=True, limit=1), None)
            if last is not None and last.record.details.get("to") in self._slots:
                self.current, self.by = str(last.record.details["to"]), "ledger"
            refusal = next(
                ledger.actions(Where(station=self._station, action=REFUSED), newest_first=True, limit=1), None
            )
            self._seen = max((row.seq for row in (last, refusal) if row is not None), default=0)
        refused = []
        for request in list(ledger.actions(Where(station=self._station, action=REQUESTED), after=self._seen)):
            product = request.record.details.get("product")
            if product in self._slots and isinstance(product, str):
                by = "line" if request.record.details.get("by") == "line" else "person"
                self._switch(ledger, product, by=by, who=request.record.who, about=request.seq)
            else:
                refused.append(f"{request.record.who} selected {product!r}: {self._unknown(product)}")
                details = {"product": product, "reason": refused[-1]}
                action = Action(
                    action=REFUSED, who=self._station, station=self._station, about=request.seq, details=details
                )
                ledger.append_action(action)
            self._seen = request.seq
        return refused

    def of_trigger(self, trigger: Trigger, ledger: Ledger, *, by_code: bool = False) -> InUse:
        """Return the bundles that judge a trigger's part; a product that it names becomes the selected one.

        Args:
            trigger: The trigger.
            ledger: Where a change of product is recorded.
            by_code: The code on the part selects the product if the trigger names none. Until it is read, any loaded
                product says how pictures are taken.

        Raises:
            ProductError: the product is unknown, none is selected, or its bundle is not loaded.
            LedgerError: the change of product cannot be recorded.
        """
        if not self.several:
            return self._only(trigger)
        self.follow(ledger)
        if trigger.product is not None:
            self.select(trigger.product, by="trigger", ledger=ledger, trigger_id=trigger.id)
        elif by_code and (loaded := self.candidates()):
            return InUse(product=None, slots=loaded[0][1])
        return self.in_use()

    def in_use(self) -> InUse:
        """Return the bundles of the selected product.

        Raises:
            ProductError: none is selected, a bundle is not loaded, or the bundles were not certified together.
        """
        if self.several and self.current is None:
            raise ProductError(
                f"no product is selected yet, and the trigger names none (expected one of {self._names()})"
            )
        slots = self._slots[self.current]
        self._used[self.current] = next(self._uses)
        for slot in slots:
            if slot.model is None:
                self._want(self.current)
                name = "" if self.current is None else f" for product {self.current}"
                raise ProductError(f"no bundle is loaded{name}: {slot.trouble}")
        if reason := not_together(self._loaded(slots)):
            raise ProductError(reason)
        return InUse(product=self.current, slots=slots, by=self.by)

    def candidates(self) -> list[tuple[str, tuple[ModelSlot, ...]]]:
        """Return the products whose bundles are loaded, the selected one first."""
        loaded = [(name, slots) for name, slots in self._slots.items() if name is not None and _complete(slots)]
        return sorted(loaded, key=lambda each: each[0] != self.current)

    def select(self, product: str, *, by: str, ledger: Ledger, trigger_id: str) -> None:
        """Select a product on behalf of a trigger or a code; recorded if it is another one than before.

        Raises:
            ProductError: the product is unknown; the selection stays.
            LedgerError: the change cannot be recorded; the selection stays.
        """
        if product not in self._slots:
            raise ProductError(self._unknown(product))
        self._switch(ledger, product, by=by, who=self._station, trigger_id=trigger_id)

    def resident_mb(self) -> int | None:
        """Return the memory of this process in megabytes, at a station for several products."""
        found = self._resident() if self.several else None
        return None if found is None else round(found / 1e6)

    def find_troubles(self) -> list[str]:
        """Say why every part is a fault at present: no bundle of the selected product is loaded, or none at all."""
        concerned = [self.current] if not self.several or self.current is not None else list(self._slots)
        complete = [self._slots[product] for product in concerned if _complete(self._slots[product])]
        if complete:
            apart = [not_together(self._loaded(slots)) for slots in complete]
            return list(dict.fromkeys(apart)) if all(apart) else []
        found = [slot.trouble for product in concerned for slot in _once(self._slots[product]) if slot.model is None]
        return [f"no bundle is loaded: {trouble}" for trouble in dict.fromkeys(found)]

    def find_warnings(self) -> tuple[str, ...]:
        """Say what a person should know although parts are judged, one sentence each."""
        slots = self._slots.get(self.current, ())
        warning = without_promise(self._loaded(slots)) if _complete(slots) else ""
        return (warning,) if warning else ()

    def _loaded(self, slots: Sequence[ModelSlot]) -> dict[str, LoadedBundle]:
        """The loaded bundle of each camera, by the camera's name."""
        named = zip(self._cameras, slots, strict=False)  # a station without cameras in a test names none
        return {camera: slot.model for camera, slot in named if slot.model is not None}

    def _only(self, trigger: Trigger) -> InUse:
        use = self.in_use()
        for slot in use.slots:
            if trigger.product is not None and slot.model is not None and trigger.product != slot.model.name:
                raise ProductError(f"the line makes {trigger.product!r}, but the bundle is for {slot.model.name!r}")
        return InUse(product=trigger.product, slots=use.slots)

    def _switch(self, ledger: Ledger, product: str, *, by: str, who: str, about: int | None = None, **why: str) -> None:
        if product == self.current:
            self.by = by
            return
        sha256: list[JsonValue] = [None if slot.model is None else slot.model.sha256 for slot in self._slots[product]]
        details: dict[str, JsonValue] = {"from": self.current, "to": product, "by": by, "bundles_sha256": sha256, **why}
        ledger.append_action(
            Action(action=SELECTED, who=who, station=self._station, about=about, details=readable_values(details))
        )
        self.current, self.by = product, by
        self._used[product] = next(self._uses)
        if None in sha256:
            self._want(product)

    def _want(self, product: str | None) -> None:
        """Load a product next, unless a bundle is being loaded: then after that."""
        if product in self._active:
            return
        self._wanted = [product, *(each for each in self._wanted if each != product)]
        if not self._loading():
            self._wanted.pop(0)
            self._active.append(product)
            for slot in _once(self._slots[product]):
                slot.poll()

    def _loading(self) -> bool:
        return any(slot.loading for product in self._active for slot in self._slots[product])

    def _why(self) -> str:
        megabytes = round((self._budget or 0) / 1e6)
        return f"unloaded, because the bundles need more than {megabytes:,} MB (memory_mb); it is loaded when selected"

    def _keep_within_budget(self) -> None:
        """Unload the bundles that were not needed for longest, but never those of the selected product."""
        while self._budget is not None and (self._resident() or 0) > self._budget:
            spare = [
                product
                for product in self._active
                if product != self.current and not any(slot.loading for slot in self._slots[product])
            ]
            if not spare or len(self._active) == 1:
                return
            oldest = min(spare, key=lambda product: (self._used.get(product, 0), -list(self._slots).index(product)))
            self._active.remove(oldest)
            # There is no room for those that were not loaded yet, either; a selected one has been moved to _active.
            for product in (oldest, *self._wanted):
                for slot in _once(self._slots[product]):
                    slot.release(self._why())
            self._wanted = [each for each in self._wanted if each == self.current]
            give_back()

    def _unknown(self, product: object) -> str:
        return f"expected a product of this station ({self._names()}), found {product!r}"

    def _names(self) -> str:
        return ", ".join(str(name) for name in self._slots)


def request_product(ledger: Ledger, station: str, product: str, *, who: str) -> int:
    """Record that a person selects a product at a station; the station follows within a second. Return the row."""
    details: dict[str, JsonValue] = {"product": product}
    return ledger.append_action(Action(action=REQUESTED, who=who, station=station, details=details)).seq


def readable_values(details: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return details whose texts can be stored: a trigger's id may hold characters that JSON cannot."""
    return {key: readable(value) if isinstance(value, str) else value for key, value in details.items()}


def _once(slots: tuple[ModelSlot, ...]) -> list[ModelSlot]:
    return list({id(slot): slot for slot in slots}.values())


def _complete(slots: tuple[ModelSlot, ...]) -> bool:
    return all(slot.model is not None for slot in slots)
