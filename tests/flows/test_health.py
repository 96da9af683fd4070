"""The flow on an estate in memory, against a real Prefect server."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import ParameterTypeError
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry

from flows.health import health
from infra.errors import BadSetting, HostKeyRefused
from infra.findings import Status
from infra.report import RunReport
from infra.store.runs import read_report
from tasks.health import steps
from tests.flows.estate import Estate, estate

__all__ = ["estate"]

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server", "quick")]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps with shorter waits."""
    monkeypatch.setattr(steps, "revisit", steps.revisit.with_options(retry_delay_seconds=[0.3, 0.3]))
    monkeypatch.setattr(steps, "RATES_OVER_S", 0.0)


def run(**parameters: Any) -> tuple[State[Any], RunReport]:
    """Run the flow; what it ended in and what it recorded."""
    state = health(**parameters, return_state=True)
    report = read_report(str(state.state_details.flow_run_id))
    assert report is not None
    return state, report


def tasks_of(report: RunReport) -> dict[str, TaskRun]:
    with get_client(sync_client=True) as client:
        only = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(report.run_id)]))
        return {task.name: task for task in client.read_task_runs(flow_run_filter=only)}


def problems(report: RunReport) -> list[tuple[Status, str, str]]:
    return [(f.status, f.check, f.subject) for f in report.findings if f.counts and f.status is not Status.OK]


def test_an_estate_that_is_well_ends_completed_and_says_so(estate: Estate) -> None:
    state, report = run()
    assert (state.type, report.status) == ("COMPLETED", Status.OK)
    assert state.message is not None
    assert state.message.startswith("ok: ")
    assert problems(report) == []
    assert {f.subject for f in report.findings} >= {"web-1", "web-2", "db-1", "web-1:/"}


def test_every_step_is_a_task_with_a_readable_name(estate: Estate) -> None:
    _, report = run()
    assert set(tasks_of(report)) == {
        "read-estate", "sweep-fleet", "probe-endpoints", "probe-tls", "resolve-names",
        "measure-latency", "read-counters", "judge", "record", "publish",
    }  # fmt: skip


def test_a_host_that_comes_back_shows_awaiting_retry_and_then_completed(estate: Estate) -> None:
    estate.silent["web-1"] = 1
    state, report = run()
    assert state.is_completed()
    task = tasks_of(report)["revisit-web-1"]
    with get_client(sync_client=True) as client:
        names = [s.name for s in client.read_task_run_states(task.id)]
    assert names == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    assert [name for name in tasks_of(report) if name.startswith("revisit")] == ["revisit-web-1"]


def test_a_host_that_stays_down_is_one_critical_finding_and_the_rest_is_checked_on(estate: Estate) -> None:
    estate.silent["web-1"] = 99
    estate.down.add("http://web-1.example/healthz")
    state, report = run()
    assert problems(report) == [(Status.CRITICAL, "reachability", "web-1")]
    assert state.is_failed()
    assert state.message is not None
    assert "no answer on 198.18.0.11:22" in state.message
    task = tasks_of(report)["revisit-web-1"]
    assert (task.state_type, task.run_count) == ("FAILED", 3)
    assert task.state is not None
    assert task.state.message == "web-1: no answer on 198.18.0.11:22 within 5 s"
    assert report.folded == 1
    assert "web-2:/" in {f.subject for f in report.findings}


def test_a_failure_that_no_further_attempt_can_mend_is_not_tried_again(estate: Estate) -> None:
    estate.refused["db-1"] = HostKeyRefused("its key is not the recorded one", host="db-1")
    _, report = run()
    assert "revisit-db-1" not in tasks_of(report)
    assert estate.reads["db-1"] == 1
    assert [subject for _, _, subject in problems(report)] == ["db-1"]


def test_a_stopped_unit_explains_the_endpoint_behind_it(estate: Estate) -> None:
    estate.stopped.add("web-1/shop.service")
    estate.down.add("http://web-1.example/healthz")
    _, report = run()
    assert len(problems(report)) == 1
    assert report.folded == 1


@pytest.mark.parametrize(("fail_on", "ends"), [("warning", "FAILED"), ("critical", "COMPLETED")])
def test_the_run_fails_at_the_status_that_was_asked_for(estate: Estate, fail_on: str, ends: str) -> None:
    limits = {"disk_space_percent": {"warning": 20, "critical": 90}}
    state, report = run(fail_on=fail_on, thresholds=limits, hosts=["db-1"])
    assert report.status is Status.WARNING
    assert state.type == ends


def test_a_run_that_never_fails_still_says_the_worst(estate: Estate) -> None:
    estate.refused["db-1"] = HostKeyRefused("its key is not the recorded one", host="db-1")
    state, _ = run(fail_on="never")
    assert state.is_completed()
    assert state.message is not None
    assert "its key is not the recorded one" in state.message


def test_named_hosts_alone_are_read_with_their_endpoints(estate: Estate) -> None:
    _, report = run(hosts=["web-2"])
    assert set(estate.reads) == {"web-2"}
    assert {f.host for f in report.findings} == {"web-2"}
    assert "http://web-2.example/healthz" in {f.subject for f in report.findings}


def test_where_nothing_is_configured_the_run_says_so_and_is_neither_ok_nor_failed(estate: Estate) -> None:
    state, report = run(environment="staging")
    assert (state.type, state.name) == ("COMPLETED", "NothingConfigured")
    assert state.message == "skipped: nothing is configured for the scope infrastructure in staging"
    assert report.status is Status.SKIPPED


def test_the_artifacts_show_the_worst_first(estate: Estate) -> None:
    estate.refused["db-1"] = HostKeyRefused("its key is not the recorded one", host="db-1")
    _, report = run(environment="production")
    with get_client(sync_client=True) as client:
        only = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(report.run_id)]))
        artifacts = {a.key: a for a in client.read_artifacts(artifact_filter=only)}
    assert set(artifacts) == {"health-all-production", "health-all-production-summary"}
    table, text = artifacts["health-all-production"], artifacts["health-all-production-summary"]
    assert '"subject": "db-1"' in str(table.data)[:200]
    assert "its key is not the recorded one" in str(text.data)


def test_retrying_a_failed_run_runs_it_from_the_top_as_a_second_attempt(estate: Estate) -> None:
    estate.silent["web-1"] = 3
    state, first = run()
    assert state.is_failed()
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(first.run_id), AwaitingRetry(), force=True)  # what the button does
        again = client.read_flow_run(UUID(first.run_id))
    ended = run_flow(health, flow_run=again, parameters={}, return_type="state")
    assert isinstance(ended, State)
    assert ended.is_completed()
    second = read_report(first.run_id)
    assert second is not None
    assert (second.attempt, second.status) == (2, Status.OK)


def test_a_host_that_is_not_in_the_inventory_ends_the_run_with_what_is(estate: Estate) -> None:
    with pytest.raises(BadSetting, match=r"parameter host = 'web-9'.*db-1, web-1, web-2"):
        health(hosts=["web-9"])
    assert not estate.reads


def test_a_scope_that_is_not_there_yet_is_refused_with_those_that_are(estate: Estate) -> None:
    with pytest.raises(ParameterTypeError, match="'all' or 'infrastructure'"):
        health(scope="database")
    assert not estate.reads
