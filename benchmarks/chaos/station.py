"""A station as a child process group, so that supervisor and worker can be killed together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from gonogo.line.messages import Answer
from gonogo.testing import FakePlc
from gonogo.testing.station import PATIENCE_S


class StationProcess:
    """Like ``gonogo station run``, on pipes and with a worker that fails on demand; runs this file as its program."""

    def __init__(self, toml: Path, plc: FakePlc) -> None:
        command = [sys.executable, __file__, str(toml)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._plc = plc
        self._ready = threading.Event()
        self._worker_pid: int | None = None
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def ready(self) -> None:
        """Wait until the station judges."""
        if not self._ready.wait(PATIENCE_S):
            raise TimeoutError(f"the station has not started within {PATIENCE_S:g} s")

    def submit(self, trigger_id: str) -> None:
        """Send a trigger."""
        assert self._process.stdin is not None, "opened with a pipe"
        self._process.stdin.write(trigger_id + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """Kill supervisor and worker at the same time, like a power failure."""
        os.kill(self._process.pid, signal.SIGKILL)
        if self._worker_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._worker_pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()  # what it had answered before it died counts as acknowledged

    def stop(self) -> None:
        """Stop the station normally."""
        assert self._process.stdin is not None, "opened with a pipe"
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._reader.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None, "opened with a pipe"
        for line in self._process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # cut off by the kill, so not acknowledged
                values = json.loads(line)
                if "worker_pid" in values:
                    self._worker_pid = values["worker_pid"]
                    self._ready.set()
                else:
                    self._plc.send(Answer.from_json(values))


def main() -> None:
    """Run the station on standard input and output; the first line names the worker."""
    from gonogo.line.state import Health
    from gonogo.station.answers import LinePort, Sender
    from gonogo.station.settings import read_settings
    from gonogo.station.supervisor import Supervisor
    from gonogo.station.triggers import TriggerSource, read_trigger_lines

    toml = Path(sys.argv[1])
    settings = read_settings(toml)
    command = [sys.executable, "-m", "gonogo.testing.worker", str(toml), "fake"]
    sender: list[Sender] = []
    supervisor = Supervisor(settings, command, lambda answer: sender[0].send(answer))
    sender.append(Sender(LinePort(sys.stdout), supervisor.acknowledged, supervisor.undelivered).start())
    supervisor.start()
    while supervisor.health is not Health.RUNNING:
        threading.Event().wait(0.005)
    print(json.dumps({"worker_pid": supervisor.worker_pid}), flush=True)  # noqa: T201
    source = TriggerSource(lambda stopped: read_trigger_lines(sys.stdin, supervisor.submit, print, stopped)).start()
    source.ended.wait()
    supervisor.stop()
    sender[0].close()


if __name__ == "__main__":
    main()
