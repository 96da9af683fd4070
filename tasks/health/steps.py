"""The steps of a checkup, each a task that calls one adapter or one decision. Nothing here changes a host.

The sweep is one task for the whole fleet, since a task run costs 6 to 10 ms; a host that did not answer it
gets a task of its own, which shows its retries.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from prefect import runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from infra import dns, endpoints, latency, probe, ssh, tls
from infra.errors import TransientError, UpkeepError
from infra.facts import Counters, HostFacts, Rates, rates_between
from infra.findings import Finding, Scope, Status
from infra.inventory import Endpoint, Host, Thresholds, load_inventory
from infra.readings import EndpointReading, EndpointSample, Failure
from infra.report import RunReport
from infra.settings import settings
from infra.store.counters import read_previous_counters, remember_counters
from infra.store.runs import record_run
from tasks.health import summary
from tasks.health.assess import (
    Answers,
    DnsReadings,
    EndpointReadings,
    Latencies,
    Network,
    Observed,
    TlsReadings,
    assess,
)
from tasks.health.estate import Estate, Watched, choose_estate, choose_pairs
from tasks.retry import is_transient
from tasks.sealed import Sealed

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

Revisits = Mapping[str, PrefectFuture[HostFacts | State[Any]]]

REVISIT_DELAYS_S = (2.0, 4.0)
RATES_OVER_S = 1.0  # /proc counts in hundredths of a second: below 1 s a rate is mostly rounding
PROBES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Run:
    """Which attempt of which run this is; the fields are `RunReport`'s."""

    run_id: str
    attempt: int
    procedure: str
    scope: Scope
    environment: str | None
    started_at: datetime


def begin(procedure: str, scope: str, environment: str | None) -> Run:
    """Identify the flow run that is being executed."""
    run = runtime.flow_run
    return Run(str(run.id), run.run_count, procedure, Scope(scope), environment, datetime.now(UTC))


@task(task_run_name="read-estate", cache_policy=NO_CACHE)
def read_estate(
    environment: str | None, hosts: list[str] | None, override: Thresholds | None
) -> Sealed[Estate]:
    """Load the inventory and choose what this run concerns."""
    inventory = load_inventory(settings().inventory)
    estate = choose_estate(inventory, environment, tuple(hosts or ()), override)
    count = len(estate.fleet)
    log.info("%d host%s in %s", count, "" if count == 1 else "s", ", ".join(estate.environments))
    return Sealed(estate)


@task(task_run_name="sweep-fleet", cache_policy=NO_CACHE)
def sweep_fleet(estate: Sealed[Estate]) -> Sealed[Answers]:
    """Read every host once, all at once; what a host did not answer is its value."""
    hosts, units = estate.value.readable, estate.value.inventory.critical_units
    answers = ssh.fan_out(hosts, lambda host: probe.read_facts(host, units(host)))
    silent = [
        host.name for host, answer in zip(hosts, answers, strict=True) if isinstance(answer, UpkeepError)
    ]
    log.info("%d of %d hosts answered%s", len(hosts) - len(silent), len(hosts), _but(silent))
    return Sealed({host.name: answer for host, answer in zip(hosts, answers, strict=True)})


def revisit_silent(estate: Sealed[Estate], swept: Sealed[Answers]) -> Revisits:
    """Start one task for each host whose silence may pass; the caller goes on meanwhile."""
    critical_units = estate.value.inventory.critical_units
    return {
        host.name: revisit.submit(host, critical_units(host), Sealed(answer))
        for host in estate.value.readable
        if isinstance(answer := swept.value[host.name], TransientError)
    }


@task(
    task_run_name="revisit-{host.name}",
    retries=len(REVISIT_DELAYS_S),
    retry_delay_seconds=list(REVISIT_DELAYS_S),
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
)
def revisit(host: Host, units: Sequence[str], failure: Sealed[UpkeepError]) -> HostFacts | State[Any]:
    """Ask a silent host again. The sweep was the first attempt, so this begins with its failure, waiting."""
    try:
        if runtime.task_run.run_count <= 1:
            raise failure.value
        return probe.read_facts(host, units)
    except UpkeepError as error:  # a state, not an exception: its message is the sentence, not a stack trace
        return Failed(message=str(error), data=error)


