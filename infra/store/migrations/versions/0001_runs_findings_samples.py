"""Runs, findings, samples and the last counters of each host."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from alembic import op

from infra.store.tables import BIG_ID, UtcDateTime

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def of_run() -> tuple[sa.Column[str] | sa.Column[int] | sa.Column[datetime] | sa.ForeignKeyConstraint, ...]:
    """The columns and the constraint that tie a row to its run."""
    return (
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["run_id", "attempt"], ["runs.run_id", "runs.attempt"], ondelete="CASCADE"),
    )


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("procedure", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(32), nullable=False),
        sa.Column("environment", sa.String(128)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=False),
    )
    op.create_index("ix_runs_procedure_started_at", "runs", ["procedure", "started_at"])
    op.create_table(
        "findings",
        sa.Column("id", BIG_ID, primary_key=True),
        *of_run(),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("check", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("environment", sa.String(128), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("host", sa.String(255)),
        sa.Column("value", sa.Float),
        sa.Column("unit", sa.String(16), nullable=False),
        sa.Column("threshold", sa.Text, nullable=False),
        sa.Column("advice", sa.Text, nullable=False),
        sa.Column("caused_by", sa.Text),
        sa.Column("scope", sa.String(32), nullable=False),
    )
    op.create_index("ix_findings_run", "findings", ["run_id", "attempt", "position"])
    op.create_index("ix_findings_at", "findings", ["at"])
    op.create_table(
        "samples",
        sa.Column("id", BIG_ID, primary_key=True),
        *of_run(),
        sa.Column("environment", sa.String(128), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("metric", sa.String(96), nullable=False),
        sa.Column("value", sa.Float, nullable=False),
    )
    op.create_index("ix_samples_series", "samples", ["environment", "subject", "metric", "at"])
    op.create_index("ix_samples_run", "samples", ["run_id", "attempt"])
    op.create_index("ix_samples_at", "samples", ["at"])
    op.create_table(
        "counters",
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("read_at", UtcDateTime(), nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("counters", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    """Refuse: a store is restored from its backup, not migrated backwards."""
    raise NotImplementedError("restore the store from its backup")
