"""Results as rows of a table in PostgreSQL or SQLite; the primary key drops doubles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Engine,
    Float,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from gonogo.errors import InputError
from gonogo.results.credentials import read_secret
from gonogo.results.delivery import Delivery, DeliveryError
from gonogo.results.document import moment_of

_EXPECTED = "postgresql://user:password@host/database or sqlite:////folder/file.db"
_TEXTS = ("about", "station", "trigger_id", "part", "lot", "product", "serial", "state", "kind", "cause", "reason")
_DECIDED = ("who", "label", "defect")
_REFUSALS = ("password authentication failed", "permission denied", "does not exist", "readonly database")


def results_table(name: str) -> Table:
    """Return the table: one row for each verdict and each decision, with the whole document."""
    return Table(
        name,
        MetaData(),
        Column("result_id", Text, primary_key=True),
        Column("type", Text, nullable=False),
        *(Column(text, Text) for text in (*_TEXTS, *_DECIDED)),
        Column("score", Float),
        Column("triggered_at", DateTime(timezone=True)),
        Column("recorded_at", DateTime(timezone=True), nullable=False, index=True),
        Column("ledger", Text, nullable=False),
        Column("row", BigInteger, nullable=False),
        Column("document", Text, nullable=False),
    )


class SqlTable:
    """One table; a batch is one transaction."""

    def __init__(self, url_file: Path, table: str) -> None:
        self._url_file, self._table = url_file, results_table(table)
        self._engine: Engine | None = None
        self._url: URL | None = None

    def deliver(self, batch: Sequence[Delivery]) -> None:
        """Insert what is not there yet."""
        try:
            engine = self._engine or self._connect()
            dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
            insert = dialect.insert(self._table).on_conflict_do_nothing(index_elements=["result_id"])
            with engine.begin() as connection:
                connection.execute(insert, [_row(each) for each in batch])
        except SQLAlchemyError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the connections; the next delivery reads the URL again and creates the table if it is gone."""
        if self._engine is not None:
            self._engine.dispose()
        self._engine = None

    def _connect(self) -> Engine:
        self._url = self._read_url()
        if self._url.drivername == "sqlite":
            engine = create_engine(self._url, connect_args={"timeout": 10}, poolclass=NullPool)
            event.listen(engine, "connect", _durable)
        else:
            options = {"connect_timeout": 10, "options": "-c statement_timeout=30000"}
            engine = create_engine(self._url, pool_size=1, max_overflow=0, connect_args=options)
        self._engine = engine
        try:
            self._table.metadata.create_all(engine, checkfirst=True)
        except (IntegrityError, OperationalError, ProgrammingError):
            # another station may have created it at the same moment: then it is there now
            self._table.metadata.create_all(engine, checkfirst=True)
        return engine

    def _read_url(self) -> URL:
        text = read_secret(self._url_file, f"the URL of a database, {_EXPECTED},")
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            raise InputError(f"{self._url_file}: expected {_EXPECTED}, found something else.") from None
        drivers = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}
        driver = drivers.get(url.drivername.partition("+")[0])
        if driver is None or not url.database or url.database == ":memory:":
            raise InputError(f"{self._url_file}: expected {_EXPECTED}, found another kind or no database.")
        if driver == "sqlite" and not Path(url.database).is_absolute():
            raise InputError(f"{self._url_file}: expected an absolute path, sqlite:////folder/file.db, found another.")
        return url.set(drivername=driver)

    def _failed(self, error: SQLAlchemyError) -> DeliveryError:
        """Describe a failure with the driver's own first line, without statement, values and passwords."""
        lines = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines() or [""]
        said = lines[0]
        password = None if self._url is None or self._url.password is None else str(self._url.password)
        said = said.replace(password, "***") if password else said
        shown = "the database" if self._url is None else self._url.render_as_string(hide_password=True)
        return DeliveryError(
            f"{shown.partition('?')[0]}: cannot be written ({said}).",
            refused=any(each in str(getattr(error, "orig", "")) for each in _REFUSALS),
        )


def _durable(connection: Any, _: object) -> None:
    connection.execute("PRAGMA synchronous=FULL")


def _row(each: Delivery) -> dict[str, Any]:
    document = each.document
    names = ("result_id", "type", *_TEXTS, *_DECIDED, "score", "triggered_at", "ledger", "row")
    found = {name: getattr(document, name, None) for name in names}
    plain = {name: str(value) if name in ("state", "label") and value else value for name, value in found.items()}
    return {**plain, "recorded_at": moment_of(document), "document": each.content.decode()}
