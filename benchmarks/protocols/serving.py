"""A real ``gonogo serve`` that is killed and restarted, and the counts that the campaigns of HTTP and KServe share."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from gonogo.cli.serve_key import made_key
from gonogo.server import Workspace
from gonogo.server.components import Components
from gonogo.server.options import Options
from gonogo.testing import write_fake_bundle
from protocols.kit import free_port

KILLED_EVERY_S = (1.0, 8.0)
"""Shortest and longest pause between two deaths of the server in a campaign."""
_START_S = 120.0


def prepared(folder: Path) -> tuple[Path, str]:
    """Make a workspace with a fake inspector in use; return its path and the key of a program."""
    space = Workspace.open(folder / "plant")
    if not space.bundle_paths():
        write_fake_bundle(space.bundles / "red.inspector")
        space.activate("red.inspector")
    components = Components.open(space, Options())
    components.close()
    return space.root, made_key(space.root, f"campaign {time.time_ns()}", role="operator", days=1)[1]


class Server:
    """A server in a process of its own."""

    def __init__(self, workspace: Path, *options: str) -> None:
        """Store the workspace and further options of ``gonogo serve``; nothing is started yet."""
        self._options = options
        self.workspace, self.port, self.grpc_port, self.kills = workspace, free_port(), free_port(), 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        ports = ["--port", str(self.port), "--grpc-port", str(self.grpc_port), "--key-rate", "100000", *self._options]
        command = [sys.executable, "-m", "gonogo", "serve", str(self.workspace), *ports]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/ready").status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise TimeoutError("the server is not ready")

    def alive(self) -> bool:
        """Whether the process that was started last still runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it, by default like a power failure."""
        self.kills += number == signal.SIGKILL
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()


@contextmanager
def serving(workspace: Path, *options: str) -> Iterator[Server]:
    """Serve until the block ends."""
    server = Server(workspace, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill(signal.SIGTERM)


def added(ask: Callable[[], Any], bare: Callable[[], Any], count: int) -> tuple[float, float]:
    """Return median and 99th percentile, in ms, of what a round trip takes longer than the bare judgement before it."""
    found = []
    for _ in range(count):
        began_s = time.perf_counter()
        bare()
        between_s = time.perf_counter()
        ask()
        found.append((time.perf_counter() - 2 * between_s + began_s) * 1e3)
    found.sort()
    return round(found[len(found) // 2], 3), round(found[min(len(found) - 1, int(0.99 * len(found)))], 3)
