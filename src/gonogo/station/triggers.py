"""Where triggers come from. Each source runs in a thread of its own and hands them to ``submit``."""

from __future__ import annotations

import hashlib
import io
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol, Self

from gonogo.capture.folder import Stability, waiting_pictures
from gonogo.files import parse_json
from gonogo.names import readable
from gonogo.station.settings import FolderTrigger, StdinTrigger, TimerTrigger, TriggerSettings


class Submit(Protocol):
    """`Supervisor.submit`, as the sources see it."""

    def __call__(
        self, trigger_id: str, *, part: str | None = None, lot: str | None = None, product: str | None = None
    ) -> None:
        """A part has arrived."""


class TriggerSource:
    """A source of triggers, in a thread of its own."""

    def __init__(self, run: Callable[[threading.Event], None]) -> None:
        self.stopped = threading.Event()
        self.trouble = ""
        """Why it ended, where that was not on purpose."""
        self.ended = threading.Event()
        """Set when no more triggers will come, as standard input is at its end."""
        self._run = run
        self._thread = threading.Thread(target=self._guarded, name="triggers", daemon=True)

    def start(self) -> Self:
        """Hand in triggers from now on."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """No more triggers from now on."""
        self.stopped.set()

    def _guarded(self) -> None:
        try:
            self._run(self.stopped)
        except Exception as error:  # noqa: BLE001  the edge of the thread; whoever runs the station is told and ends it
            self.trouble = f"{type(error).__name__}: {error}"
        finally:
            self.ended.set()


def open_source(settings: TriggerSettings, submit: Submit, complain: Callable[[str], None]) -> TriggerSource | None:
    """The source that is described, not started yet; ``None`` for HTTP, which the station's own server receives.

    Args:
        settings: Which one.
        submit: Takes the triggers.
        complain: Told of input that is no trigger.
    """
    match settings:
        case FolderTrigger():
            return TriggerSource(lambda stopped: watch_folder(settings, submit, complain, stopped))
        case TimerTrigger():
            return TriggerSource(lambda stopped: tick(settings.every_s, submit, stopped))
        case StdinTrigger():
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(errors="backslashreplace")  # noise on the line must not end the station
            return TriggerSource(lambda stopped: read_trigger_lines(sys.stdin, submit, complain, stopped))
        case _:
            return None


def watch_folder(
    settings: FolderTrigger, submit: Submit, complain: Callable[[str], None], stopped: threading.Event
) -> None:
    """A trigger for every picture that appears and stops growing.

    The trigger's id is the file's name, a ``#`` and a digest of its bytes: the same picture delivered twice is the same
    part, another picture under a used name is another part. The part's name is the file's without its suffix.
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
                continue  # moved on meanwhile
            known.add(mark)
            # A name that is no text is escaped: its part is answered, if only with a fault.
            name, part = (text.encode(errors="backslashreplace").decode() for text in (path.name, path.stem))
            _submit(submit, complain, f"{name}#{digest}", part=part)
        known &= present


def tick(every_s: float, submit: Submit, stopped: threading.Event) -> None:
    """A trigger every so often, named by its time."""
    while not stopped.wait(every_s):
        submit(datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ"))


def read_trigger_lines(
    lines: IO[str], submit: Submit, complain: Callable[[str], None], stopped: threading.Event
) -> None:
    """A trigger for every line: an id, or a JSON object with ``id`` and perhaps ``part``, ``lot`` and ``product``."""
    for line in lines:
        if stopped.is_set():
            return
        text = line.strip()
        if not text:
            continue
        try:
            values = parse_trigger(text)
        except ValueError as error:
            complain(f"not a trigger: {error}")
            continue
        _submit(submit, complain, values.pop("id"), **values)


def parse_trigger(text: str) -> dict[str, str]:
    """A trigger id, or a JSON object with ``id`` and perhaps ``part``, ``lot`` and ``product``.

    Raises:
        ValueError: neither; says why.
    """
    if not text.startswith("{"):
        return {"id": text}
    values = parse_json(text)
    unknown = sorted(set(values) - {"id", "part", "lot", "product"})
    if unknown or not isinstance(values.get("id"), str):
        raise ValueError(
            f"expected id and perhaps part, lot and product, found {readable(', '.join(unknown)) or 'no id'}"
        )
    given = {key: value for key, value in values.items() if value is not None}
    if not all(isinstance(value, str) for value in given.values()):
        raise ValueError("expected text in every field")
    return given


def _submit(submit: Submit, complain: Callable[[str], None], trigger_id: str, **names: str) -> None:
    try:
        submit(trigger_id, **names)
    except ValueError as error:
        complain(f"not a trigger: {ascii(trigger_id)[:60]}: {error}")