def settle(swept: Sealed[Answers], revisits: Revisits) -> Sealed[Answers]:
    """What each host answered in the end: its facts, or why there are none.

    Raises:
        Exception: a revisit ended with something that is no answer of a host.
    """
    answers = dict(swept.value)
    for name, future in revisits.items():
        future.wait()
        answer: Any = future.state.result(raise_on_failure=False)
        if not isinstance(answer, HostFacts | UpkeepError):
            raise answer
        answers[name] = answer
    return Sealed(answers)


def read_network(estate: Sealed[Estate], swept: Sealed[Answers]) -> Sealed[Network]:
    """Ask everything that a service promises to answer: three tasks at once."""
    reached, certificates = probe_endpoints.submit(estate, swept), probe_tls.submit(estate)
    names = resolve_names.submit(estate)
    return Sealed(Network(reached.result().value, certificates.result().value, names.result().value))


@task(task_run_name="probe-endpoints", cache_policy=NO_CACHE)
def probe_endpoints(estate: Sealed[Estate], swept: Sealed[Answers]) -> Sealed[EndpointReadings]:
    """Probe each endpoint from each of its vantages; a host that is silent is no vantage."""
    by_name = {host.name: host for host in estate.value.inventory.fleet()}
    asked = [(w, name) for w in estate.value.endpoints() for name in w.item.probed_from]

    def probe_from(pair: tuple[Watched[Endpoint], str]) -> EndpointReading:
        watched, vantage = pair
        answer = swept.value.get(vantage)
        if isinstance(answer, UpkeepError):
            lost = EndpointSample(None, failure=Failure.VANTAGE, error=str(answer))
            return EndpointReading(vantage, (lost,))
        return endpoints.probe_endpoint(watched.item, by_name.get(vantage))

    readings = iter(_each(asked, probe_from))
    watched = estate.value.endpoints()
    return Sealed(tuple((w, tuple(islice(readings, len(w.item.probed_from)))) for w in watched))


@task(task_run_name="probe-tls", cache_policy=NO_CACHE)
def probe_tls(estate: Sealed[Estate]) -> Sealed[TlsReadings]:
    """Read the certificates of every name."""
    names = estate.value.tls_names()
    return Sealed(tuple(zip(names, _each(names, lambda w: tls.probe_tls(w.item)), strict=True)))


@task(task_run_name="resolve-names", cache_policy=NO_CACHE)
def resolve_names(estate: Sealed[Estate]) -> Sealed[DnsReadings]:
    """Ask every resolver of every name."""
    names = estate.value.dns_names()
    return Sealed(tuple(zip(names, _each(names, lambda w: dns.resolve(w.item)), strict=True)))


@task(task_run_name="measure-latency", cache_policy=NO_CACHE)
def measure_latency(estate: Sealed[Estate], answers: Sealed[Answers]) -> Sealed[Latencies]:
    """Measure the way to each host that answered, then the ways between them; nothing else runs meanwhile."""
    answered = _answered(estate.value, answers.value)
    names = {host.name for host in answered}
    pairs = [pair for pair in choose_pairs(estate.value) if {h.name for h in pair} <= names]
    return Sealed(Latencies(latency.measure_latency(answered), latency.measure_between(pairs)))


