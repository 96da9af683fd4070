"""Is the estate well? Read every host and everything that must answer, judge it, remember it, and say it.

Safe to run at any time and at any rate: it changes nothing. A retry runs it from the top.
"""

# No postponed annotations: Prefect reads them through the guard below `@flow`, whose module lacks them.
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from infra.inventory import Thresholds
from tasks.health import steps
from tasks.scheduling import skip_if_stale

WorkingScope = Literal["all", "infrastructure"]  # the other scopes join when they work
FailOn = Literal["warning", "unknown", "critical", "never"]


@flow(
    name="health",
    task_runner=ThreadPoolTaskRunner(max_workers=64),  # type: ignore[arg-type]
)
@skip_if_stale
def health(
    scope: Annotated[WorkingScope, Field(description="What to look at; all is what exists.")] = "all",
    environment: Annotated[str | None, Field(description="One environment; not given: all.")] = None,
    hosts: Annotated[list[str] | None, Field(description="Only these hosts; not given: all.")] = None,
    thresholds: Annotated[Thresholds | None, Field(description="Limits for this run.")] = None,
    fail_on: Annotated[FailOn, Field(description="The run fails at this status or worse.")] = "critical",
) -> State[Any]:
    """Check the estate's health and end in the state that the verdict asks for."""
    run = steps.begin("health", scope, environment)
    estate = steps.read_estate(environment, hosts, thresholds)
    swept = steps.sweep_fleet(estate)
    revisits = steps.revisit_silent(estate, swept)
    network = steps.read_network(estate, swept)
    answers = steps.settle(swept, revisits)
    latency = steps.measure_latency(estate, answers)
    rates = steps.read_rates(estate, answers)
    findings = steps.judge(estate, answers, rates, network, latency)
    report = steps.record(run, answers, findings)
    steps.publish(report)
    return steps.conclude(report, fail_on)
