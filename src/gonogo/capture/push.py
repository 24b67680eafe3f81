"""A camera that receives pictures over HTTP: ``POST /frames/TRIGGER`` or ``POST /frames``."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Self

from gonogo.capture.access import authorised, content_length, foreign
from gonogo.capture.bounded_server import BoundedServer
from gonogo.capture.camera import Acquired, capture_time
from gonogo.capture.deliveries import Delivered, Matching
from gonogo.capture.matching import PictureMatcher
from gonogo.config import PictureLimits
from gonogo.errors import InputError
from gonogo.images import Photograph, confined
from gonogo.names import clean_name

CAPTURED_AT = "Captured-At"
"""Name of the header with the capture time: ISO 8601 with an offset from UTC."""
_READ_TIMEOUT_S = 10.0


class PushCamera:
    """An HTTP server that keeps received pictures until their triggers come.

    ``POST /frames/TRIGGER`` names the trigger. ``POST /frames`` states the capture time in the header ``Captured-At``;
    without it, ``any_name`` is required; see `gonogo.capture.matching`. Status codes: 202 accepted, 400 invalid name,
    or neither name nor capture time, 401 wrong token, 403 request from a page of another site, 411 no length, 413
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
        limits: PictureLimits | None = None,
    ) -> None:
        self._limits = limits or PictureLimits()
        self._token = token
        self._hosts = hosts
        self.matcher: PictureMatcher[bytes] = PictureMatcher(matching or Matching())
        try:
            self._server = BoundedServer((host, port), type("Handler", (_Handler,), {"camera": self}))
        except OSError as error:
            raise InputError(f"{host}:{port}: cannot listen on this address ({error}). Choose another port.") from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="push-camera", daemon=True)

    def start(self) -> Self:
        """Start to receive pictures."""
        confined.start()
        self._thread.start()
        return self

    @property
    def port(self) -> int:
        """Port that the server listens on."""
        return int(self._server.server_address[1])

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Acquired:
        """Wait for the trigger's picture; see `Camera.acquire`."""
        matched = self.matcher.take(trigger_id, until_s=time.monotonic() + timeout_s)
        photograph = Photograph(matched.picture.content, name=f"picture of {trigger_id}", confined=True)
        return Acquired(photograph=photograph, at=capture_time(), sole_until_s=matched.sole_until_s)

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Do nothing: the picture was already released."""

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


@dataclass(frozen=True, kw_only=True)
class _Announced:
    """The headers of a request with a picture."""

    name: str
    captured_at: datetime | None
    size_bytes: int


class _RefusedError(Exception):
    """The request is refused; holds the status and the message of the response."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(http.server.BaseHTTPRequestHandler):
    """Receives pictures for the camera of its server."""

    timeout = _READ_TIMEOUT_S
    camera: PushCamera

    def do_POST(self) -> None:
        try:
            self._receive(self._announced())
        except _RefusedError as refused:
            self._answer(refused.status, str(refused))
        else:
            self._answer(HTTPStatus.ACCEPTED, "")

    def _announced(self) -> _Announced:
        place, _, name = urllib.parse.unquote(self.path).lstrip("/").partition("/")
        if place != "frames":
            raise _RefusedError(HTTPStatus.NOT_FOUND, "expected /frames or /frames/TRIGGER")
        self._require_access()
        try:
            name = clean_name(name) if name else name
        except ValueError as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        size_bytes = self._size_bytes()
        try:
            captured_at = _moment(self.headers.get(CAPTURED_AT))
        except ValueError as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        if not name and captured_at is None and not self.camera.matcher.rule.any_name:
            why = f"expected /frames/TRIGGER or the header {CAPTURED_AT}: the picture cannot be matched to a part"
            raise _RefusedError(HTTPStatus.BAD_REQUEST, why)
        return _Announced(name=name, captured_at=captured_at, size_bytes=size_bytes)

    def _require_access(self) -> None:
        if why := foreign(self.headers, self.camera._hosts):
            raise _RefusedError(HTTPStatus.FORBIDDEN, why)
        if not authorised(self.headers.get("Authorization"), self.camera._token):
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "expected the token of this camera")

    def _size_bytes(self) -> int:
        length, most = content_length(self.headers), self.camera._limits.max_file_bytes
        if length is None:
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "expected the header Content-Length")
        if not 0 < length <= most:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected 1 to {most} bytes")
        return length

    def _receive(self, picture: _Announced) -> None:
        matcher = self.camera.matcher
        ticket = matcher.reserve(
            picture.size_bytes
        )  # before the body is read, so that many requests cannot fill the memory
        if ticket is None:
            why = "too many pictures are waiting for their triggers"
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, why)
        kept = False
        try:
            data = self.rfile.read(picture.size_bytes)
            if len(data) != picture.size_bytes:
                raise _RefusedError(HTTPStatus.BAD_REQUEST, f"expected {picture.size_bytes} bytes")
            self.camera._put(picture.name, picture.captured_at, data, ticket)
            kept = True
        finally:
            if not kept:
                matcher.release(ticket)

    def _answer(self, status: HTTPStatus, text: str) -> None:
        self.close_connection = True  # an unread body must not be parsed as the next request
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the ledger records every trigger."""


def _moment(text: str | None) -> datetime | None:
    """Parse a capture time.

    Raises:
        ValueError: not a time, or a time without an offset from UTC.
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
