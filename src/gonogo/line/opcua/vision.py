"""The vision system: follows the station, runs jobs, publishes results."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gonogo.line.adapter import Link, TimelyAnswer
from gonogo.line.messages import Answer
from gonogo.line.opcua.machine import Machine, RefusedTransitionError, Stage
from gonogo.line.opcua.model import LATEST, MACHINES, RESULT, Field, fields
from gonogo.line.opcua.results import CODES, NOTHING, UNDEFINED, Result, Results, values
from gonogo.line.opcua.space import Space, empty
from gonogo.line.state import Health, LineState

_LOOK_S = 0.1
ANSWER = fields(
    "JobId:String MeasId:String ResultId:String Fault:String Score:Double ValidUntil:DateTime Verdict:String "
    "VerdictCode:Byte"
)
"""The variables of ``Answer``, in the order in which they are written: the verdict last."""
_SYSTEM_STATE = {
    Health.STARTING: (2, "starting"),
    Health.RUNNING: (1, "running"),
    Health.HELD: (5, "held: no part passes until a person acknowledges"),
    Health.DOWN: (5, "down"),
    Health.STOPPED: (2, "stopped"),
}
_WHOLE = Field(name="LatestResult", type="ResultDataType")


@dataclass(kw_only=True)
class Job:
    """A started job."""

    id: str
    meas_id: str
    caller: object
    started: datetime
    ending: str = ""
    """The method that ends it, if one was called."""

    @property
    def aborted(self) -> bool:
        """Whether its result must not be used any more."""
        return self.ending == "Abort"


class Vision:
    """One vision system of the model, for one station; used in the adapter's event loop."""

    def __init__(self, space: Space, link: Link, *, results: int, connected: Callable[[object], bool]) -> None:
        """Store the arguments.

        Args:
            space: The address space.
            link: The station.
            results: Number of results to keep.
            connected: Whether the connection of a client is still there.
        """
        self.space, self.link, self.results = space, link, Results(results)
        self.machine = Machine()
        self.wanted: str | None = None
        """The product that a client has prepared and that the station does not make yet."""
        self.prepared = True
        """Whether the selected recipe may be used; a client can take it back."""
        self._connected = connected
        self._job: Job | None = None
        self._showing: Job | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._run, self._jobs = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}", 0
        self._seen: tuple[str | None, Health | None] = (None, None)

    # --- following the station

    async def prepare(self) -> None:
        """Fill the address space before the server starts."""
        await self.space.add_answer(ANSWER)
        for product in self.products:
            await self.space.add_product(product)
        configuration = self.space.make("ConfigurationIdDataType", Id=self.configuration)
        active = self.space.make("ConfigurationDataType", InternalId=configuration, LastModified=datetime.now(UTC))
        field = Field(name="", type="ConfigurationDataType")
        await self.space.write("ConfigurationManagement/ActiveConfiguration", active, field)
        await self.clear()
        await self._show()
        await self.look(self.link.state)

    @property
    def products(self) -> tuple[str, ...]:
        """The recipes: the products of the station, or the name of its only bundle once it is known."""
        state = self.link.state
        return state.products or ((state.product,) if state.product else ())

    @property
    def configuration(self) -> str:
        """Id of the only configuration: the station's name."""
        return self.link.state.station

    async def follow(self) -> None:
        """Follow the station until cancelled."""
        while True:
            await self.look(self.link.state)
            if self._showing is not None and not self._connected(self._showing.caller):
                await self.clear()
            await asyncio.sleep(_LOOK_S)

    async def look(self, state: LineState) -> None:
        """Follow one snapshot of the station."""
        await self._look_at_product(state)
        stage = self.machine.stage
        if not state.ready:
            waits = stage is Stage.PREOPERATIONAL and state.health is Health.STARTING
            if not waits and stage not in (Stage.HALTED, Stage.ERROR):
                await self.move(Stage.ERROR)
        elif stage in (Stage.PREOPERATIONAL, Stage.ERROR):
            await self.move(Stage.INITIALIZED)
        usable = self.prepared and state.product is not None
        if self.machine.stage is Stage.INITIALIZED and usable and state.ready:
            await self.move(Stage.READY)
        elif self.machine.stage is Stage.READY and not usable:
            await self.move(Stage.INITIALIZED)

    async def _look_at_product(self, state: LineState) -> None:
        if state.health is not self._seen[1]:
            number, text = _SYSTEM_STATE[state.health]
            shown = self.space.make("SystemStateDescriptionDataType", State=number, StateDescription=text)
            await self.space.write("SystemState", shown, Field(name="", type="SystemStateDescriptionDataType"))
        changed = state.product is not None and state.product != self._seen[0]
        self._seen = (state.product, state.health)
        if changed and state.product is not None:
            if state.product == self.wanted:
                self.wanted = None
            made = self.space.make
            recipe = made("RecipeIdInternalDataType", Id=state.product)
            product = made("ProductIdDataType", Id=state.product)
            await self.space.fire("RecipePreparedEventType", state.product, InternalId=recipe, ProductId=product)

    async def move(self, target: Stage, cause: str = "") -> None:
        """Go to a state, show it, and send the events.

        Raises:
            RefusedTransitionError: it is not allowed from the present state.
        """
        source = self.machine.stage
        transition = self.machine.move(target, cause)
        await self._show()
        ends = (source, target) if transition.inner else (source.outer, target.outer)
        await self.space.fire_transition("StateChangedEventType", transition, *ends)
        if target is Stage.ERROR:
            await self.space.fire_transition("ErrorEventType", transition, *ends)
        elif source is Stage.ERROR and target is Stage.INITIALIZED:
            await self.space.fire_transition("ErrorResolvedEventType", transition, *ends)

    async def _show(self) -> None:
        stage = self.machine.stage
        await self.space.show_state(MACHINES[0], stage.outer)
        await self.space.show_state(MACHINES[1], stage if stage.outer is not stage else None)

    # --- jobs

    def new_job(self, meas_id: str, caller: object) -> Job:
        """Return a job with an id of its own; without an id of the client, the job's id is that of the trigger."""
        self._jobs += 1
        number = f"{self.link.name}-{self._run}-{self._jobs}"
        return Job(id=number, meas_id=meas_id or number, caller=caller, started=datetime.now(UTC))

    async def start_single(
        self, job: Job, *, part: str | None, lot: str | None, product: str | None, count: int | None
    ) -> None:
        """Start a single job.

        Raises:
            RefusedTransitionError: the system is not ready.
        """
        source = self.machine.stage
        if source is not Stage.READY:
            raise RefusedTransitionError(
                f"StartSingleJob is not possible in state {source.label}. Wait until it is Ready."
            )
        self._job = job
        await self.move(Stage.SINGLE_EXECUTION, "StartSingleJob")
        await self.clear()
        named = self.space.make("JobIdDataType", Id=job.id)
        await self.space.fire("JobStartedEventType", f"job {job.id}", JobId=named)
        self._start(self._judge(job, part=part, lot=lot, product=product, count=count))

    async def start_continuous(self, job: Job) -> None:
        """Start a continuous job: every answer of the station becomes a result, whatever triggered it.

        Raises:
            RefusedTransitionError: the system is not ready.
        """
        self._job = job if self.machine.stage is Stage.READY else self._job
        await self.move(Stage.CONTINUOUS_EXECUTION, "StartContinuous")
        named = self.space.make("JobIdDataType", Id=job.id)
        await self.space.fire("JobStartedEventType", f"job {job.id}", JobId=named)
        self._start(self._listen(job))

    async def end(self, cause: str) -> None:
        """Stop or abort the job: a stopped single job still brings its result, an aborted one does not.

        Raises:
            RefusedTransitionError: there is no job.
        """
        job, stage = self._job, self.machine.stage
        if job is None or stage not in (Stage.SINGLE_EXECUTION, Stage.CONTINUOUS_EXECUTION):
            raise RefusedTransitionError(f"{cause} is not possible in state {stage.label}. There is no job.")
        job.ending = cause
        if cause == "Abort" or stage is Stage.CONTINUOUS_EXECUTION:
            await self._ready_again(job)

    def _start(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _judge(
        self, job: Job, *, part: str | None, lot: str | None, product: str | None, count: int | None
    ) -> None:
        answer = await self.link.judge(job.meas_id, part=part, lot=lot, product=product, count=count)
        gone = ""
        if job.aborted:
            gone = "the job was aborted"
        elif not self._connected(job.caller):
            gone = "the client that started the job has disconnected"
        if gone:
            self.link.undelivered(answer, gone)
        await self._publish(job, answer, shown=not gone)
        if not gone:
            self.link.delivered()
        await self._ready_again(job)

    async def _ready_again(self, job: Job) -> None:
        if self._job is not job:
            return
        self._job = None
        if self.machine.stage in (Stage.SINGLE_EXECUTION, Stage.CONTINUOUS_EXECUTION):
            await self.move(Stage.READY, job.ending)
            named = self.space.make("JobIdDataType", Id=job.id)
            await self.space.fire("ReadyEventType", f"ready after job {job.id}", JobId=named)

    async def _listen(self, job: Job) -> None:
        with self.link.answers() as queue:
            while self._job is job and self.machine.stage is Stage.CONTINUOUS_EXECUTION:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):  # wait_for may lose a cancellation
                        answer = await queue.get()
                    await self._publish_result(job, answer)

    # --- results

    async def _publish(self, job: Job, timely: TimelyAnswer, *, shown: bool) -> None:
        answer = timely.take()
        if shown:
            left_s = timely.due_s - time.monotonic()
            await self._show_answer(job, answer, left_s)
        await self._publish_result(job, answer)

    async def _publish_result(self, job: Job, answer: Answer) -> None:
        result = Result(
            job_id=job.id,
            meas_id=answer.trigger_id,
            recipe=answer.product or self.link.state.product or "",
            configuration=self.configuration,
            answer=answer,
            started=job.started,
            created=datetime.now(UTC),
            aborted=job.aborted,
        )
        self.results.add(result)
        found = values(self.space, result)
        for field in sorted(RESULT, key=lambda each: each.name == "ResultState"):
            await self.space.write(f"{LATEST}/{field.name}", found[field.name], field)
        await self.space.write(LATEST, self.space.make("ResultDataType", **found), _WHOLE)
        await self.space.fire("ResultReadyEventType", f"result {result.id}", **found)

    async def _show_answer(self, job: Job, answer: Answer, left_s: float) -> None:
        shown = {
            "JobId": job.id,
            "MeasId": job.meas_id,
            "ResultId": answer.trigger_id,
            "Fault": answer.cause.value if answer.cause else "",
            "Score": float("nan") if answer.score is None else answer.score,
            "ValidUntil": datetime.now(UTC) + timedelta(seconds=max(0.0, left_s)),
            "Verdict": answer.state.value,
            "VerdictCode": CODES[answer.state],
        }
        self._showing = job
        for field in ANSWER:
            await self.space.write(f"Answer/{field.name}", shown[field.name], field)
        asyncio.get_running_loop().call_later(max(0.0, left_s), self._expire, job)

    def _expire(self, job: Job) -> None:
        if self._showing is job:
            self._start(self.clear())

    async def clear(self) -> None:
        """Take back what is shown: no verdict outlives its deadline, its client, or the start of the next job."""
        self._showing = None
        for field in reversed(ANSWER):
            nothing = NOTHING if field.name == "VerdictCode" else empty(field)
            await self.space.write(f"Answer/{field.name}", nothing, field)
        state = next(each for each in RESULT if each.name == "ResultState")
        await self.space.write(f"{LATEST}/ResultState", UNDEFINED, state)
        await self.space.write(LATEST, self.space.make("ResultDataType"), _WHOLE)

    async def report_safety(self, triggered: bool, information: str) -> None:
        """Show what a client reports about its safety; the station does not act on it."""
        shown = {"VisionSafetyTriggered": triggered, "VisionSafetyInformation": information}
        for name, kind in (("VisionSafetyTriggered", "Boolean"), ("VisionSafetyInformation", "String")):
            await self.space.write(f"SafetyStateManagement/{name}", shown[name], Field(name=name, type=kind))
        await self.space.fire("VisionSafetyEventType", information or "safety", 500, **shown)

    async def close(self) -> None:
        """End the jobs; their answers no longer reach a client."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
