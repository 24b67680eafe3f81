"""Pictures that another program sends over HTTP: ``POST /frames/TRIGGER`` or ``POST /frames``."""

from __future__ import annotations

import hmac
import http.server
import threading
import time
import urllib.parse
from collections import OrderedDict
from http import HTTPStatus

from gonogo import images
from gonogo.capture.bounded_server import BoundedServer
from gonogo.capture.camera import Acquired, CaptureError, Trouble, now
from gonogo.config import Limits
from gonogo.errors import ImageError, InputError

_READ_TIMEOUT_S = 10.0


class PushCamera:
    """A small HTTP server that keeps the last few pictures sent to it until their triggers come.

    ``POST /frames/TRIGGER`` belongs to that trigger, ``POST /frames`` to whichever comes next. Answers: 202 taken, 401
    wrong token, 411 no length, 413 too large, 503 too many pictures waiting.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        waiting: int = 8,
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._waiting = waiting
        self._token = token
        self._pictures: OrderedDict[str, list[bytes]] = OrderedDict()
        self._arrived = threading.Condition()
        try:
            self._server = BoundedServer((host, port), self._handler())
        except OSError as error:
            raise InputError(f"{host}:{port}: cannot listen there ({error}). Choose another.") from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="push-camera", daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Acquired:
        """Wait for the trigger's picture; see `Camera.acquire`."""
        deadline = time.monotonic() + timeout_s
        with self._arrived:
            while (data := self._take(trigger_id)) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise CaptureError(
                        Trouble.NO_FRAME, f"expected a picture for {trigger_id} within {timeout_s:.2f} s, none was sent"
                    )
                self._arrived.wait(left)
        try:
            frame = images.decode(data, name=f"picture of {trigger_id}", limits=self._limits)
        except ImageError as error:
            raise CaptureError(Trouble.UNREADABLE, str(error)) from error
        return Acquired(frame=frame, data=data, at=now())

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Nothing to do: a picture leaves when it is taken."""

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _take(self, trigger_id: str) -> bytes | None:
        for name in (trigger_id, ""):
            if name in self._pictures:
                found = self._pictures[name].pop(0)
                if not self._pictures[name]:
                    del self._pictures[name]
                return found
        return None

    def _put(self, name: str, data: bytes) -> bool:
        with self._arrived:
            if sum(map(len, self._pictures.values())) >= self._waiting:
                return False
            self._pictures.setdefault(name, []).append(data)
            self._arrived.notify_all()
        return True

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = _READ_TIMEOUT_S

            def do_POST(self) -> None:
                self._answer(self._receive())

            def _receive(self) -> HTTPStatus:
                place, _, name = urllib.parse.unquote(self.path).lstrip("/").partition("/")
                if place != "frames":
                    return HTTPStatus.NOT_FOUND
                if not authorised(self.headers.get("Authorization"), camera._token):
                    return HTTPStatus.UNAUTHORIZED
                length = self.headers.get("Content-Length", "")
                if not length.isdigit():
                    return HTTPStatus.LENGTH_REQUIRED
                if not 0 < int(length) <= camera._limits.max_file_bytes:
                    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                data = self.rfile.read(int(length))
                if len(data) < int(length):
                    return HTTPStatus.BAD_REQUEST
                return HTTPStatus.ACCEPTED if camera._put(name, data) else HTTPStatus.SERVICE_UNAVAILABLE

            def _answer(self, status: HTTPStatus) -> None:
                self.close_connection = True  # an unread body must not be taken for the next request
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Every request has its trigger; there is nothing to log."""

        return Handler


def authorised(header: str | None, token: str | None) -> bool:
    """Whether an ``Authorization`` header carries the bearer token; always, where none is asked for."""
    return token is None or hmac.compare_digest((header or "").encode(), f"Bearer {token}".encode())
