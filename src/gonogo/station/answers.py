"""Where answers go. A port delivers one answer or raises; the sender's thread keeps it off the supervisor's clock."""

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
from gonogo.station.messages import Answer
from gonogo.station.settings import AnswerSettings, FileAnswers, HttpAnswers, StdoutAnswers

_WAITING = 1_000


class AnswerError(GonogoError):
    """The line has not taken the answer. It must treat silence as it treats a fault."""


class Port(Protocol):
    """Delivers answers."""

    def send(self, answer: Answer) -> None:
        """Deliver one; returning means that the line has acknowledged it.

        Raises:
            AnswerError: it was not taken.
        """


class LinePort:
    """One JSON object a line, to a stream or a file."""

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
    """Posts each answer as JSON, a few times where it must; any 2xx reply acknowledges it."""

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 1.0, attempts: int = 3) -> None:
        self._url, self._token, self._timeout_s, self._attempts = url, token, timeout_s, attempts

    def send(self, answer: Answer) -> None:
        """Post until it is taken."""
        import http.client  # here, as workers start the faster without what only a supervisor may need
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
                told = f"{self._url}: {error}"
                time.sleep(0.05 * attempt)
        raise AnswerError(f"{told} ({self._attempts} attempts)")


def open_port(settings: AnswerSettings) -> Port:
    """Open the port that is described.

    Raises:
        InputError: its token file cannot be read, or its file cannot be written.
    """
    match settings:
        case StdoutAnswers():
            return LinePort(sys.stdout)
        case FileAnswers():
            try:
                settings.file.parent.mkdir(parents=True, exist_ok=True)
                return LinePort(settings.file.open("a", encoding="utf-8"))
            except OSError as error:
                raise InputError(f"{settings.file}: cannot be written ({error.strerror or error}).") from error
        case HttpAnswers():
            token = read_token(settings.token_file)
            return HttpPort(settings.url, token=token, timeout_s=settings.timeout_s, attempts=settings.attempts)


class Sender:
    """Delivers answers in order, in a thread of its own, and tells what became of each."""

    def __init__(
        self, port: Port, acknowledged: Callable[[], None], undelivered: Callable[[Answer, str], None]
    ) -> None:
        self._port, self._acknowledged, self._undelivered = port, acknowledged, undelivered
        self._queue: queue.Queue[Answer | None] = queue.Queue(maxsize=_WAITING)
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    def start(self) -> Self:
        """Deliver from now on."""
        self._thread.start()
        return self

    def send(self, answer: Answer) -> None:
        """Deliver soon; never blocks."""
        try:
            self._queue.put_nowait(answer)
        except queue.Full:
            self._undelivered(answer, f"{_WAITING} answers are waiting already")

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what is waiting, then end."""
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
            except Exception as error:  # noqa: BLE001  whatever a port raises, the answers after this one must go out
                self._undelivered(answer, f"{type(error).__name__}: {error}")
            else:
                self._acknowledged()
