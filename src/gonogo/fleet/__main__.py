"""The processes beside a station: ``python -m gonogo.fleet agent station.toml``, and the same with ``shadow``.

``python -m gonogo.fleet beside job.json`` judges silently beside the stations of a server's workspace.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gonogo.errors import GonogoError


def main(role: str, path: Path) -> None:
    """Run the agent, or a silent judge."""
    from gonogo.fleet import agent, shadow

    {"agent": agent.main, "shadow": shadow.main, "beside": shadow.beside}[role](path)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except GonogoError as error:
        sys.stderr.write(f"{sys.argv[1]}: {error}\n")
        sys.exit(1)
