"""Answer ports, and the sender that delivers answers in a thread, so that the supervisor never waits for the line."""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Protocol, Self

from gonogo.capture import read_token
from gonogo.errors import GonogoError, InputError
from gonogo.line.messages import Answer
from gonogo.station.settings import AnswerSettings, FileAnswers, StdoutAnswers

_WAITING = 1_000


class AnswerError(GonogoError):
    """The line did not accept the answer. The line must treat silence as a fault."""


class Port(Protocol):
    """Delivers answers to the line."""

    def send(self, answer: Answer) -> None:
        """Deliver one answer; return once the line has acknowledged it.

        Raises:
            AnswerError: the line did not accept it.
        """


class LinePort:
    """Writes answers to a stream or a file, one JSON object per line."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def send(self, answer: Answer) -> None:
        """Write and flush."""
        try:
            self._stream.write(json.dumps(answer.to_json()) + "\n")
            self._stream.flush()
        except (OSError, ValueError) as error:
            raise AnswerError(f"{getattr(self._stream, 'name', 'the stream')}: cannot be written ({error})") from error


class HttpPort:
    """Posts each answer as JSON and retries failures; any 2xx response acknowledges it."""

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 1.0, attempts: int = 3) -> None:
        self._url, self._token, self._timeout_s, self._attempts = url, token, timeout_s, attempts

    def send(self, answer: Answer) -> None:
        """Post the answer until it is accepted or the attempts are used up."""
        import http.client  # imported here because only a supervisor needs it: workers start faster
        import urllib.request

        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(
            self._url, data=json.dumps(answer.to_json()).encode(), headers=headers, method="POST"
        )
        for attempt in range(self._attempts):
            try:
                with urllib.request.urlopen(request, timeout=self._timeout_s):
                    return
            except (OSError, http.client.HTTPException) as error:
                failure = f"{self._url}: {error}"
                time.sleep(0.05 * attempt)
        raise AnswerError(f"{failure} ({self._attempts} attempts)")


def open_port(settings: AnswerSettings | None) -> Port | None:
    """Open the port that the settings describe; ``None`` if every trigger is answered where it came from.

    Raises:
        InputError: the token file cannot be read, or the answer file cannot be written.
    """
    match settings:
        case None:
            return None
        case StdoutAnswers():
            return LinePort(sys.stdout)
        case FileAnswers():
            try:
                settings.file.parent.mkdir(parents=True, exist_ok=True)
                return LinePort(settings.file.open("a", encoding="utf-8"))
            except OSError as error:
                raise InputError(f"{settings.file}: cannot be written ({error.strerror or error}).") from error
        case _:  # HttpAnswers
            token = read_token(settings.token_file)
            return HttpPort(settings.url, token=token, timeout_s=settings.timeout_s, attempts=settings.attempts)


class Sender:
    """Delivers answers in order in a background thread, and reports whether each was acknowledged."""

    def __init__(
        self, port: Port, acknowledged: Callable[[], None], undelivered: Callable[[Answer, str], None]
    ) -> None:
        self._port, self._acknowledged, self._undelivered = port, acknowledged, undelivered
        self._queue: queue.Queue[Answer | None] = queue.Queue(maxsize=_WAITING)
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    def start(self) -> Self:
        """Start to deliver."""
        self._thread.start()
        return self

    def send(self, answer: Answer) -> None:
        """Queue an answer for delivery; never blocks."""
        try:
            self._queue.put_nowait(answer)
        except queue.Full:
            self._undelivered(answer, f"{_WAITING} answers are already waiting")

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver the waiting answers, then stop."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (answer := self._queue.get()) is not None:
            try:
                self._port.send(answer)
            except AnswerError as error:
                self._undelivered(answer, str(error))
            except Exception as error:  # noqa: BLE001  a port may raise anything; the answers that follow must still be delivered
                self._undelivered(answer, f"{type(error).__name__}: {error}")
            else:
                self._acknowledged()
