"""Alembic's entry: runs the revisions on the connection of `gonogo.centre.migrations.upgrade`."""

from __future__ import annotations

from alembic import context

given = context.config.attributes
context.configure(connection=given["connection"], version_table=given["table"], version_table_schema=given["schema"])
context.run_migrations()
