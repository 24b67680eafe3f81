"""The centre's database: connect, prepare its tables, and open its chains as ledgers."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy import Engine as Pool
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError

from gonogo.centre.address import masked, read_address, without_secrets
from gonogo.centre.chains import Chain, ChainForked, create_chain, read_chains, receive, record_alarm
from gonogo.centre.frames import NoFrames, SharedFrames, open_frames
from gonogo.centre.postgres import PostgresEngine
from gonogo.errors import InputError, LedgerError
from gonogo.ledger import ChainHead, FrameStore, Ledger, StoredRow

REVISION = "0002"
"""The newest revision of the tables; see `gonogo.centre.migrations`."""
SCHEMA = "gonogo"
_OLDEST_SERVER = 150_000  # the first with views that respect the rights of who asks
_PREPARING = 0x474E4C30  # the advisory lock of programs that create or migrate the tables

# A commit is acknowledged when it is on the centre's disk, whatever the server's default is.
_OPTIONS = f"-c search_path={SCHEMA} -c synchronous_commit=on -c timezone=UTC -c lock_timeout=30s"
_CONNECTION = {
    "connect_timeout": 10,
    # A cut network shows after 20 seconds instead of after many minutes.
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "gonogo",
    "options": _OPTIONS,
}


class CentreUnreachable(LedgerError):  # noqa: N818  a state, as `ConnectionRefused`
    """The centre cannot be reached, is restarting or full; what was not acknowledged may be sent again."""


class Centre:
    """A connected centre. Safe to share between threads; create it with `connect`."""

    def __init__(self, pool: Pool, url: URL) -> None:
        self._pool = pool
        self._autocommit = pool.execution_options(isolation_level="AUTOCOMMIT")  # the same connections
        self._url = url

    @classmethod
    def connect(cls, address: str, *, connections: int = 4) -> Self:
        """Read the address; the first connection is made when it is needed.

        Args:
            address: ``@FILE``, ``env:NAME`` or a URL without a password; see `gonogo.centre.address.read_address`.
            connections: Largest number of simultaneous connections.

        Raises:
            InputError: the address is no address of a PostgreSQL database.
        """
        url = read_address(address)
        pool = create_engine(url, connect_args=_CONNECTION, pool_size=connections, max_overflow=0)
        event.listen(pool, "checkout", _require_alive)
        return cls(pool, url)

    @property
    def name(self) -> str:
        """The address for messages, without the password."""
        return masked(self._url)

    def url_for(self, login: str, password: str) -> str:
        """Return the URL of the same database for another login, without this one's parameters."""
        url = URL.create("postgresql", login, password, self._url.host, self._url.port, self._url.database)
        return url.render_as_string(hide_password=False)

    def close(self) -> None:
        """Close all connections."""
        self._pool.dispose()

    @contextmanager
    def begin(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """Provide a connection in a transaction, committed at the end of the block.

        Args:
            autocommit: Commit each statement by itself, without round trips of its own.

        Raises:
            CentreUnreachable: the centre does not answer, is restarting or its disk is full. If the connection broke
                during the commit, the transaction may have been committed or not.
            LedgerError: the database refuses the statement.
        """
        try:
            with (self._autocommit if autocommit else self._pool).begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._explained(getattr(error, "orig", None) or error) from error
        except _driver_errors() as error:  # of `receive`, which bypasses SQLAlchemy
            raise self._explained(error) from error

    def _explained(self, cause: BaseException) -> LedgerError:
        import psycopg

        said = without_secrets(" ".join(str(cause).split())[:500], self._url)
        state = getattr(cause, "sqlstate", None) or ""
        if state in _UNPREPARED:
            return LedgerError(
                f"{self.name}: the tables are missing or of an older version ({said}). An administrator prepares them "
                "with: gonogo ledger prepare"
            )
        if state == _NO_PRIVILEGE:
            return LedgerError(
                f"{self.name}: this login may not do that ({said}). A station's login writes the chain of its station "
                "alone; an administrator creates one with: gonogo ledger prepare --station"
            )
        if state[:2] == _VIOLATION:
            return ChainForked(f"{self.name}: a row was refused ({said}); nothing was stored. Verify the ledger.")
        passing = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
        if passing or state[:2] in _PASSING:
            return CentreUnreachable(f"{self.name}: {said}. What was not acknowledged is kept and sent again.")
        return LedgerError(f"{self.name}: refused ({said}).")

    # --- tables

    def prepare(self) -> bool:
        """Create the tables, or migrate those of an older version; concurrent calls wait for each other.

        Returns:
            Whether anything was changed.

        Raises:
            LedgerError: the user may not create tables, the database is not in UTF-8, PostgreSQL is older than 15, or
                a newer version made its tables.
        """
        if self.revision() == REVISION:
            return False
        from gonogo.centre.migrations import upgrade

        with self.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PREPARING})
            encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
            if encoding != "UTF8":
                raise LedgerError(f"{self.name}: expected a database in UTF8, found {encoding}. Create another one.")
            version = connection.execute(text("SHOW server_version_num")).scalar_one()
            if int(version) < _OLDEST_SERVER:
                found = connection.execute(text("SHOW server_version")).scalar_one()
                raise LedgerError(f"{self.name}: expected PostgreSQL 15 or newer, found {found}. Upgrade the server.")
            return upgrade(connection, SCHEMA)

    def revision(self) -> str | None:
        """Return the revision of the tables; ``None`` if there are none."""
        with self.begin() as connection:
            if connection.execute(text("SELECT to_regclass(:name)"), {"name": f"{SCHEMA}.revision"}).scalar() is None:
                return None
            found = connection.execute(text("SELECT version_num FROM revision")).scalar()
            return None if found is None else str(found)

    # --- chains

    def chains(self) -> list[Chain]:
        """Return all chains, in order of their names."""
        with self.begin() as connection:
            return read_chains(connection)

    def chain(self, name: str) -> Chain:
        """Return the chain of a name.

        Raises:
            InputError: there is none.
        """
        with self.begin() as connection:
            found = read_chains(connection, name)
            if not found:
                known = ", ".join(each.name for each in read_chains(connection)[:20]) or "none"
                raise InputError(f"{self.name}: expected the name of a chain ({known}), found {name!r}.")
        return found[0]

    def forwarded_chain(self, name: str) -> Chain:
        """Return the chain for a ledger elsewhere, created if there is none.

        Raises:
            LedgerError: the chain takes rows of programs at the centre, which no ledger elsewhere can continue.
        """
        found = self._chain(name, forwarded=True)
        if not found.forwarded:
            raise LedgerError(f"{self.name}: chain {name} is written at the centre. Forward under another name.")
        return found

    def _chain(self, name: str, *, forwarded: bool, frames: str | None = None) -> Chain:
        """Return the chain of a name, created if there is none."""
        with self.begin() as connection:
            if not read_chains(connection, name):
                create_chain(connection, name, forwarded=forwarded, frames=frames)
            return read_chains(connection, name)[0]

    def receive(self, chain: Chain, rows: Sequence[StoredRow]) -> ChainHead:
        """Store rows exactly once; durable at the centre when this returns. See `gonogo.centre.chains.receive`.

        Raises:
            ChainForked: the rows do not continue the chain, or do not match their hashes; an alarm is recorded there.
            CentreUnreachable: the rows may have been stored or not; send them again.
        """
        try:
            with self.begin(autocommit=True) as connection:
                return receive(connection, chain, rows)
        except ChainForked as refused:
            self.alarm(chain, str(refused))
            raise

    def alarm(self, chain: Chain, what: str) -> None:
        """Record an alarm about a chain."""
        with self.begin() as connection:
            record_alarm(connection, chain.id, what)

    def ledger(
        self,
        name: str,
        *,
        create: bool = False,
        frames: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Ledger:
        """Open a chain as a ledger, with the questions of `gonogo.ledger.Ledger`; frames come from the chain's store.

        Args:
            name: Name of the chain.
            create: Create the chain if there is none, for rows of this program's own.
            frames: URL of the store of its frames, for a new chain.
            now: Clock for the time of rows.

        Raises:
            InputError: there is no such chain.
        """
        chain = self._chain(name, forwarded=False, frames=frames) if create else self.chain(name)
        engine = PostgresEngine(self.begin, chain, shown=f"{self.name} chain {name}")
        ledger = Ledger(engine, self.frames(chain), now=now)
        if create and chain.head.seq == 0:
            engine.open_chain()
        return ledger

    def frames(self, chain: Chain) -> FrameStore | SharedFrames | NoFrames:
        """Return the store of a chain's frames."""
        return NoFrames() if chain.frames is None else open_frames(chain.frames)


_UNPREPARED = ("42P01", "3F000", "42883")  # no such table, schema, function
_NO_PRIVILEGE = "42501"
_VIOLATION = "23"
_PASSING = ("08", "53", "57", "58", "40", "55")  # connection, resources, restart, disk, conflict, locks


def _require_alive(driver: Any, *_: object) -> None:
    """Before a connection is used again, see whether the server has closed it; this needs no round trip."""
    try:
        with selectors.DefaultSelector() as ready:
            ready.register(driver.fileno(), selectors.EVENT_READ)
            closed = bool(ready.select(0))
    except _driver_errors():  # closed here already
        closed = True
    if closed:
        raise DisconnectionError


def _driver_errors() -> type[Exception]:
    import psycopg

    return psycopg.Error