@task(task_run_name="read-counters", cache_policy=NO_CACHE)
def read_rates(estate: Sealed[Estate], answers: Sealed[Answers]) -> Sealed[Mapping[str, Rates]]:
    """Read the counters of each host that answered once more, at least `RATES_OVER_S` after its facts."""
    facts = [answer for answer in answers.value.values() if isinstance(answer, HostFacts)]
    age_s = min(((datetime.now(UTC) - f.read_at).total_seconds() for f in facts), default=RATES_OVER_S)
    time.sleep(min(RATES_OVER_S, max(0.0, RATES_OVER_S - age_s)))
    hosts = _answered(estate.value, answers.value)
    later = ssh.fan_out(hosts, probe.read_counters)
    return Sealed(_rates(facts, {host.name: read for host, read in zip(hosts, later, strict=True)}))


@task(task_run_name="judge", cache_policy=NO_CACHE)
def judge(
    estate: Sealed[Estate],
    answers: Sealed[Answers],
    rates: Sealed[Mapping[str, Rates]],
    network: Sealed[Network],
    latencies: Sealed[Latencies],
) -> Sealed[tuple[Finding, ...]]:
    """Decide what all of it means, with the counters of the previous run to compare with."""
    boots = {f.host: f.boot_id for f in answers.value.values() if isinstance(f, HostFacts)}
    previous = read_previous_counters(boots)
    observed = Observed(
        datetime.now(UTC), answers.value, rates.value, previous, network.value, latencies.value
    )
    return Sealed(assess(estate.value, observed))


@task(task_run_name="record", cache_policy=NO_CACHE)
def record(run: Run, answers: Sealed[Answers], findings: Sealed[tuple[Finding, ...]]) -> Sealed[RunReport]:
    """Remember the run: its findings, the numbers behind them, and the counters for the next run."""
    report = RunReport(findings=findings.value, finished_at=datetime.now(UTC), **asdict(run))
    record_run(report, summary.samples_of(findings.value))
    remember_counters(f for f in answers.value.values() if isinstance(f, HostFacts))
    log.info("recorded: %s", summary.count_words(report))
    return Sealed(report)


@task(task_run_name="publish", cache_policy=NO_CACHE)
def publish(report: Sealed[RunReport]) -> None:
    """Show the verdict on the run's page: a summary, and the table of all findings, worst first."""
    key = artifact_key(report.value)
    verdict = summary.verdict_sentence(report.value)  # on the artifact's card, without a click
    create_markdown_artifact(summary.markdown(report.value), key=f"{key}-summary", description=verdict)
    create_table_artifact(
        summary.table_rows(report.value.findings), key=key, description="Findings, worst first"
    )


def artifact_key(report: RunReport) -> str:
    """``health-SCOPE-ENVIRONMENT``, in the letters that Prefect accepts."""
    words = f"{report.procedure}-{report.scope}-{report.environment or 'all'}"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def conclude(report: Sealed[RunReport], fail_on: str) -> State[Any]:
    """The state that the run ends in: failed at `fail_on` or worse, with the worst finding's sentence."""
    sentence = summary.verdict_sentence(report.value)
    if summary.fails_at(report.value, fail_on):
        return Failed(message=sentence)
    nothing = report.value.status is Status.SKIPPED
    return Completed(message=sentence, name="NothingConfigured" if nothing else None)


def _answered(estate: Estate, answers: Answers) -> list[Host]:
    return [host for host in estate.readable if isinstance(answers[host.name], HostFacts)]


def _rates(facts: Iterable[HostFacts], later: Mapping[str, Counters | UpkeepError]) -> dict[str, Rates]:
    pairs = ((f, after) for f in facts if isinstance(after := later.get(f.host), Counters))
    rates = ((f.host, rates_between(f.counters, after)) for f, after in pairs)
    return {host: rate for host, rate in rates if rate is not None}


def _each(things: Sequence[T], act: Callable[[T], R]) -> tuple[R, ...]:
    """Act on all, `PROBES_AT_ONCE` at a time, each in a copy of the context: its logs find their run."""
    with ThreadPoolExecutor(PROBES_AT_ONCE, thread_name_prefix="probe") as pool:
        futures = [pool.submit(copy_context().run, act, thing) for thing in things]
    return tuple(future.result() for future in futures)


def _but(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
    return f"; silent: {shown}" if names else ""
