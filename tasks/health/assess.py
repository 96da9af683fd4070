"""From everything that one run observed to its findings: each thing judged, effects put under causes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from infra.errors import UpkeepError
from infra.facts import Counters, HostFacts, Rates
from infra.findings import Finding, Scope, Status, SubjectKind
from infra.inventory import DnsName, Endpoint, TlsName
from infra.readings import DnsReading, EndpointReading, LatencyReading, TlsReading
from tasks.health.causes import fold_causes
from tasks.health.estate import Estate, Watched
from tasks.health.judge.certificates import judge_tls
from tasks.health.judge.host import judge_host
from tasks.health.judge.names import judge_dns
from tasks.health.judge.network import judge_between, judge_endpoint, judge_latency

Answers = Mapping[str, HostFacts | UpkeepError]
EndpointReadings = tuple[tuple[Watched[Endpoint], tuple[EndpointReading, ...]], ...]
TlsReadings = tuple[tuple[Watched[TlsName], tuple[TlsReading, ...]], ...]
DnsReadings = tuple[tuple[Watched[DnsName], tuple[DnsReading, ...]], ...]


@dataclass(frozen=True, slots=True)
class Network:
    """What endpoints, certificates and resolvers answered."""

    endpoints: EndpointReadings
    tls: TlsReadings
    dns: DnsReadings


@dataclass(frozen=True, slots=True)
class Latencies:
    """Round trips from the control machine, and between hosts."""

    control: tuple[LatencyReading, ...]
    between: tuple[LatencyReading, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that one run read.

    Attributes:
        at: aware UTC; certificates are judged as of then.
        answers: by host; a host that is not in it was not asked.
        rates: by host, where two reads could be compared.
        previous: by host, the counters of an earlier run since the host's last boot.
    """

    at: datetime
    answers: Answers
    rates: Mapping[str, Rates]
    previous: Mapping[str, Counters]
    network: Network
    latencies: Latencies


def assess(estate: Estate, observed: Observed) -> tuple[Finding, ...]:
    """Judge everything.

    Returns:
        At least one finding: where nothing is configured, one that says so.
    """
    found = [*_hosts(estate, observed), *_latencies(estate, observed), *_network(estate, observed)]
    return fold_causes(found, estate.inventory) if found else (_nothing(estate),)


def _hosts(estate: Estate, observed: Observed) -> Iterator[Finding]:
    for host in estate.fleet:
        yield from judge_host(
            host,
            observed.answers.get(host.name),
            observed.rates.get(host.name),
            estate.inventory.critical_units(host),
            estate.limits(host.environment, host),
            observed.previous.get(host.name),
        )


def _latencies(estate: Estate, observed: Observed) -> Iterator[Finding]:
    hosts = {host.name: host for host in estate.fleet}
    for reading in observed.latencies.control:
        host = hosts[reading.host]
        yield from judge_latency(host, reading, estate.limits(host.environment, host))
    for reading in observed.latencies.between:
        origin, peer = hosts[reading.vantage], hosts[reading.host]
        yield from judge_between(origin, peer, reading, estate.limits(origin.environment, origin))


def _network(estate: Estate, observed: Observed) -> Iterator[Finding]:
    for endpoint, readings in observed.network.endpoints:
        for reading in readings:
            yield from judge_endpoint(endpoint.item, reading, endpoint.environment, endpoint.service)
    for tls, certificates in observed.network.tls:
        limits = estate.limits(tls.environment)
        yield from judge_tls(tls.item, certificates, tls.environment, tls.service, limits, observed.at)
    for dns, answers in observed.network.dns:
        yield from judge_dns(dns.item, answers, dns.environment, dns.service, estate.limits(dns.environment))


def _nothing(estate: Estate) -> Finding:
    where = ", ".join(estate.environments)
    return Finding(
        check="configured",
        kind=SubjectKind.SCOPE,
        subject=Scope.INFRASTRUCTURE.value,
        environment=where,
        status=Status.SKIPPED,
        summary=f"nothing is configured for the scope infrastructure in {where}",
        advice="add hosts or services to the inventory; `upkeep inventory check` says what it has",
    )
