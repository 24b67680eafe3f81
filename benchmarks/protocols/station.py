"""The program of `protocols.kit.StationProcess`: a real station, with a worker that knows the bad parts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gonogo.station import read_settings, run_station


def main() -> None:
    """Run the station until it is told to stop."""
    toml = Path(sys.argv[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    worker = [sys.executable, "-m", "protocols.worker", str(toml)]
    run_station(read_settings(toml), worker, complain=lambda text: print(text, file=sys.stderr))  # noqa: T201


if __name__ == "__main__":
    main()
