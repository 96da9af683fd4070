"""Runs with their findings and samples: recorded whole or not at all, read back as a report, then expired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, and_, delete, insert, select
from sqlalchemy.orm import Session

from infra.findings import Finding, Sample, Scope, Status, SubjectKind
from infra.report import RunReport
from infra.store.session import reading, writing
from infra.store.tables import FindingRow, Run, SampleRow

KEEP = timedelta(days=400)  # a year to compare with, and a month of slack
KEEP_GOOD_FINDINGS = timedelta(days=14)  # "all well" says nothing that the samples do not
EXPIRE_AT_ONCE = 20_000  # rows; several times what one run of a large fleet adds


def record_run(report: RunReport, samples: Sequence[Sample], *, url: str | None = None) -> None:
    """Remember a run, in place of what the same attempt recorded before; drop what is past its retention.

    Raises:
        ServiceUnavailable: the store cannot be used.
    """
    ours = {"run_id": report.run_id, "attempt": report.attempt}
    common = {**ours, "at": report.started_at}
    with writing(url) as session:
        session.execute(delete(Run).where(Run.run_id == report.run_id, Run.attempt == report.attempt))
        session.execute(insert(Run).values(**ours, **_columns_of(report)))
        if report.findings:
            rows = [_row(f, common) | {"position": n} for n, f in enumerate(report.findings)]
            session.execute(insert(FindingRow), rows)
        if samples:
            session.execute(insert(SampleRow), [_row(s, common) for s in samples])
        expire(session, report.finished_at)


def _row(thing: Finding | Sample, common: Mapping[str, Any]) -> dict[str, Any]:
    """Its fields as columns; not `dataclasses.asdict`, which copies deeply and takes ten times as long."""
    return {**common, **{field.name: getattr(thing, field.name) for field in fields(thing)}}


def _columns_of(report: RunReport) -> dict[str, Any]:
    return {
        "procedure": report.procedure,
        "scope": report.scope.value,
        "environment": report.environment,
        "status": report.status.value,
        "started_at": report.started_at,
        "finished_at": report.finished_at,
    }


def read_report(run_id: str, *, url: str | None = None) -> RunReport | None:
    """The report of a run's latest attempt; None when the run recorded nothing.

    Raises:
        ServiceUnavailable: the store cannot be used.
    """
    with reading(url) as session:
        return _report(session, Run.run_id == run_id)


def read_latest_report(
    procedure: str, *, scope: Scope | None = None, environment: str | None = None, url: str | None = None
) -> RunReport | None:
    """The newest report of a procedure, of one scope or environment if given; None when there is none."""
    wanted = [Run.procedure == procedure]
    if scope is not None:
        wanted.append(Run.scope == scope.value)
    if environment is not None:
        wanted.append(Run.environment == environment)
    with reading(url) as session:
        return _report(session, *wanted)


def read_samples(
    environment: str, subject: str, metric: str, since: datetime, *, url: str | None = None
) -> tuple[tuple[datetime, float], ...]:
    """One series, oldest first."""
    with reading(url) as session:
        query = select(SampleRow.at, SampleRow.value).where(
            SampleRow.environment == environment,
            SampleRow.subject == subject,
            SampleRow.metric == metric,
            SampleRow.at >= since,
        )
        return tuple((at, value) for at, value in session.execute(query.order_by(SampleRow.at)))


def expire(session: Session, now: datetime) -> int:
    """Remove what is past its retention, a bounded number of rows at a time.

    Returns:
        How many rows were removed.
    """
    good = FindingRow.status.in_([Status.OK.value, Status.SKIPPED.value])
    past = (
        (SampleRow.id, SampleRow.at < now - KEEP),
        (FindingRow.id, and_(FindingRow.at < now - KEEP_GOOD_FINDINGS, good)),
        (FindingRow.id, FindingRow.at < now - KEEP),
    )
    removed = 0
    for row_id, is_past in past:
        some = select(row_id).where(is_past).limit(EXPIRE_AT_ONCE)
        answer = session.execute(delete(row_id.class_).where(row_id.in_(some)))
        removed += cast("CursorResult[Any]", answer).rowcount
    return removed


def _report(session: Session, *wanted: ColumnElement[bool]) -> RunReport | None:
    newest = select(Run).where(*wanted).order_by(Run.started_at.desc(), Run.attempt.desc()).limit(1)
    run = session.scalars(newest).one_or_none()
    if run is None:
        return None
    rows = session.scalars(
        select(FindingRow)
        .where(FindingRow.run_id == run.run_id, FindingRow.attempt == run.attempt)
        .order_by(FindingRow.position)
    )
    return RunReport(
        run_id=run.run_id,
        attempt=run.attempt,
        procedure=run.procedure,
        scope=Scope(run.scope),
        environment=run.environment,
        started_at=run.started_at,
        finished_at=run.finished_at,
        findings=tuple(_finding(row) for row in rows),
    )


def _finding(row: FindingRow) -> Finding:
    return Finding(
        check=row.check,
        kind=SubjectKind(row.kind),
        subject=row.subject,
        environment=row.environment,
        status=Status(row.status),
        summary=row.summary,
        host=row.host,
        value=row.value,
        unit=row.unit,
        threshold=row.threshold,
        advice=row.advice,
        caused_by=row.caused_by,
        scope=Scope(row.scope),
    )
