"""Scheduled runs that come too late are skipped, so that a long stop does not end in a queue of old runs.

The law: a run that a schedule made is stale when it starts at or after the time of its successor. It then
ends as `Skipped`, a state of type Completed: neither a failure nor a result. Only its first start is judged:
a run that a person retries, or that an approval resumes, goes on however old it is. Runs that a person or
another program made are never skipped. Prefect itself would execute them all (its issue 15886).
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.states import Completed
from pydantic import TypeAdapter

SKIPPED = "Skipped"

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)


def skip_if_stale(procedure: Callable[P, R]) -> Callable[P, R | State[Any]]:
    """Decorate a flow's function, below `@flow`: a stale scheduled run ends before the function is entered.

    The first run that starts after a stop also ends its stale siblings that still wait: no process for each.
    """

    @functools.wraps(procedure)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | State[Any]:
        context = FlowRunContext.get()
        run = context.flow_run if context else None
        if isinstance(run, FlowRun) and run.auto_scheduled and run.deployment_id and run.run_count <= 1:
            with get_client(sync_client=True) as client:
                schedules = client.read_deployment(run.deployment_id).schedules
                skip_siblings(client, run, schedules)
            started = run.start_time or datetime.now(UTC)
            if (due := successor_of(run, schedules)) and started >= due:
                return skipped(run, due)
        return procedure(*args, **kwargs)

    return guarded


def skip_siblings(client: SyncPrefectClient, run: FlowRun, schedules: list[DeploymentSchedule]) -> None:
    """End the deployment's other stale runs that have not started."""
    now = datetime.now(UTC)
    waiting = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            id=FlowRunFilterId(not_any_=[run.id]),
            deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id] if run.deployment_id else []),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=now),
        ),
        limit=200,
    )
    for sibling in waiting:
        due = successor_of(sibling, schedules) if sibling.auto_scheduled and not sibling.run_count else None
        if due and now >= due:
            client.set_flow_run_state(sibling.id, skipped(sibling, due), force=True)


def skipped(run: FlowRun, due: datetime) -> State[Any]:
    """The final state of a stale run."""
    sentence = f"it was due {run.expected_start_time:%Y-%m-%d %H:%M:%S %Z}, and the next one {due:%H:%M:%S}"
    log.info("skipped %s: %s", run.name, sentence)
    return Completed(name=SKIPPED, message=sentence)


def successor_of(run: FlowRun, schedules: list[DeploymentSchedule]) -> datetime | None:
    """When the schedule that made a run wants the next one; None when that schedule is gone."""
    maker = run.created_by
    if maker is None or run.expected_start_time is None:
        return None
    schedule = next(
        (s for s in schedules if s.id == maker.id or (s.slug and s.slug == maker.display_value)), None
    )
    return next_due(schedule, run.expected_start_time) if schedule else None


def next_due(schedule: DeploymentSchedule, after: datetime) -> datetime | None:
    """The first time of a schedule after an instant, by Prefect's own scheduler's rules; None at its end."""
    rules: TypeAdapter[CronSchedule | IntervalSchedule | RRuleSchedule] = TypeAdapter(
        CronSchedule | IntervalSchedule | RRuleSchedule
    )
    times = rules.validate_python(schedule.schedule.model_dump())
    dates = asyncio.run(times.get_dates(n=2, start=after + timedelta(seconds=1)))
    return next((date for date in dates if date > after), None)
