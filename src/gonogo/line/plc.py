"""One PLC in conversation with the station: runs the handshake, whatever carries its registers or tags."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from gonogo.line.adapter import Link, TimelyAnswer
from gonogo.line.handshake import (
    Action,
    Delivered,
    Handshake,
    Judge,
    Phase,
    Result,
    Select,
    StationView,
    Undelivered,
    Withdrawn,
)
from gonogo.line.messages import Answer
from gonogo.line.plc_image import (
    COMMAND_REFUSED,
    FAULT_CODES,
    REFUSED_PART,
    Inputs,
    Outputs,
    ResultCode,
    control_inputs,
)
from gonogo.line.plc_settings import HandshakeSettings
from gonogo.schema import State

_CODES = {
    State.GO: ResultCode.GO,
    State.NO_GO: ResultCode.NO_GO,
    State.REVIEW: ResultCode.REVIEW,
    State.FAULT: ResultCode.FAULT,
}
TICK_S = 0.02
"""How often time passes for a PLC that asks nothing."""


class Plc:
    """Runs the handshake with one PLC. Used in the adapter's event loop."""

    def __init__(self, settings: HandshakeSettings, link: Link) -> None:
        """Start without a PLC, and with a number that no earlier conversation had, so that none is mistaken."""
        self.changed = asyncio.Event()
        """Set when an answer has changed the outputs."""
        self._settings, self._link = settings, link
        self._handshake = Handshake(
            plc_timeout_s=settings.plc_timeout_s,
            plc_heartbeat_s=settings.plc_heartbeat_s,
            heartbeat_s=settings.heartbeat_s,
            first=secrets.randbelow(0xFFFF),
        )
        self._run = f"{link.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self._answers: dict[int, TimelyAnswer] = {}
        self._judging: set[asyncio.Task[None]] = set()

    @property
    def present(self) -> bool:
        """Whether the PLC is there."""
        return self._handshake.phase is not Phase.GONE

    def step(self, inputs: Inputs) -> None:
        """Handle what the PLC has written."""
        self._do(self._handshake.step(inputs, self._view(), time.monotonic()))

    def outputs(self) -> Outputs:
        """Return the outputs of this moment; a verdict past its deadline is a fault."""
        now_s = time.monotonic()
        self._do(self._handshake.tick(self._view(), now_s))
        return self._handshake.outputs(now_s)

    def lose(self, why: str) -> None:
        """Report that the connection to the PLC is lost."""
        self._do(self._handshake.lose(why))

    async def keep_time(self) -> None:
        """Let time pass until cancelled, for a PLC that asks nothing."""
        while True:
            await asyncio.sleep(TICK_S)
            self.outputs()

    def _view(self) -> StationView:
        state = self._link.state
        return StationView(ready=state.ready, job_id=_number(self._products(), state.product))

    def _products(self) -> Sequence[str]:
        return self._settings.products or self._link.state.products

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Judge():
                    # The task outlives a lost connection: its answer must be reported as not delivered.
                    task = asyncio.get_running_loop().create_task(self._judge(action))
                    self._judging.add(task)
                    task.add_done_callback(self._judging.discard)
                case Delivered(number=number):
                    if self._answers.pop(number, None) is not None:
                        self._link.delivered()
                case Withdrawn(number=number, why=why):
                    if number in self._answers:
                        self._answers[number].expire(why)
                case Undelivered(number=number, why=why):
                    if (answer := self._answers.pop(number, None)) is not None:
                        self._link.undelivered(answer, why)
                case Select(job_id=job_id):
                    self._select(job_id)

    async def _judge(self, asked: Judge) -> None:
        part = asked.part or None
        trigger_id = part if part and self._settings.part_is_id else f"{self._run}-{asked.number:06d}"
        if asked.missed and part and self._settings.part_is_id:
            trigger_id = f"{self._run}-{asked.number:06d}"  # the part may come again, and be judged then
        try:
            answer = await self._link.judge(trigger_id, part=part)
        except ValueError as error:
            self._link.refused(str(error))
            refused = Result(code=ResultCode.FAULT, due_s=math.inf, fault_code=REFUSED_PART, part=asked.part)
            self._do(self._handshake.answered(asked.number, refused, time.monotonic()))
        else:
            self._answers[asked.number] = answer
            result = _result(answer.take(), due_s=answer.due_s, part=asked.part)
            self._do(self._handshake.answered(asked.number, result, time.monotonic()))
        self.changed.set()

    def _select(self, job_id: int) -> None:
        products = self._products()
        try:
            if not 1 <= job_id <= len(products):
                raise ValueError(f"expected a product number from 1 to {len(products)}, found {job_id}")
            self._link.select(products[job_id - 1])
        except ValueError as error:
            self._link.refused(str(error))
            self._handshake.command_refused(COMMAND_REFUSED)


class PlcConnection(Protocol):
    """A connection to a PLC whose words are polled."""

    async def read(self) -> list[int]:
        """Return the control words."""

    async def write(self, outputs: Outputs) -> None:
        """Write the status words."""


async def poll(connection: PlcConnection, plc: Plc, *, poll_s: float) -> None:
    """Run the handshake over a connection until it is lost: read, step, and write what has changed."""
    written: Outputs | None = None
    while True:
        plc.changed.clear()
        plc.step(control_inputs(await connection.read()))
        outputs = plc.outputs()
        if outputs != written:
            await connection.write(outputs)
            written = outputs
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(poll_s):  # wait_for of Python 3.11 may swallow the adapter's stop
                await plc.changed.wait()


def _number(products: Sequence[str], product: str | None) -> int:
    return products.index(product) + 1 if product in products else 0


def _result(answer: Answer, *, due_s: float, part: str) -> Result:
    score = answer.score if answer.score is not None and answer.state is not State.FAULT else 0.0
    return Result(
        code=_CODES[answer.state],
        due_s=due_s,
        score=max(-3e38, min(3e38, score)),  # what a 32-bit number can hold
        fault_code=0 if answer.cause is None else FAULT_CODES[answer.cause],
        part=part,
    )
