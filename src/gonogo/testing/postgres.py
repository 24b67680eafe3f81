"""A throw-away PostgreSQL server for tests: its own folder, its own user, a free port on this machine only.

It needs the server's programs (Debian: ``apt-get install postgresql``) and the extra ``scale``. PostgreSQL refuses to
run as root; for root it is run as the user ``postgres`` or ``nobody``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name.split(".")[0]))
_USER = "gonogo"
_ROOM_BYTES = 1_000_000_000


@functools.cache
def missing() -> str:
    """Return why no server can be started here; empty if one can."""
    absent = [name for name in ("alembic", "psycopg", "sqlalchemy") if importlib.util.find_spec(name) is None]
    if absent:
        return f"needs the extra scale ({', '.join(absent)} not installed)"
    if _program("initdb") is None or _program("pg_ctl") is None:
        return "needs a PostgreSQL server: apt-get install postgresql"
    if os.geteuid() == 0 and (shutil.which("runuser") is None or _owner() is None):
        return "PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as"
    return ""


@dataclass(kw_only=True)
class Server:
    """A running server; `database` provides an empty database. Create it with `server`."""

    folder: Path
    port: int
    extra: str = ""
    """Further options of the server: ``-c shared_buffers=64MB``."""
    databases: int = 0
    """Number of databases that were created."""
    idle: list[str] = field(default_factory=list)
    """Databases that are empty and not in use."""

    def start(self) -> None:
        """Start the server, after `stop`, and wait until it answers."""
        # Small and fast; what a commit promises is not weakened: fsync and synchronous_commit stay on.
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c shared_buffers=16MB {self.extra}"
        self.run("pg_ctl", "start", "-w", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; ``immediate`` is a crash."""
        self.run("pg_ctl", "stop", "-w", "-D", f"{self.folder}/data", "-m", mode)

    def url(self, database: str = "postgres", *, port: int | None = None) -> str:
        """Return the URL of a database, perhaps through another port."""
        return f"postgresql://{_USER}@127.0.0.1:{port or self.port}/{database}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Provide an empty database; it is emptied and used again, which is faster than a new one."""
        if not self.idle:
            self.databases += 1
            self.idle.append(f"test_{self.databases}")
            self.sql(f"CREATE DATABASE {self.idle[-1]}", database="postgres")
        name = self.idle.pop()
        yield name
        self.sql("DROP SCHEMA IF EXISTS gonogo CASCADE", database=name)
        self.idle.append(name)

    def sql(self, statement: str, *, database: str) -> list[tuple[object, ...]]:
        """Execute a statement as the database's owner."""
        import psycopg

        address = f"host=127.0.0.1 port={self.port} user={_USER} dbname={database} options='-c search_path=gonogo'"
        with psycopg.connect(address, autocommit=True) as connection:
            found = connection.execute(statement)
            return [tuple(row) for row in found] if found.description else []

    def cpu_s(self) -> float:
        """Return the CPU seconds of the server's processes since it was started, those that have ended included."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()  # utime, stime, cutime, cstime are 11 to 14
                own, parent = path.parent.name == str(pid), fields[1] == str(pid)
                ticks += sum(map(int, fields[11:15] if own else fields[11:13])) if own or parent else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    def run(self, program: str, *words: str) -> None:
        """Run one of PostgreSQL's programs as the server's user.

        Raises:
            RuntimeError: it fails; the message holds the end of its output and of the server's log.
        """
        found = _program(program)
        assert found is not None
        command = [str(found), *words]
        if os.geteuid() == 0:
            owner = _owner()
            assert owner is not None
            command = ["runuser", "-u", owner, "--", *command]
        with tempfile.TemporaryFile() as output:  # a pipe would stay open as long as the server runs
            done = subprocess.run(command, cwd=self.folder, stdout=output, stderr=output, check=False, timeout=120)
            output.seek(0)
            log = self.folder / "log"
            told = output.read().decode(errors="replace") + (log.read_text() if log.exists() else "")
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{told[-2000:]}")


@contextlib.contextmanager
def server(*, extra: str = "", below: Path | None = None) -> Iterator[Server]:
    """Run a server until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="gonogo-postgres-", dir=below or _reachable()))
    made = Server(folder=folder, port=free_port(), extra=extra)
    try:
        if os.geteuid() == 0:
            owner = _owner()
            assert owner is not None
            shutil.chown(folder, owner)
        made.run("initdb", "-D", f"{folder}/data", "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        made.start()
        yield made
    finally:
        with contextlib.suppress(RuntimeError):
            made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a TCP port that nothing listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _program(name: str) -> Path | None:
    return next((path / name for path in reversed(BINARIES) if (path / name).exists()), None)


def _owner() -> str | None:
    names = {each.pw_name for each in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def _reachable() -> Path:
    """Return a folder for temporary files that the server's user can enter, in memory if there is room."""
    shared = Path("/dev/shm")
    if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > _ROOM_BYTES:
        return shared
    return on_disk()


def on_disk() -> Path:
    """Return a folder for temporary files on a disk that the server's user can enter."""
    places = [Path(tempfile.gettempdir()), Path("/var/tmp")]
    return next(place for place in places if os.geteuid() != 0 or place.stat().st_mode & 0o001)
