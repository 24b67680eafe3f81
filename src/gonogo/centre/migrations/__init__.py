"""The tables of the centre and their history, for Alembic. Tables are only ever brought forward.

To change the tables, add a revision with the next number to ``versions`` and set `gonogo.centre.database.REVISION`;
never edit a released one.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from gonogo.errors import LedgerError

VERSION_TABLE = "revision"


def upgrade(connection: Connection, schema: str) -> bool:
    """Create or migrate the tables inside the caller's transaction.

    Returns:
        Whether anything was changed.

    Raises:
        LedgerError: the tables were made by a newer version of gonogo.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes.update(connection=connection, schema=schema, table=VERSION_TABLE)
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
    options = {"version_table": VERSION_TABLE, "version_table_schema": schema}
    found = MigrationContext.configure(connection, opts=options).get_current_revision()
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    if found == known[0]:
        return False
    if found is not None and found not in known:
        raise LedgerError(
            f"expected tables of revision {known[0]} or older, found {found}, of a newer gonogo. Upgrade gonogo here."
        )
    command.upgrade(config, "head")
    return True
