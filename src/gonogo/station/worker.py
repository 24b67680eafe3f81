"""The worker process: reads jobs as JSON lines, judges, writes results as JSON lines; dies with its gate.

Run by the gate as ``python -m gonogo.station.worker station.toml``. Standard output carries results only; whatever a
library prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from gonogo.errors import GonogoError
from gonogo.ledger import Action
from gonogo.names import readable
from gonogo.station.judging import Station, ViewParts
from gonogo.station.messages import Answer, Cause, Trigger
from gonogo.station.models import Loader, ModelSlot, load
from gonogo.station.settings import StationSettings, read_settings
from gonogo.station.watchdog import RESTART_ME


def build(settings: StationSettings, *, loader: Loader = load) -> Station:
    """A station with the cameras and bundles that its settings name."""
    from gonogo.capture import open_camera

    copies = settings.state_dir / "bundles"
    slots: dict[Path, ModelSlot] = {}
    views = []
    for view in settings.views:
        source = view.bundle or settings.bundle
        if source not in slots:
            only = settings.bundle_sha256 if source == settings.bundle else None
            slots[source] = ModelSlot(source, copies / f"{len(slots)}", only_sha256=only, loader=loader)
        opener = partial(open_camera, view.camera)
        views.append(ViewParts(name=view.name, open_camera=opener, health=view.health, slot=slots[source]))
    return Station(settings, tuple(views))


def serve(station: Station, jobs: IO[str], results: IO[str]) -> int:
    """Answer jobs until there are no more.

    Returns:
        The exit code: 0 at the end of the jobs, `RESTART_ME` where a camera hangs.
    """
    station.start()
    _tell(results, {"ready": True, **describe(station)})
    for job in _jobs(station, jobs):
        _tell(results, _do(station, job))
        if station.stuck_s > station.settings.watchdog.stall_s:
            return RESTART_ME
    return 0


def _jobs(station: Station, lines: IO[str]) -> Iterator[dict[str, Any]]:
    """The jobs in turn; notices of triggers and faults are heard at once, even while a part is judged."""
    jobs: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()

    def read() -> None:
        end = None
        try:
            for line in lines:
                said = json.loads(line)
                match said["do"]:
                    case "expect":
                        station.expect(said["trigger_id"], said["came_s"])
                    case "faulted":
                        station.faulted(said["at_s"])
                    case _:
                        jobs.put(said)
        except BaseException as error:  # noqa: BLE001  raised again by the thread that leaves its traceback in the log
            end = error
        jobs.put(end)

    threading.Thread(target=read, name="jobs", daemon=True).start()
    while isinstance(job := jobs.get(), dict):
        yield job
    if job is not None:
        raise job


def describe(station: Station) -> dict[str, Any]:
    """What the status shows of the worker."""
    standing = None if station.challenges is None else station.challenges.standing()
    return {
        "bundles": [
            {
                "name": None if slot.model is None else slot.model.name,
                "sha256": None if slot.model is None else slot.model.sha256,
                "path": None if slot.model is None else str(slot.model.path),
                "trouble": slot.trouble,
            }
            for slot in station.slots
        ],
        "pictures": station.pictures(),
        "troubles": station.troubles,
        "held": "" if standing is None else standing.held,
        "challenge_due": None if standing is None else standing.next_due.isoformat(),
        "challenge_passed": None
        if standing is None or standing.last_passed is None
        else standing.last_passed.isoformat(),
    }


def _do(station: Station, job: dict[str, Any]) -> dict[str, Any]:
    match job["do"]:
        case "judge":
            answer = station.judge(Trigger.from_json(job["trigger"]))
            return {**_result(answer), "sole_until_s": answer.sole_until_s}
        case "fault":
            trigger, cause = Trigger.from_json(job["trigger"]), Cause(job["cause"])
            try:
                return _result(station.record_fault(trigger, cause, job["reason"], answered=job["answered"]))
            except Exception as error:  # noqa: BLE001  the edge: what kills this worker would kill the next one as well
                return {"unrecordable": _logged(error)}
        case "note":
            try:
                station.note(Action(action=job["action"], who=station.settings.station, details=job["details"]))
            except GonogoError:
                return {"noted": False}
            except Exception as error:  # noqa: BLE001  the edge: a note that no ledger takes goes to the log
                _logged(error)
            return {"noted": True}
        case _:
            station.idle()
            return describe(station)


def _result(answer: Answer) -> dict[str, Any]:
    return {"answer": answer.to_json()}


def _logged(error: BaseException) -> str:
    """Put the traceback into the log; what to say of it in one line."""
    traceback.print_exception(error)
    sys.stderr.flush()
    return readable(f"{type(error).__name__}: {error}")


def _tell(results: IO[str], message: dict[str, Any]) -> None:
    results.write(json.dumps(message) + "\n")
    results.flush()


def main(make: Callable[[], Station]) -> None:
    """Serve on standard input and output, then leave without waiting for hanging threads."""
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints must not break the results
    faulthandler.enable()  # a crash in a library leaves its traceback as well
    code = 1
    try:
        code = serve(make(), sys.stdin, results)
    except (BrokenPipeError, KeyboardInterrupt):
        code = 0  # the gate is gone or told to go: it answers for what is left
    except BaseException as error:  # noqa: BLE001  the edge of the process; the exit below would swallow the traceback
        told = _logged(error)
        with contextlib.suppress(OSError):
            _tell(results, {"dying": told})
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(lambda: build(read_settings(sys.argv[1])))
