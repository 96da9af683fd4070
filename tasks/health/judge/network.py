"""Judge endpoints and round trips.

An endpoint yields `endpoint` (does it answer as expected) and, when it answers, `endpoint_latency`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from infra.findings import Finding, Status, SubjectKind
from infra.inventory import Endpoint, Host, Thresholds
from infra.readings import CONTROL, EndpointReading, EndpointSample, Failure, LatencyReading
from tasks.health.judge.about import About, about_host
from tasks.health.judge.levels import count, judge_level, words_for
from tasks.health.judge.subjects import endpoint_subject, pair_subject


def judge_endpoint(
    endpoint: Endpoint, reading: EndpointReading, environment: str, service: str
) -> tuple[Finding, ...]:
    """Judge what an endpoint answered.

    All attempts good is ok, half of them bad is critical, fewer a warning; that nothing could be measured
    from the vantage is unknown. The objective is about the 95th percentile; beyond it is a warning.

    Args:
        endpoint: from the inventory.
        reading: of this endpoint, from one vantage.
        environment: the environment of the service.
        service: the service that the endpoint belongs to.
    """
    about = About(
        SubjectKind.ENDPOINT, endpoint_subject(endpoint, reading.vantage), environment, endpoint.host
    )
    seen_from = "" if reading.vantage == CONTROL else f" from {reading.vantage}"
    if any(sample.failure is Failure.VANTAGE for sample in reading.samples):
        sentence = f"{endpoint.url} ({service}) could not be probed{seen_from}: {reading.samples[-1].error}"
        advice = f"see whether {reading.vantage} answers and has curl"
        return (about.found("endpoint", Status.UNKNOWN, sentence, advice=advice),)
    return tuple(_judge_answers(endpoint, reading, about, f"{endpoint.url} ({service})", seen_from))


def _judge_answers(
    endpoint: Endpoint, reading: EndpointReading, about: About, name: str, seen_from: str
) -> Iterator[Finding]:
    problems = [problem for problem in (_problem(endpoint, s) for s in reading.samples) if problem]
    good = len(reading.samples) - len(problems)
    status = Status.CRITICAL if good <= len(problems) else Status.WARNING if problems else Status.OK
    p50, p95 = reading.p50_ms, reading.p95_ms
    if problems:
        often = f" ({len(problems)} of {count(len(reading.samples), 'attempt')})" if good else ""
        summary = f"{name} fails{seen_from}: {problems[-1]}{often}"
    else:
        summary = f"{name} answers{seen_from}" + (f" in {p50:.0f} ms" if p50 is not None else "")
    expected = " or ".join(map(str, endpoint.expect_status))
    yield about.found(
        "endpoint",
        status,
        summary,
        value=p50,
        unit="ms" if p50 is not None else "",
        threshold="must accept a connection" if _is_tcp(endpoint) else f"must answer with {expected}",
        advice=_try_it(endpoint, reading.vantage),
    )
    if not problems and p95 is not None and endpoint.latency_objective_ms is not None:
        slow = p95 > endpoint.latency_objective_ms
        yield about.found(
            "endpoint_latency",
            Status.WARNING if slow else Status.OK,
            f"{name} answers 95 % within {p95:.0f} ms{seen_from}, "
            f"{'over' if slow else 'within'} its objective of {endpoint.latency_objective_ms:g} ms",
            value=p95,
            unit="ms",
            threshold=f"warning over {endpoint.latency_objective_ms:g} ms",
            advice=_try_it(endpoint, reading.vantage),
        )


def _is_tcp(endpoint: Endpoint) -> bool:
    return endpoint.url.startswith("tcp")


def _problem(endpoint: Endpoint, sample: EndpointSample) -> str:
    """What is wrong with one attempt, in words; empty when nothing is."""
    if sample.failure is not None:
        return sample.error or sample.failure.value
    if _is_tcp(endpoint):
        return ""
    if sample.status not in endpoint.expect_status:
        return f"it answers with {sample.status} instead of {' or '.join(map(str, endpoint.expect_status))}"
    for header, pattern in endpoint.expect_headers.items():
        value = sample.headers.get(header.lower(), "")
        if not re.search(pattern, value):
            return f"its header {header} is {value!r} and does not match {pattern!r}"
    if endpoint.expect_body and not re.search(endpoint.expect_body, sample.body):
        return f"its body does not match {endpoint.expect_body!r}; it begins with {sample.body[:60]!r}"
    return ""


def _try_it(endpoint: Endpoint, vantage: str) -> str:
    name, _, port = endpoint.url.partition("://")[2].partition("/")[0].rpartition(":")
    if _is_tcp(endpoint):
        command = f"nc -vz -w 5 {endpoint.address or name.strip('[]')} {port}"
    else:
        authorities = f" --cacert {shlex.quote(endpoint.ca_file)}" if endpoint.ca_file else ""
        at = f" --connect-to ::{shlex.quote(endpoint.address)}:" if endpoint.address else ""
        command = f"curl -v -m {endpoint.timeout_s:g}{authorities}{at} {shlex.quote(endpoint.url)}"
    return command if vantage == CONTROL else f"on {vantage}: {command}"


def judge_latency(host: Host, reading: LatencyReading, limits: Thresholds) -> tuple[Finding, ...]:
    """Judge the round trip from the control machine to a host; that it has no answer is critical."""
    return (_judge_round_trip(about_host(host), "network_latency", host, reading, limits, CONTROL),)


def judge_between(
    origin: Host, peer: Host, reading: LatencyReading, limits: Thresholds
) -> tuple[Finding, ...]:
    """Judge the round trip between two hosts; that the origin could not measure is unknown."""
    about = About(SubjectKind.HOST, pair_subject(origin.name, peer.name), origin.environment, origin.name)
    return (_judge_round_trip(about, "network_latency_between", peer, reading, limits, origin.name),)


def _judge_round_trip(
    about: About, check: str, to: Host, reading: LatencyReading, limits: Thresholds, vantage: str
) -> Finding:
    ping = f"ping -c 5 {to.address}"
    advice = f"mtr -rwc 20 {to.address} || {ping}"
    origin = "the control machine" if vantage == CONTROL else vantage
    if reading.median_ms is None:
        unmeasured = reading.failure is Failure.VANTAGE
        sentence = f"no round trip from {origin} to {to.name}: {reading.error}"
        status = Status.UNKNOWN if unmeasured else Status.CRITICAL
        return about.found(check, status, sentence, advice=f"on {origin}: {ping}")
    level = limits.network_latency_ms
    return about.found(
        check,
        judge_level(reading.median_ms, level),
        f"a round trip from {origin} to {to.name} takes {reading.median_ms:.3g} ms ({reading.method})",
        value=reading.median_ms,
        unit="ms",
        threshold=words_for(level, "ms"),
        advice=f"on {origin}: {advice}",
    )
