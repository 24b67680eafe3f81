"""The worker process: reads jobs, judges, writes results, and exits with its supervisor; see `gonogo.station.messages`.

The supervisor runs it as ``python -m gonogo.station.worker station.toml``. Standard output carries only messages; the
output of libraries goes to standard error.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

from gonogo.errors import GonogoError
from gonogo.ledger import Action
from gonogo.names import readable
from gonogo.station.cameras import CameraParts
from gonogo.station.judging import Station
from gonogo.station.messages import (
    BundleReport,
    Dying,
    ExpectPicture,
    FaultRecorded,
    FaultUnrecordable,
    Job,
    JudgePart,
    NoteHandled,
    PartFaulted,
    PartJudged,
    Ready,
    RecordFault,
    RecordNote,
    Reported,
    ToSupervisor,
    WorkerReport,
    decode_for_worker,
    encode,
)
from gonogo.station.models import Loader, ModelSlot, load_model
from gonogo.station.settings import StationSettings, read_settings, signature_policy
from gonogo.station.watchdog import RESTART_ME


def build_station(settings: StationSettings, *, loader: Loader | None = None) -> Station:
    """Build a station with the cameras and bundles in its settings."""
    from gonogo.capture import open_camera

    opened, policy = partial(load_model, device=settings.device), signature_policy(settings)
    fallback = loader or partial(opened, policy=replace(policy, accept_revoked=True))
    loader = loader or partial(opened, policy=policy)
    trust_store = policy.trust_store if policy.required else None

    def slot_of(source: Path, copies: str, *, several: bool, only: str | None = None) -> ModelSlot:
        return ModelSlot(
            source,
            settings.state_dir / "bundles" / copies,
            only_sha256=only,
            loader=loader,
            fallback=fallback,
            trust_store=trust_store,
            dispensable=several,
        )

    slots: dict[str | None, tuple[ModelSlot, ...]] = {}
    for product, sources in settings.sources().items():
        own: dict[Path, ModelSlot] = {}
        for camera, source in zip(settings.cameras, sources, strict=True):
            if source in own:
                continue
            # Named by what it judges: the last good copy of one product must never judge another.
            copies = f"{len(own)}" if product is None else _copies_of(product, camera.name)
            only = settings.bundle_sha256 if source == settings.bundle else None
            own[source] = slot_of(source, copies, several=product is not None, only=only)
        slots[product] = tuple(own[source] for source in sources)
    only_slots = slots.get(None, (None,) * len(settings.cameras))
    cameras = [
        CameraParts(name=each.name, open_camera=partial(open_camera, each.camera), health=each.health, slot=slot)
        for each, slot in zip(settings.cameras, only_slots, strict=True)
    ]
    products = {product: found for product, found in slots.items() if product is not None}
    return Station(settings, tuple(cameras), products=products)


def _copies_of(product: str, camera: str) -> str:
    return f"product-{hashlib.sha256(f'{product}/{camera}'.encode()).hexdigest()[:16]}"


def serve_supervisor(station: Station, jobs: IO[str], results: IO[str]) -> int:
    """Process jobs until the input ends.

    Returns:
        The exit code: 0 at the end of the input, `RESTART_ME` if a camera hangs.

    Raises:
        MessageError: a line is not a message of this version.
    """
    station.start()
    _send(results, Ready(report=report_of(station)))
    for job in _jobs(station, jobs):
        _send(results, _do(station, job))
        if station.stuck_s > station.settings.watchdog.stall_s:
            return RESTART_ME
    return 0


def _jobs(station: Station, lines: IO[str]) -> Iterator[Job]:
    """Yield the jobs in order; notices are handled at once, even while a part is judged."""
    jobs: queue.SimpleQueue[Job | BaseException | None] = queue.SimpleQueue()

    def read() -> None:
        end = None
        try:
            for line in lines:
                message = decode_for_worker(line)
                match message:
                    case ExpectPicture():
                        station.expect(message.trigger_id, message.came_s)
                    case PartFaulted():
                        station.faulted(message.at_s)
                    case _:
                        jobs.put(message)
        except BaseException as error:  # noqa: BLE001  re-raised in the main thread, which logs the traceback
            end = error
        jobs.put(end)

    threading.Thread(target=read, name="jobs", daemon=True).start()
    while (job := jobs.get()) is not None:
        if isinstance(job, BaseException):
            raise job
        yield job


def report_of(station: Station) -> WorkerReport:
    """Return the state of a worker."""
    challenge = None if station.challenges is None else station.challenges.standing()
    return WorkerReport(
        bundles=tuple(
            BundleReport(
                name=None if slot.model is None else slot.model.name,
                sha256=None if slot.model is None else slot.model.sha256,
                path=None if slot.model is None else str(slot.model.path),
                trouble=slot.trouble,
                device=None if slot.model is None else slot.model.device,
                fell_back=slot.model is not None and slot.model.fell_back,
                product=product,
                expiry=station.expiry.standing(slot.model).sentence,
            )
            for product, slot in station.changeover.slots.values()
        ),
        product=station.changeover.current,
        selected_by=station.changeover.by,
        resident_mb=station.changeover.resident_mb(),
        pictures=station.pictures(),
        troubles=tuple(station.find_troubles()),
        warnings=station.changeover.find_warnings(),
        held="" if challenge is None else challenge.held,
        challenge_due=None if challenge is None else challenge.next_due,
        challenge_passed=None if challenge is None else challenge.last_passed,
        acknowledged_stop=station.acknowledged_stop(),
    )


def _do(station: Station, job: Job) -> ToSupervisor:
    match job:
        case JudgePart():
            return PartJudged(answer=station.judge(job.trigger))
        case RecordFault():
            try:
                answer = station.record_fault(job.trigger, job.cause, job.reason, answered=job.answered)
            except Exception as error:  # noqa: BLE001  process edge: an error that ends this worker would end the next one too
                return FaultUnrecordable(reason=_logged(error))
            return FaultRecorded(answer=answer)
        case RecordNote():
            return NoteHandled(retry=not _noted(station, job))
        case _:  # Housekeep
            station.idle()
            return Reported(report=report_of(station))


def _noted(station: Station, note: RecordNote) -> bool:
    """Whether a note is done with: on record, or one that no ledger will ever take."""
    try:
        station.note(Action(action=note.action, who=station.settings.station, details=note.details))
    except GonogoError:
        return False
    except Exception as error:  # noqa: BLE001  process edge: a note that the ledger rejects goes to the log
        _logged(error)
    return True


def _logged(error: BaseException) -> str:
    """Log the traceback, and return the error as one line."""
    traceback.print_exception(error)
    sys.stderr.flush()
    return readable(f"{type(error).__name__}: {error}")


def _send(results: IO[str], message: ToSupervisor) -> None:
    results.write(encode(message))
    results.flush()


def worker_main(make: Callable[[], Station]) -> None:
    """Serve on standard input and output, then exit without waiting for hanging threads."""
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of a library must not corrupt the results
    faulthandler.enable()  # print a traceback even if a library crashes
    code = 1
    try:
        code = serve_supervisor(make(), sys.stdin, results)
    except (BrokenPipeError, KeyboardInterrupt):
        code = 0  # the supervisor is gone or stopping; it answers the remaining parts
    except BaseException as error:  # noqa: BLE001  process edge: the exit below would lose the traceback
        reason = _logged(error)
        with contextlib.suppress(OSError):
            _send(results, Dying(reason=reason))
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    worker_main(lambda: build_station(read_settings(sys.argv[1]).on_device(*sys.argv[2:])))
