"""The process of a station that was started from the pages: ``python -m gonogo.station.kept FOLDER NUMBER``.

It is ``gonogo station run`` with one more reason to end: people no longer want it to run. Standard error is its log.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from gonogo import locks
from gonogo.errors import GonogoError
from gonogo.station.place import Ended, Place, Running
from gonogo.station.running import run_with_companions
from gonogo.station.settings import read_settings

ALREADY = 3
"""Exit code if another process runs the station."""
_POLL_S = 0.25
_TRIES, _PAUSE_S = 40, 0.05


def kept_command(folder: Path, number: int, agent: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a station until people want something else.

    Args:
        folder: Its folder, see `gonogo.station.place`.
        number: Number of the wish that it obeys.
        agent: The command of the fleet's agent; empty without ``[fleet]``.
    """
    return [sys.executable, "-m", "gonogo.station.kept", str(folder), str(number), *agent]


def main(folder: Path, number: int, agent: Sequence[str] = ()) -> int:
    """Run the station until people want something else; return the exit code. See `kept_command`."""
    place = Place(folder=folder)
    with place.run_lock.open("ab") as file:
        if not _locked(file):
            return ALREADY
        place.write_running(Running(pid=os.getpid(), number=number, at=datetime.now(UTC)))
        stop = threading.Event()
        threading.Thread(target=_obey, args=(place, number, stop), name="wish", daemon=True).start()
        why = _run(place, agent, stop)
        place.write_ended(Ended(number=number, why=why, at=datetime.now(UTC)))
    return 1 if why else 0


def _locked(file: IO[bytes]) -> bool:
    """Hold the lock; a page that looks at it holds it for a moment."""
    for _ in range(_TRIES):
        if locks.try_lock(file):
            return True
        time.sleep(_PAUSE_S)
    return False


def _obey(place: Place, number: int, stop: threading.Event) -> None:
    while not stop.wait(_POLL_S):
        wish = place.wish()
        if not wish.run or wish.number != number:
            stop.set()


def _run(place: Place, agent: Sequence[str], stop: threading.Event) -> str:
    """Run the station; return why it ended, empty if people wanted it to."""
    try:
        settings = read_settings(place.toml)
        run_with_companions(settings, place.toml, agent=agent, complain=_complain, stop=stop)
    except (GonogoError, OSError) as error:
        _complain(str(error))
        return str(error)
    except Exception as error:  # noqa: BLE001  process edge: the page shows the reason, the log the traceback
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    wish = place.wish()
    running = place.running()
    wanted = wish.run and running is not None and wish.number == running.number
    return "it was stopped by a signal" if wanted else ""


def _complain(text: str) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    sys.stderr.write(f"{at}  {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":  # pragma: no cover  measured as a process of its own, under another name
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
