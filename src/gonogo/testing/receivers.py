"""Receivers of results for tests: a webhook receiver that verifies signatures, and a mail server that keeps mails.

Both run in this process, on a free port, and fail on demand. The webhook receiver also runs as a process of its own:
``python -m gonogo.testing.receivers PORT SECRET FILE`` appends each accepted result to a file.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import socketserver
import ssl
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from gonogo.results.signatures import signature


@dataclass(frozen=True, kw_only=True)
class Received:
    """One request that a webhook receiver accepted."""

    key: str
    """Its ``Idempotency-Key``."""
    headers: dict[str, str]
    body: bytes = field(repr=False)


class FakeWebhook:
    """A receiver of webhooks: 401 for a wrong signature, otherwise the status it is set to."""

    def __init__(self, secret: str, *, port: int = 0, file: Path | None = None, tls: ssl.SSLContext | None = None):
        """Bind the port; `start` serves.

        Args:
            secret: Secret of the signatures.
            port: Port to listen on; 0 takes a free one.
            file: Each accepted key is appended to it, before the response is sent.
            tls: Serve with TLS.
        """
        self.received: list[Received] = []
        self.statuses: list[int] = []
        """Responses to the next requests; then 204."""
        self.silent = False
        """Close the connection after a request was accepted, without an answer."""
        self._secret, self._file = secret, file
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, *_: Any) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        headers = {key.lower(): value for key, value in request.headers.items()}
        expected = signature(self._secret, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
        status = self.statuses.pop(0) if self.statuses else 204
        if not hmac.compare_digest(expected, headers["webhook-signature"]):
            status = 401
        if status == 204:
            key = headers["idempotency-key"]
            self.received.append(Received(key=key, headers=headers, body=body))
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(f"{key}\n")
        if self.silent:
            request.close_connection = True
            return
        request.send_response(status)
        if 300 <= status < 400:
            request.send_header("Location", f"http://127.0.0.1:{self.port}/elsewhere")
        if status != 204:
            request.send_header("Content-Length", "0")
        request.end_headers()

    @property
    def keys(self) -> list[str]:
        """Keys of the accepted requests, doubles included."""
        return [each.key for each in self.received]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class FakeMailServer:
    """A mail server that keeps what it is given; with a password it asks for it."""

    def __init__(self, *, password: str | None = None, refuse: bool = False) -> None:
        """Bind a free port.

        Args:
            password: Expect it, for any user.
            refuse: Refuse every recipient.
        """
        self.mails: list[str] = []
        self.password, self.refuse = password, refuse
        receiver = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                receiver._serve(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads = True, True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])

    def _serve(self, session: socketserver.StreamRequestHandler) -> None:
        def say(line: str) -> None:
            session.wfile.write(f"{line}\r\n".encode())

        say("220 test")
        while line := session.rfile.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            match verb.upper():
                case "EHLO":
                    say("250-test")
                    say("250 AUTH PLAIN")
                case "AUTH":
                    given = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")[-1]
                    say("235 welcome" if given == self.password else "535 no")
                case "RCPT":
                    say("550 unknown" if self.refuse else "250 fine")
                case "DATA":
                    say("354 go on")
                    self.mails.append(self._read(session))
                    say("250 kept")
                case "QUIT":
                    say("221 bye")
                    return
                case _:
                    say("250 fine")

    @staticmethod
    def _read(session: socketserver.StreamRequestHandler) -> str:
        lines: list[str] = []
        while (line := session.rfile.readline().decode().rstrip("\r\n")) != ".":
            lines.append(line)
        return "\n".join(lines)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def main(port: str, secret: str, file: str) -> None:
    """Serve until standard input ends."""
    with FakeWebhook(secret, port=int(port), file=Path(file)) as receiver:
        sys.stdout.write(json.dumps({"port": receiver.port, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:4])
