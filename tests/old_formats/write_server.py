"""Write the server's database of a version between 0.1.0 and 0.2.0, with the code of that version.

    git archive COMMIT src tests | tar -x -C OLD
    PYTHONPATH=OLD/src:OLD/tests python tests/old_formats/write_server.py tests/old_formats/server-N.sql

Format 2: commit 2789f56^1. Format 3: commit 2789f56. Format 4: commit 3d01da0.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import apsw.shell

from gonogo.server.access import Role
from server_kit import make_app


def main(out: Path) -> None:
    """Write people of every role and a token as SQL."""
    with tempfile.TemporaryDirectory() as name:
        components = make_app(Path(name)).state.components
        components.accounts.sessions.issue("line 1", Role.OPERATOR, days=366, created_by="admin")
        components.close()
        connection = apsw.Connection(str(Path(name) / "server.db"))
        text = io.StringIO()
        apsw.shell.Shell(stdout=text, db=connection).process_command(".dump")
        lines = [line for line in text.getvalue().splitlines() if line and not line.startswith("--")]
        out.write_text("\n".join([*lines, f"PRAGMA user_version = {connection.pragma('user_version')};"]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
