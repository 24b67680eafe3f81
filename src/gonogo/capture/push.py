"""Pictures that another program sends over HTTP: ``POST /frames/TRIGGER`` or ``POST /frames``."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
import urllib.parse
from collections.abc import Collection
from datetime import datetime
from http import HTTPStatus

from gonogo.capture.access import authorised, content_length, foreign
from gonogo.capture.bounded_server import BoundedServer
from gonogo.capture.camera import Acquired, now
from gonogo.capture.deliveries import Delivered, Matching
from gonogo.capture.matching import PictureMatcher
from gonogo.config import Limits
from gonogo.errors import InputError
from gonogo.images import Photograph
from gonogo.names import clean_name

CAPTURED_AT = "Captured-At"
"""The header that states when a picture was taken: ISO 8601 with its offset from UTC."""
_READ_TIMEOUT_S = 10.0


class PushCamera:
    """A small HTTP server that keeps the last few pictures sent to it until their triggers come.

    ``POST /frames/TRIGGER`` belongs to that trigger. ``POST /frames`` states its capture time in the header
    ``Captured-At``; without one it counts only with ``any_name``; see `gonogo.capture.matching`. Answers: 202 taken,
    400 no such name, or neither name nor capture time, 401 wrong token, 403 a page of another site, 411 no length, 413
    too large, 503 no room for more pictures.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        hosts: Collection[str] = (),
        matching: Matching | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._token = token
        self._hosts = hosts
        self.matcher: PictureMatcher[bytes] = PictureMatcher(matching or Matching())
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
        matched = self.matcher.take(trigger_id, until_s=time.monotonic() + timeout_s)
        photograph = Photograph(matched.picture.content, name=f"picture of {trigger_id}")
        return Acquired(photograph=photograph, at=now(), sole_until_s=matched.sole_until_s)

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Nothing to do: a picture leaves when it is taken."""

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _put(self, name: str, captured_at: datetime | None, data: bytes, ticket: int) -> None:
        captured_s = None if captured_at is None else self.matcher.to_monotonic(captured_at.timestamp())
        self.matcher.put(
            Delivered(
                content=data,
                digest=hashlib.sha256(data).hexdigest(),
                arrived_s=time.monotonic(),
                names=frozenset((name,) if name else ()),
                named=bool(name),
                captured_s=captured_s,
                ticket=ticket,
            )
        )

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = _READ_TIMEOUT_S
            _why = ""

            def do_POST(self) -> None:
                self._answer(*self._receive())

            def _receive(self) -> tuple[HTTPStatus, str]:
                place, _, name = urllib.parse.unquote(self.path).lstrip("/").partition("/")
                if place != "frames":
                    return HTTPStatus.NOT_FOUND, "expected /frames or /frames/TRIGGER"
                if why := foreign(self.headers, camera._hosts):
                    return HTTPStatus.FORBIDDEN, why
                if not authorised(self.headers.get("Authorization"), camera._token):
                    return HTTPStatus.UNAUTHORIZED, "expected the token of this camera"
                try:
                    name = clean_name(name) if name else name
                except ValueError as error:
                    return HTTPStatus.BAD_REQUEST, str(error)
                length = content_length(self.headers)
                if length is None:
                    return HTTPStatus.LENGTH_REQUIRED, "expected the header Content-Length"
                if not 0 < length <= camera._limits.max_file_bytes:
                    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected 1 to {camera._limits.max_file_bytes} bytes"
                try:
                    captured_at = _moment(self.headers.get(CAPTURED_AT))
                except ValueError as error:
                    return HTTPStatus.BAD_REQUEST, str(error)
                if not name and captured_at is None and not camera.matcher.rule.any_name:
                    told = (
                        f"expected /frames/TRIGGER or the header {CAPTURED_AT}: nothing ties this picture to its part"
                    )
                    return HTTPStatus.BAD_REQUEST, told
                return self._keep(name, captured_at, length)

            def _keep(self, name: str, captured_at: datetime | None, length: int) -> tuple[HTTPStatus, str]:
                ticket = camera.matcher.reserve(
                    length
                )  # before it is read, so that many at once cannot fill the memory
                if ticket is None:
                    return HTTPStatus.SERVICE_UNAVAILABLE, "too many pictures are waiting for their triggers"
                kept = False
                try:
                    data = self.rfile.read(length)
                    kept = len(data) == length
                    if kept:
                        camera._put(name, captured_at, data, ticket)
                finally:
                    if not kept:
                        camera.matcher.release(ticket)
                return (HTTPStatus.ACCEPTED, "") if kept else (HTTPStatus.BAD_REQUEST, f"expected {length} bytes")

            def _answer(self, status: HTTPStatus, told: str) -> None:
                self.close_connection = True  # an unread body must not be taken for the next request
                body = told.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Every request has its trigger; there is nothing to log."""

        return Handler


def _moment(text: str | None) -> datetime | None:
    """A stated capture time.

    Raises:
        ValueError: not a time, or one without its offset from UTC.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{CAPTURED_AT}: expected a time such as 2026-01-31T14:00:00.250Z, found {text[:60]!r}")
    return moment
