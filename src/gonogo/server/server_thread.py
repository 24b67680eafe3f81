"""A server in a thread of this process, for tests and for taking screenshots."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from gonogo.errors import GonogoError
from gonogo.server.connections import ConnectionLimits, uvicorn_options


@contextmanager
def running(app: FastAPI, *, port: int = 0, limits: ConnectionLimits | None = None) -> Iterator[str]:
    """Serve an app on localhost for the duration of the block; yields its URL.

    Args:
        app: From `gonogo.server.create_app`; it is shut down afterwards.
        port: TCP port; 0 chooses a free one.
        limits: Connection limits; None for those of ``gonogo serve``.

    Raises:
        GonogoError: the server did not start.
    """
    options = uvicorn_options(limits or ConnectionLimits())
    server = uvicorn.Server(uvicorn.Config(app, port=port, timeout_graceful_shutdown=1, **options))
    thread = threading.Thread(target=server.run, name="gonogo-server", daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise GonogoError(f"expected a server on port {port}, found that it did not start. Is the port taken?")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
