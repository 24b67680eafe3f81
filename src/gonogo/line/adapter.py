"""The one shape of all adapters: a protocol in; triggers, answers and the station's state out.

An adapter is an async function ``serve(settings, link)``: it listens, or connects to its peer, and calls `Link.judge`
for each trigger. It returns or raises when the connection is lost; `Adapter` calls it again after a growing pause. Each
adapter has a thread and an event loop of its own, so none delays another one or the supervisor.

A control answer is good until its deadline. `TimelyAnswer.take` is called immediately before the answer is written:
past the deadline it is a fault for ever, so no old verdict reaches an output after a reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Protocol, Self

from gonogo.errors import GonogoError
from gonogo.line.messages import Answer, Cause, Trigger, fault
from gonogo.line.state import AdapterState, LineState
from gonogo.names import readable

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 15.0
_GRACE_S = 0.25
"""Time after the window in which the supervisor's own fault arrives."""
_LISTENED = 1_000
_STOP_S = 5.0


class AdapterError(GonogoError):
    """The connection to a peer is lost, or cannot be made; the adapter tries again."""


class StationPort(Protocol):
    """A station, as an adapter sees it. Every method may be called from any thread."""

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
        """Submit the trigger of a part; ``reply`` receives the answer.

        Raises:
            ValueError: one of the names is not allowed.
        """

    def select(self, product: str, *, who: str) -> None:
        """Select the product that the station makes from now on; the station follows within a second.

        Raises:
            ValueError: the station does not have this product.
        """

    def line_state(self) -> LineState:
        """Return the present state."""

    def acknowledged(self) -> None:
        """Report that an answer reached the line."""

    def undelivered(self, answer: Answer, why: str) -> None:
        """Report that an answer did not reach the line."""

    def expired(self, trigger_id: str, why: str) -> None:
        """Report that a verdict became a fault, because it did not reach the line in time: it stays one for ever."""


