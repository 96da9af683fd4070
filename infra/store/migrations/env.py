"""Run by Alembic: migrations use the connection that `infra.store.migrate` hands over, in its transaction."""

from alembic import context

from infra.store.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
context.run_migrations()
