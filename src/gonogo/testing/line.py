"""A fake station for tests of adapters: answers every trigger at once, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gonogo.line.messages import Answer
from gonogo.line.state import Health, LineState
from gonogo.names import clean_name
from gonogo.schema import State


def go(trigger_id: str) -> Answer:
    """Return the answer ``go``."""
    return Answer(trigger_id=trigger_id, state=State.GO, reason="below the threshold", score=-1.5, row=2)


class FakeStation:
    """Implements `gonogo.line.StationPort` and records what an adapter asks of it."""

    def __init__(
        self,
        *,
        answer: Callable[[str], Answer] | None = go,
        delay_s: float = 0.0,
        products: tuple[str, ...] = (),
        health: Health = Health.RUNNING,
    ) -> None:
        """Store the arguments.

        Args:
            answer: Returns the answer to a trigger's id; ``None`` never answers.
            delay_s: Time that an answer takes.
            products: The products that can be selected.
            health: Its state; may be changed at any time.
        """
        self.health, self.products = health, products
        self.faulting = ""
        self.product: str | None = products[0] if products else "chip"
        self.triggers: list[tuple[str, dict[str, object]]] = []
        """The id and the other values of each trigger."""
        self.selected: list[tuple[str, str]] = []
        """Product and asker of each selection."""
        self.lost: list[tuple[Answer, str]] = []
        """The answers that were not delivered, and why."""
        self.late: list[tuple[str, str]] = []
        """The triggers whose verdict became a fault, and why."""
        self.taken = 0
        """Number of answers that were delivered."""
        self._answer, self._delay_s = answer, delay_s

    def submit(
        self,
        trigger_id: str,
        *,
        part: str | None = None,
        lot: str | None = None,
        product: str | None = None,
        count: int | None = None,
        reply: Callable[[Answer], None] | None = None,
    ) -> None:
        """Answer a trigger after the delay, from another thread like a supervisor."""
        from dataclasses import replace

        for name in (trigger_id, part, lot, product):
            if name is not None:
                clean_name(name)
        self.triggers.append((trigger_id, {"part": part, "lot": lot, "product": product, "count": count}))
        if self._answer is None or reply is None:
            return
        answer = replace(self._answer(trigger_id), part=part, lot=lot, product=product)
        threading.Timer(self._delay_s, reply, (answer,)).start()

    def select(self, product: str, *, who: str) -> None:
        """Select a product at once."""
        if product not in self.products:
            raise ValueError(f"expected a product of this station ({', '.join(self.products)}), found {product!r}")
        self.selected.append((product, who))
        self.product = product

    def line_state(self) -> LineState:
        """Return the state that the test has set."""
        return LineState(
            station="fake",
            health=self.health,
            faulting=self.faulting,
            product=self.product,
            products=self.products,
            bundle_sha256="0" * 64,
            answers={"go": self.taken},
        )

    def acknowledged(self) -> None:
        """Count."""
        self.taken += 1

    def undelivered(self, answer: Answer, why: str) -> None:
        """Keep."""
        self.lost.append((answer, why))

    def expired(self, trigger_id: str, why: str) -> None:
        """Keep."""
        self.late.append((trigger_id, why))
