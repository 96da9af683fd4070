"""The tables of the store. Instants are aware UTC; a changed table needs a migration beside this file.

A run is one attempt of one flow run: a retry of a failed run is a new row with the same `run_id`. What a run
found and measured belongs to it and goes with it, or when its retention ends (`infra.store.runs.expire`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

BIG_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts rowids only for INTEGER


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant, kept in UTC; SQLite has no zones, so it keeps the bare UTC time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse what has no zone, turn the rest into UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone; accepted: aware datetimes")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Table(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: JSON}  # noqa: RUF012 (SQLAlchemy's name)


def _of_run() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["run_id", "attempt"], ["runs.run_id", "runs.attempt"], ondelete="CASCADE")


class Run(Table):
    """One attempt of one flow run; `status` is the worst of its findings that count."""

    __tablename__ = "runs"
    __table_args__ = (Index("ix_runs_procedure_started_at", "procedure", "started_at"),)

    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    procedure: Mapped[str] = mapped_column(String(64))
    scope: Mapped[str] = mapped_column(String(32))
    environment: Mapped[str | None] = mapped_column(String(128))
    status: Mapped[str] = mapped_column(String(16))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]


class FindingRow(Table):
    """One finding; `position` is its place in the run's own order."""

    __tablename__ = "findings"
    __table_args__ = (
        _of_run(),
        Index("ix_findings_run", "run_id", "attempt", "position"),
        Index("ix_findings_at", "at"),
    )

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    run_id: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[int]
    position: Mapped[int]
    at: Mapped[datetime]
    check: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(Text)
    environment: Mapped[str] = mapped_column(String(128))
    status: Mapped[str] = mapped_column(String(16))
    summary: Mapped[str] = mapped_column(Text)
    host: Mapped[str | None] = mapped_column(String(255))
    value: Mapped[float | None]
    unit: Mapped[str] = mapped_column(String(16))
    threshold: Mapped[str] = mapped_column(Text)
    advice: Mapped[str] = mapped_column(Text)
    caused_by: Mapped[str | None] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(String(32))


class SampleRow(Table):
    """One measured number."""

    __tablename__ = "samples"
    __table_args__ = (
        _of_run(),
        Index("ix_samples_series", "environment", "subject", "metric", "at"),
        Index("ix_samples_run", "run_id", "attempt"),
        Index("ix_samples_at", "at"),
    )

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    run_id: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[int]
    at: Mapped[datetime]
    environment: Mapped[str] = mapped_column(String(128))
    subject: Mapped[str] = mapped_column(Text)
    metric: Mapped[str] = mapped_column(String(96))
    value: Mapped[float]


class CountersRow(Table):
    """The last counters of a host, so that the next run can tell what was added since."""

    __tablename__ = "counters"

    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    read_at: Mapped[datetime]
    boot_id: Mapped[str] = mapped_column(String(64))
    counters: Mapped[dict[str, Any]]
