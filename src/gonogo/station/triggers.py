"""Trigger sources: folder, timer and standard input. Each runs in a thread and calls ``submit`` for every trigger."""

from __future__ import annotations

import hashlib
import io
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

from gonogo.capture.folder import Stability, waiting_pictures
from gonogo.line.messages import Submit, parse_trigger
from gonogo.station.settings import FolderTrigger, StdinTrigger, TimerTrigger, TriggerSettings


class TriggerSource:
    """A trigger source that runs in a background thread."""

    def __init__(self, run: Callable[[threading.Event], None]) -> None:
        self.stopped = threading.Event()
        self.trouble = ""
        """Error that ended the source; empty if none did."""
        self.ended = threading.Event()
        """Set once no more triggers will come, for example at the end of standard input."""
        self._run = run
        self._thread = threading.Thread(target=self._guarded, name="triggers", daemon=True)

    def start(self) -> Self:
        """Start to submit triggers."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop submitting triggers."""
        self.stopped.set()

    def _guarded(self) -> None:
        try:
            self._run(self.stopped)
        except Exception as error:  # noqa: BLE001  thread edge: `run_station` reports the error and ends the station
            self.trouble = f"{type(error).__name__}: {error}"
        finally:
            self.ended.set()


def open_source(
    settings: TriggerSettings | None, submit: Submit, complain: Callable[[str], None]
) -> TriggerSource | None:
    """Create the trigger source in the settings, without starting it; ``None`` for HTTP, which the server handles.

    Args:
        settings: The trigger section of the settings; ``None`` if only adapters bring triggers.
        submit: Called for each trigger.
        complain: Called with a message about input that is not a trigger.
    """
    match settings:
        case FolderTrigger():
            return TriggerSource(lambda stopped: watch_folder(settings, submit, complain, stopped))
        case TimerTrigger():
            return TriggerSource(lambda stopped: tick(settings.every_s, submit, stopped))
        case StdinTrigger():
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(errors="backslashreplace")  # invalid UTF-8 must not end the station
            return TriggerSource(lambda stopped: read_trigger_lines(sys.stdin, submit, complain, stopped))
        case _:
            return None


def watch_folder(
    settings: FolderTrigger, submit: Submit, complain: Callable[[str], None], stopped: threading.Event
) -> None:
    """Submit a trigger for every picture that appears in a folder and stops growing.

    The trigger id is the file name, ``#`` and a digest of the bytes: the same picture delivered twice is the same part,
    another picture under the same name is another part. The part's name is the file name without its suffix.
    """
    watch, known = Stability(settings.stable_s), set[tuple[Path, int, int]]()
    while not stopped.wait(settings.poll_s):
        try:
            found = sorted(waiting_pictures(settings.folder))
        except OSError as error:
            complain(f"{settings.folder}: cannot be read ({error.strerror or error})")
            stopped.wait(1.0)
            continue
        present = set()
        for path in found:
            try:
                stat = path.stat()
                mark = path, stat.st_size, stat.st_mtime_ns
                present.add(mark)
                if mark in known or not watch.stable(path):
                    continue
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
            except OSError:
                continue  # moved away meanwhile
            known.add(mark)
            # Escape a name that is not UTF-8, so that the part is answered, even if only with a fault.
            name, part = (text.encode(errors="backslashreplace").decode() for text in (path.name, path.stem))
            _submit(submit, complain, f"{name}#{digest}", part=part)
        known &= present


def tick(every_s: float, submit: Submit, stopped: threading.Event) -> None:
    """Submit a trigger at regular intervals; its id is the time."""
    while not stopped.wait(every_s):
        submit(datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ"))


def read_trigger_lines(
    lines: IO[str], submit: Submit, complain: Callable[[str], None], stopped: threading.Event
) -> None:
    """Submit a trigger for each line; see `parse_trigger`."""
    for line in lines:
        if stopped.is_set():
            return
        text = line.strip()
        if not text:
            continue
        try:
            trigger_id, values = parse_trigger(text)
        except ValueError as error:
            complain(f"not a trigger: {error}")
            continue
        _submit(submit, complain, trigger_id, **values)


def _submit(submit: Submit, complain: Callable[[str], None], trigger_id: str, **names: Any) -> None:
    try:
        submit(trigger_id, **names)
    except ValueError as error:
        complain(f"not a trigger: {ascii(trigger_id)[:60]}: {error}")
