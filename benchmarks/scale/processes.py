"""The processes of the simulation: started, asked for a line, and ended."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gonogo.errors import UnfitError


def station_name(number: int) -> str:
    """Return the name of a station."""
    return f"station-{number:04d}"


def allow_many_files() -> None:
    """Raise the limit of open files as far as this user may."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Child:
    """A running child process that speaks in lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def expect(self, start: str) -> str:
        """Return its next line.

        Raises:
            UnfitError: the process has ended, or the line starts with something else.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(start):
            raise UnfitError(f"expected {start} of a process of stations, found {line!r}; its message is above.")
        return line

    def result(self) -> dict[str, Any]:
        """Return its last line."""
        found: dict[str, Any] = json.loads(self.expect("{"))
        return found

    def tell(self, line: str) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


@contextlib.contextmanager
def child(module: str, words: list[str], *, before: list[str] | None = None) -> Iterator[Child]:
    """Run a module of this folder until the block ends, perhaps behind other words: ``ip netns exec NAME``."""
    command = [*(before or []), sys.executable, "-m", module, *words]
    folder = Path(__file__).parents[1]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        try:
            yield Child(process)
        finally:
            process.terminate()


def busy_s() -> float:
    """Return the CPU seconds that all processes of this machine have used."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    idle = int(fields[3]) + int(fields[4])
    return (sum(map(int, fields[:8])) - idle) / 100
