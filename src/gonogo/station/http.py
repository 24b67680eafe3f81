"""The station's HTTP server: status, metrics, and HTTP triggers."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Collection
from email.message import Message
from http import HTTPStatus
from typing import Self

from gonogo.capture.access import authorised, content_length, foreign
from gonogo.capture.bounded_server import BoundedServer, ServerLimits
from gonogo.errors import InputError
from gonogo.line.messages import parse_trigger
from gonogo.line.state import Health
from gonogo.station.reject import parse_line
from gonogo.station.supervisor import Supervisor

_LONGEST_BODY = 4_096
_READ_TIMEOUT_S = 5.0


class StationServer:
    """Serves ``GET /status``, ``/metrics`` and ``/health``, and ``POST /trigger`` and ``/line``, answered at once."""

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        host: str,
        port: int,
        token: str | None,
        triggers: bool,
        hosts: Collection[str] = (),
    ) -> None:
        self._supervisor, self._token, self._triggers, self._hosts = supervisor, token, triggers, hosts
        try:
            limits = ServerLimits(answer_s=2 * supervisor.settings.window_s + 5.0)
            self._server = BoundedServer((host, port), self._handler(), limits=limits)
        except OSError as error:
            raise InputError(f"{host}:{port}: cannot listen on this address ({error}). Choose another port.") from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="station-http", daemon=True)

    def start(self) -> Self:
        """Start to answer requests."""
        self._thread.start()
        return self

    @property
    def port(self) -> int:
        """Port that the server listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        if self._thread.is_alive():  # shutdown would block forever if serve_forever was never called
            self._server.shutdown()
        self._server.server_close()

    def get(self, path: str) -> tuple[HTTPStatus, str, str]:
        """Return status, content type and body for a GET."""
        if path == "/status":
            return HTTPStatus.OK, "application/json", self._supervisor.published[0]
        if path == "/metrics":
            return HTTPStatus.OK, "text/plain; version=0.0.4", self._supervisor.published[1]
        if path == "/health":
            health = self._supervisor.health
            if health not in (Health.RUNNING, Health.HELD):
                return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", health.value
            if why := self._supervisor.faulting:
                return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"faulting: {why}"
            return HTTPStatus.OK, "text/plain", health.value
        return HTTPStatus.NOT_FOUND, "text/plain", "expected /status, /metrics or /health"

    def post(self, path: str, body: bytes, headers: Message) -> tuple[HTTPStatus, str, str]:
        """Return status, content type and body for a POST; waits for the answer."""
        tracks = self._supervisor.settings.reject is not None
        if not ((path == "/trigger" and self._triggers) or (path == "/line" and tracks)):
            expected = "expected /trigger and a station with an HTTP trigger, or /line and a station with [reject]"
            return HTTPStatus.NOT_FOUND, "text/plain", expected
        if why := foreign(headers, self._hosts):
            return HTTPStatus.FORBIDDEN, "text/plain", why
        if not authorised(headers.get("Authorization"), self._token):
            return HTTPStatus.UNAUTHORIZED, "text/plain", "expected the station's token"
        answers: list[dict[str, object]] = []
        came = threading.Event()

        def take(answer: dict[str, object]) -> None:
            answers.append(answer)
            came.set()

        try:
            self._submit(path, body.decode("utf-8").strip(), take)
        except ValueError as error:
            return HTTPStatus.BAD_REQUEST, "text/plain", str(error)
        if not came.wait(2 * self._supervisor.settings.window_s + 1.0):
            return (
                HTTPStatus.GATEWAY_TIMEOUT,
                "text/plain",
                "the supervisor has not answered; treat the part as a fault",
            )
        return HTTPStatus.OK, "application/json", json.dumps(answers[0])

    def _submit(self, path: str, text: str, take: Callable[[dict[str, object]], None]) -> None:
        """Submit a trigger or a report of the line; ``take`` receives the answer.

        Raises:
            ValueError: the text is neither.
        """
        reject = self._supervisor.settings.reject
        if path == "/line" and reject is not None:
            self._supervisor.line(parse_line(text, reject), take)
            return
        trigger_id, values = parse_trigger(text)
        self._supervisor.submit(trigger_id, **values, reply=lambda answer: take(answer.to_json()))

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = _READ_TIMEOUT_S
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(*server.get(self.path))

            def do_POST(self) -> None:
                length = content_length(self.headers)
                if length is None or length > _LONGEST_BODY:
                    self.close_connection = True
                    self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain", "expected a short trigger")
                    return
                body = self.rfile.read(length)
                self._answer(*server.post(self.path, body, self.headers))

            def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
                data = text.encode(errors="backslashreplace")
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing: the ledger records every trigger."""

        return Handler
