"""Create a ledger file, and connect to it with a safe version of SQLite."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from gonogo.errors import LedgerError
from gonogo.files import require_regular
from gonogo.ledger.formats import APPLICATION_ID, FORMAT, SCHEMA, apsw
from gonogo.ledger.frames import make_folders, sync_folder
from gonogo.ledger.records import NO_HASH, Opened, RowKind, body_of, row_hash

MAGIC = b"SQLite format 3\0"

# In older versions, a WAL that is reset while another process writes can corrupt the file.
SAFE_SQLITE = (3, 51, 3)


def connect(path: Path, *, read_only: bool, timeout_s: float) -> apsw.Connection:
    """Connect to a ledger file with the required settings, without checking its contents.

    Raises:
        LedgerError: the file does not exist or is not a SQLite file, or the SQLite version is not safe.
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
        _configure(connection, read_only=read_only, timeout_s=timeout_s)
    except apsw.CantOpenError:
        connection.close()
        wal = path.with_name(path.name + "-wal")
        if not read_only or (wal.exists() and wal.stat().st_size):
            raise
        # In a read-only folder SQLite cannot create its -shm file, but nobody else can write either.
        uri = path.resolve().as_uri() + "?immutable=1"
        connection = apsw.Connection(uri, flags=flags | apsw.SQLITE_OPEN_URI)
        _configure(connection, read_only=read_only, timeout_s=timeout_s)
    except apsw.Error:
        connection.close()
        raise
    return connection


def _configure(connection: apsw.Connection, *, read_only: bool, timeout_s: float) -> None:
    connection.set_busy_timeout(round(timeout_s * 1e3))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.pragma("synchronous", "FULL")
    next(connection.execute("SELECT count(*) FROM sqlite_schema"))
    if not read_only:
        mode = connection.pragma("journal_mode", "wal")
        if mode != "wal":
            raise apsw.CantOpenError(
                f"its disk does not support a write-ahead log, only {mode}; a ledger needs a local disk"
            )


def require_safe_sqlite(version: str) -> None:
    """Refuse a SQLite version whose write-ahead log can corrupt the file.

    Raises:
        LedgerError: the version is older than `SAFE_SQLITE`.
    """
    if tuple(map(int, version.split("."))) < SAFE_SQLITE:
        least = ".".join(map(str, SAFE_SQLITE))
        raise LedgerError(
            f"expected SQLite {least} or newer (older ones can corrupt a write-ahead log), found {version}. "
            "Upgrade it: pip install --upgrade apsw"
        )


def require_sqlite_file(path: Path) -> None:
    """Refuse a file that is not a SQLite file.

    Call this only after SQLite has refused the file: by POSIX rules, closing a file that this process has open as a
    ledger would drop all locks that the process holds on it.

    Raises:
        LedgerError: the file is missing, unreadable or not a SQLite file.
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
    """Create an empty ledger atomically; an existing one is left unchanged.

    Raises:
        LedgerError: the folder is not writable, the disk is full, or it holds the log of a ledger that was moved away.
    """
    require_safe_sqlite(apsw.sqlite_lib_version())
    wal = path.with_name(path.name + "-wal")
    if not path.exists() and wal.exists():
        raise LedgerError(
            f"{path}: expected no file here, found the write-ahead log of a ledger that was moved away ({wal.name}), "
            "which SQLite would apply to a new one. Move the ledger back, or move the log to the ledger."
        )
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        make_folders(path.parent)
        try:
            # SQLite creates the -wal and -shm files with the mode of this file.
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            _fill(partial)
            # Unlike a rename, a link does not replace a ledger that another process has just created.
            os.link(partial, path)
            sync_folder(path.parent)
        finally:
            for leftover in (partial, Path(f"{partial}-wal"), Path(f"{partial}-shm")):
                leftover.unlink(missing_ok=True)
    except FileExistsError:
        return
    except (OSError, apsw.Error) as error:
        raise LedgerError(
            f"{path}: cannot be created ({error}). Free some space or choose another folder on a local disk."
        ) from error


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
    """Insert a row inside the caller's transaction and return its hash."""
    digest = row_hash(previous, seq, kind, body.encode())
    connection.execute(
        "INSERT INTO entries (seq, kind, body, previous, sha256) VALUES (?, ?, ?, ?, ?)",
        (seq, str(kind), body, previous, digest),
    )
    return digest


def is_ledger(connection: apsw.Connection) -> bool:
    """Whether this is a ledger, even a changed one, and not another program's database."""
    named = next(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'entries'"))[0]
    return bool(named or connection.pragma("application_id") == APPLICATION_ID)
