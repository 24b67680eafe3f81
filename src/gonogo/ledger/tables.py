"""The ledger's file: making one, and opening it with the one SQLite that is safe for it."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from gonogo.errors import LedgerError
from gonogo.files import require_regular
from gonogo.ledger.formats import APPLICATION_ID, FORMAT, SCHEMA, apsw
from gonogo.ledger.frames import sync_folder
from gonogo.ledger.records import NO_HASH, Opened, RowKind, body_of, row_hash

MAGIC = b"SQLite format 3\0"

# Before it, a WAL that is reset while another process writes can corrupt the file.
SAFE_SQLITE = (3, 51, 3)


def connect(path: Path, *, read_only: bool, timeout_s: float) -> apsw.Connection:
    """Open a ledger's file as it must be opened, without looking at what is in it.

    Raises:
        LedgerError: no such file, not a SQLite file, or a SQLite that is not safe.
    """
    require_safe_sqlite(apsw.sqlite_lib_version())
    if not path.is_file() or path.stat().st_size < len(MAGIC):
        require_sqlite_file(path)
    try:
        connection = _opened(path, read_only=read_only, timeout_s=timeout_s)
    except apsw.Error as error:
        require_sqlite_file(path)
        raise LedgerError(f"{path}: cannot be opened ({error}). Check the file with: gonogo ledger verify") from error
    return connection


def _opened(path: Path, *, read_only: bool, timeout_s: float) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
    connection = apsw.Connection(str(path), flags=flags)
    try:
        _settle(connection, read_only=read_only, timeout_s=timeout_s)
    except apsw.CantOpenError:
        connection.close()
        wal = path.with_name(path.name + "-wal")
        if not read_only or (wal.exists() and wal.stat().st_size):
            raise
        # A read-only folder: SQLite cannot put its -shm file there, and nobody else can be writing either.
        uri = path.resolve().as_uri() + "?immutable=1"
        connection = apsw.Connection(uri, flags=flags | apsw.SQLITE_OPEN_URI)
        _settle(connection, read_only=read_only, timeout_s=timeout_s)
    except apsw.Error:
        connection.close()
        raise
    return connection


def _settle(connection: apsw.Connection, *, read_only: bool, timeout_s: float) -> None:
    connection.set_busy_timeout(round(timeout_s * 1e3))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.pragma("synchronous", "FULL")
    next(connection.execute("SELECT count(*) FROM sqlite_schema"))
    if not read_only:
        mode = connection.pragma("journal_mode", "wal")
        if mode != "wal":
            raise apsw.CantOpenError(f"its disk takes no write-ahead log, only {mode}; a ledger needs a local disk")


def require_safe_sqlite(version: str) -> None:
    """Refuse a SQLite whose write-ahead log can corrupt the file.

    Raises:
        LedgerError: older than `SAFE_SQLITE`.
    """
    if tuple(int(piece) for piece in version.split(".")[:3]) < SAFE_SQLITE:
        least = ".".join(map(str, SAFE_SQLITE))
        raise LedgerError(
            f"expected SQLite {least} or newer (older ones can corrupt a write-ahead log), found {version}. "
            "Upgrade it: pip install --upgrade apsw"
        )


def require_sqlite_file(path: Path) -> None:
    """Refuse what is no SQLite file at all.

    Only for a file that SQLite has refused already: closing one that this process has open as a ledger would drop
    every lock that the process holds on it, as POSIX has it.

    Raises:
        LedgerError: missing, unreadable or something else.
    """
    try:
        require_regular(path)
        with path.open("rb") as file:
            found = file.read(len(MAGIC))
    except OSError as error:
        raise LedgerError(f"{path}: expected a ledger ({error.strerror or error}). Check the path.") from error
    if found != MAGIC:
        raise LedgerError(f"{path}: expected a ledger, found another kind of file. Check the path.")


def create_tables(path: Path) -> None:
    """Make an empty ledger, complete under its final name or not there at all; one already there is left alone.

    Raises:
        LedgerError: the place is not writable, the disk is full, or the log of a ledger that was moved away lies there.
    """
    require_safe_sqlite(apsw.sqlite_lib_version())
    wal = path.with_name(path.name + "-wal")
    if not path.exists() and wal.exists():
        raise LedgerError(
            f"{path}: expected nothing here, found the write-ahead log of a ledger that was moved away ({wal.name}), "
            "which SQLite would play into a new one. Put the ledger back, or move the log to where the ledger is."
        )
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite gives the log and the index beside it the mode of the file itself.
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _fill(partial)
        # A link, unlike a rename, does not replace a ledger that another process made meanwhile.
        os.link(partial, path)
        sync_folder(path.parent)
    except FileExistsError:
        return
    except (OSError, apsw.Error) as error:
        raise LedgerError(
            f"{path}: cannot be made ({error}). Free some space or choose another place on a local disk."
        ) from error
    finally:
        for leftover in (partial, Path(f"{partial}-wal"), Path(f"{partial}-shm")):
            leftover.unlink(missing_ok=True)


def _fill(path: Path) -> None:
    first = body_of(Opened(ledger=secrets.token_hex(16), format=FORMAT), at=datetime.now(UTC))
    connection = apsw.Connection(str(path))
    try:
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "FULL")
        with connection:
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", FORMAT)
            for statement in SCHEMA:
                connection.execute(statement)
            insert(connection, seq=1, kind=RowKind.OPENED, body=first, previous=NO_HASH)
    finally:
        connection.close()


def insert(connection: apsw.Connection, *, seq: int, kind: RowKind, body: str, previous: str) -> str:
    """Write one row inside the caller's transaction and give its hash."""
    digest = row_hash(previous, seq, kind, body.encode())
    connection.execute(
        "INSERT INTO entries (seq, kind, body, previous, sha256) VALUES (?, ?, ?, ?, ?)",
        (seq, str(kind), body, previous, digest),
    )
    return digest


def is_ledger(connection: apsw.Connection) -> bool:
    """Whether this is a ledger, be it changed, and not another program's database."""
    named = next(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'entries'"))[0]
    return bool(named or connection.pragma("application_id") == APPLICATION_ID)
