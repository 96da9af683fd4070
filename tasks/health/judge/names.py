"""Judge DNS: one finding per name (is the answer right everywhere) and one per resolver (is it in time)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from infra.findings import Finding, Status, SubjectKind
from infra.inventory import DnsName, Thresholds
from infra.readings import DnsReading
from tasks.health.judge.about import About
from tasks.health.judge.levels import judge_level, words_for
from tasks.health.judge.subjects import dns_subject, resolver_subject


def judge_dns(
    name: DnsName, readings: Sequence[DnsReading], environment: str, service: str, limits: Thresholds
) -> tuple[Finding, ...]:
    """Judge what the resolvers say about one name.

    The same wrong answer everywhere is one critical finding. Resolvers that disagree are critical when the
    right answer is known, else a warning. A resolver that is silent is a finding of its own: a warning while
    another one answers, and critical when none does; findings of several names about one resolver are folded
    by `fold_causes`.

    Args:
        name: from the inventory.
        readings: one per resolver; without any, nobody could be asked.
        environment: the environment of the service.
        service: the service that the name belongs to.
        limits: resolved for the environment.
    """
    about = About(SubjectKind.NAME, dns_subject(name), environment)
    if not readings:
        sentence = f"{service}: nobody to ask for {name.name}: the system names no resolver"
        advice = "name resolvers in the inventory, or mend /etc/resolv.conf"
        return (about.found("dns_answer", Status.UNKNOWN, sentence, advice=advice),)
    return (_judge_answers(name, readings, service, about), *_judge_resolvers(readings, environment, limits))


def _judge_answers(name: DnsName, readings: Sequence[DnsReading], service: str, about: About) -> Finding:
    answering = [r for r in readings if not (r.error and r.error.silent)]
    expected = _normal(name, name.expect)
    threshold = f"must be {_shown(expected)}" if expected else "must resolve, the same everywhere"
    who = answering or readings
    advice = "; ".join(f"dig {_at(r.resolver)} {name.name} {name.type} +short" for r in who[:3])
    status, words = _answer_in_words(answering, expected)
    if not answering:
        status, words = Status.CRITICAL, f"no resolver answers: {readings[0].detail}"
    sentence = f"{service}: {dns_subject(name)} {words}"
    return about.found("dns_answer", status, sentence, threshold=threshold, advice=advice)


def _answer_in_words(answering: Sequence[DnsReading], expected: frozenset[str]) -> tuple[Status, str]:
    said = defaultdict(list)
    for reading in answering:
        said[_said(reading)].append(reading.resolver)
    if len(said) > 1:
        parts = "; ".join(f"{what} at {', '.join(sorted(who))}" for what, who in sorted(said.items()))
        broken = expected or any(reading.error for reading in answering)
        return (Status.CRITICAL if broken else Status.WARNING), f"differs between resolvers: {parts}"
    everywhere = f"at all {len(answering)} resolvers" if len(answering) > 1 else "at its resolver"
    if not answering:
        return Status.CRITICAL, "has no answer"
    reading = answering[0]
    if reading.error:
        return Status.CRITICAL, f"does not resolve {everywhere}: {reading.error.value}"
    if expected and reading.answers != expected:
        return Status.CRITICAL, f"is {_shown(reading.answers)} {everywhere} instead of {_shown(expected)}"
    return Status.OK, f"is {_shown(reading.answers)} {everywhere}"


def _said(reading: DnsReading) -> str:
    return reading.error.value if reading.error else _shown(reading.answers)


def _shown(answers: Collection[str]) -> str:
    return ", ".join(sorted(answers))


def _normal(name: DnsName, answers: Sequence[str]) -> frozenset[str]:
    return frozenset(a if name.type == "TXT" else a.rstrip(".").lower() for a in answers)


def _at(resolver: str) -> str:
    if resolver.count(":") == 1 or resolver.startswith("["):
        address, _, port = resolver.rpartition(":")
        return f"@{address.strip('[]')} -p {port}"
    return f"@{resolver}"


def _judge_resolvers(
    readings: Sequence[DnsReading], environment: str, limits: Thresholds
) -> Iterator[Finding]:
    level = limits.dns_time_ms
    all_silent = all(r.error and r.error.silent for r in readings)
    for reading in readings:
        about = About(SubjectKind.NAME, resolver_subject(reading.resolver), environment)
        if reading.error and reading.error.silent:
            status = Status.CRITICAL if all_silent else Status.WARNING
            summary, value = f"the resolver does not answer: {reading.detail}", None
        else:
            value = reading.time_ms or 0.0
            status = judge_level(value, level)
            summary = f"the resolver {reading.resolver} answers in {value:.0f} ms"
        yield about.found(
            "dns_resolver",
            status,
            summary,
            value=value,
            unit="ms" if value is not None else "",
            threshold=words_for(level, "ms"),
            advice=f"dig {_at(reading.resolver)} . NS +time=2; see the resolver's host and its unit",
        )