class TimelyAnswer:
    """An answer that becomes a fault at its deadline."""

    def __init__(
        self,
        answer: Answer,
        *,
        due_s: float,
        expired: Callable[[str, str], None] = lambda trigger_id, why: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store the arguments.

        Args:
            answer: The station's answer.
            due_s: Its deadline on the monotonic clock.
            expired: Called when it becomes a fault; see `StationPort.expired`.
            clock: The clock.
        """
        self.due_s = due_s
        self._answer, self._expired, self._clock = answer, expired, clock

    @property
    def trigger_id(self) -> str:
        """Id of the trigger that it answers."""
        return self._answer.trigger_id

    def take(self) -> Answer:
        """Return the answer for the output, to be written at once: past the deadline always a fault."""
        if self._clock() > self.due_s:
            self.expire("the answer could not be delivered in time")
        return self._answer

    def expire(self, reason: str) -> None:
        """Turn the answer into a fault, for example because the connection that asked for it is lost."""
        if self._answer.cause is None:
            self._answer = self._answer.as_fault(Cause.LATE, reason)
            self._expired(self.trigger_id, reason)


class Link:
    """What an adapter holds of its station; used in the adapter's event loop."""

    def __init__(self, station: StationPort, *, name: str, kind: str, window_s: float) -> None:
        """Store the arguments.

        Args:
            station: The station.
            name: Name of the adapter.
            kind: Its protocol.
            window_s: Time limit for an answer, from the trigger on.
        """
        self.name, self.kind, self.window_s = name, kind, window_s
        self.trouble = "not connected yet"
        """Why the adapter is not connected, or what the peer does wrong; empty if all is well."""
        self._station = station
        self._connected = False
        self._listeners: set[asyncio.Queue[Answer]] = set()
        self._triggers = self._delivered = self._undelivered = self._refused = 0

    # --- called by the adapter

    @property
    def state(self) -> LineState:
        """The station's present state."""
        return self._station.line_state()

    def connected(self) -> None:
        """Report that the adapter listens, or is connected to its peer."""
        self._connected, self.trouble = True, ""

    async def judge(
        self,
        trigger_id: str,
        *,
        part: str | None = None,
        lot: str | None = None,
        product: str | None = None,
        count: int | None = None,
    ) -> TimelyAnswer:
        """Submit a trigger and return its answer: at the latest shortly after the window, as a fault.

        Raises:
            ValueError: one of the names is not allowed; no part was triggered.
        """
        loop, due_s = asyncio.get_running_loop(), time.monotonic() + self.window_s
        came: asyncio.Future[Answer] = loop.create_future()

        def settle(answer: Answer) -> None:
            if not came.done():
                came.set_result(answer)

        def reply(answer: Answer) -> None:
            with contextlib.suppress(RuntimeError):  # the adapter has been stopped
                loop.call_soon_threadsafe(settle, answer)

        try:
            self._station.submit(trigger_id, part=part, lot=lot, product=product, count=count, reply=reply)
        except ValueError:
            self._refused += 1
            raise
        self._triggers += 1
        try:
            async with asyncio.timeout(self.window_s + _GRACE_S):  # wait_for may lose a cancellation
                answer = await came
        except TimeoutError:
            asked = Trigger(id=trigger_id, part=part, lot=lot, product=product, at=datetime.now(UTC), due_s=due_s)
            answer = fault(asked, Cause.PROCESS, "the supervisor has not answered")
        return TimelyAnswer(answer, due_s=due_s, expired=self._station.expired)

    def select(self, product: str) -> None:
        """Select a product on behalf of the line; see `StationPort.select`."""
        self._station.select(product, who=f"{self.kind} {self.name}")

    def delivered(self) -> None:
        """Report that the peer took an answer."""
        self._delivered += 1
        self._station.acknowledged()

    def undelivered(self, answer: TimelyAnswer, why: str) -> None:
        """Report that an answer did not reach the peer: it is recorded, and must not be written any more."""
        self._undelivered += 1
        answer.expire(why)
        self._station.undelivered(answer.take(), f"{self.name}: {why}")

    def refused(self, why: str) -> None:
        """Report a message that is no trigger."""
        self._refused += 1
        self.trouble = f"refused a message: {readable(why)[:200]}"

    @contextlib.contextmanager
    def answers(self) -> Iterator[asyncio.Queue[Answer]]:
        """Receive every answer of the station, also those to other triggers, for information only.

        A queue that is not emptied loses its oldest answers.
        """
        queue: asyncio.Queue[Answer] = asyncio.Queue(_LISTENED)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    # --- called by the adapter's thread

    def lost(self, why: str) -> None:
        """Report that the connection is lost."""
        self._connected, self.trouble = False, readable(why)

    def publish(self, answer: Answer) -> None:
        """Pass an answer of the station to the listeners."""
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(answer)

    def snapshot(self) -> AdapterState:
        """Return the state for the status."""
        return AdapterState(
            name=self.name,
            kind=self.kind,
            connected=self._connected,
            trouble=self.trouble,
            triggers=self._triggers,
            delivered=self._delivered,
            undelivered=self._undelivered,
            refused=self._refused,
        )


class Adapter:
    """Runs one adapter in a thread, and starts it again after growing pauses whenever it ends."""

    def __init__(
        self,
        serve: Callable[[Link], Awaitable[None]],
        link: Link,
        *,
        pauses_s: tuple[float, float] = (_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S),
    ) -> None:
        """Store the arguments; nothing is opened yet.

        Args:
            serve: The adapter; it ends by an exception, also a `GonogoError`, or by returning.
            link: Its station.
            pauses_s: Shortest and longest pause before it is started again.
        """
        self.link = link
        self._serve, self._pauses_s = serve, pauses_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name=f"adapter {link.name}", daemon=True)

    def start(self) -> Self:
        """Start to serve."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the connections."""
        self._stopping.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(task.cancel)
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def publish(self, answer: Answer) -> None:
        """Pass an answer of the station to the adapter; may be called from any thread, never blocks."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self.link.publish, answer)

    def _main(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._supervised())

    async def _supervised(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        shortest_s, longest_s = self._pauses_s
        pause_s = shortest_s
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                await self._serve(self.link)
                self.link.lost("the connection was closed")
            except Exception as error:  # noqa: BLE001  thread edge: a peer may break an adapter in any way; it is started again
                self.link.lost(str(error) if isinstance(error, GonogoError) else f"{type(error).__name__}: {error}")
            pause_s = shortest_s if time.monotonic() - began_s > longest_s else pause_s
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)
