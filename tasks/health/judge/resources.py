"""Uptime, load, cpu, memory, swap and clock of one host."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from infra.facts import HostFacts, Memory, Rates
from infra.findings import Finding
from infra.inventory import Host, Level, Thresholds
from tasks.health.judge.about import about_host, on_host
from tasks.health.judge.levels import in_bytes, in_words, judge_level, words_for

_TOP_CPU = "ps -eo pid,user,pcpu,etime,args --sort=-pcpu | head"
_TOP_MEMORY = "ps -eo pid,user,rss,args --sort=-rss | head"


def judge_resources(
    host: Host, facts: HostFacts, rates: Rates | None, limits: Thresholds
) -> Iterator[Finding]:
    """One finding per resource that the host has and that was measured."""
    yield _uptime(host, facts, limits.uptime_days)
    yield _load(host, facts, limits.load_per_cpu)
    if rates is not None:
        yield _cpu(host, facts, rates, limits.cpu_percent)
    for check, memory, level in (
        ("memory", facts.memory, limits.memory_percent),
        ("swap", facts.swap, limits.swap_percent),
    ):
        if memory.total_bytes > 0:
            yield _memory(host, check, memory, level)
    if facts.clock.offset_s is not None:
        yield _clock(host, facts, facts.clock.offset_s, limits.clock_offset_ms)


def _uptime(host: Host, facts: HostFacts, level: Level | None) -> Finding:
    days = facts.uptime_s / 86400
    return about_host(host).found(
        "uptime",
        judge_level(days, level),
        f"up for {in_words(timedelta(seconds=facts.uptime_s))}",
        value=days,
        unit="days",
        threshold=words_for(level, "days"),
        advice=f"plan a reboot in a maintenance window; {on_host(host, 'who -b; last -x reboot | head')}",
    )


def _load(host: Host, facts: HostFacts, level: Level | None) -> Finding:
    cpus = max(1, facts.cpus)
    per_cpu = facts.load[1] / cpus
    return about_host(host).found(
        "load",
        judge_level(per_cpu, level),
        f"the 5-minute load is {facts.load[1]:.2f} on {cpus} cpus: {per_cpu:.2f} per cpu",
        value=per_cpu,
        unit="per cpu",
        threshold=words_for(level, "per cpu"),
        advice=on_host(host, f"uptime; {_TOP_CPU}"),
    )


def _cpu(host: Host, facts: HostFacts, rates: Rates, level: Level | None) -> Finding:
    busiest = max(facts.top_processes, key=lambda process: process.cpu_percent, default=None)
    who = (
        f", most of it {busiest.command} (pid {busiest.pid})" if busiest and busiest.cpu_percent >= 1 else ""
    )
    status = judge_level(rates.cpu_percent, level)
    return about_host(host).found(
        "cpu",
        status,
        f"the cpus were {rates.cpu_percent:.0f} % busy over {rates.over_s:.0f} s"
        + (who if status.rank > 1 else ""),
        value=rates.cpu_percent,
        unit="%",
        threshold=words_for(level, "%"),
        advice=on_host(host, _TOP_CPU),
    )


def _memory(host: Host, check: str, memory: Memory, level: Level | None) -> Finding:
    used = 100 * (1 - memory.available_bytes / memory.total_bytes)
    left = in_bytes(memory.available_bytes)
    return about_host(host).found(
        check,
        judge_level(used, level),
        f"{check} is {used:.0f} % in use ({left} of {in_bytes(memory.total_bytes)} left)",
        value=used,
        unit="%",
        threshold=words_for(level, "%"),
        advice=on_host(host, f"free -m; {_TOP_MEMORY}"),
    )


def _clock(host: Host, facts: HostFacts, offset_s: float, level: Level | None) -> Finding:
    """Only what lies beyond the uncertainty of the measurement counts."""
    uncertain_ms = (facts.clock.uncertainty_s or 0) * 1000
    offset_ms = max(0.0, abs(offset_s) * 1000 - uncertain_ms)
    direction = "ahead of" if offset_s > 0 else "behind"
    synchronised = {True: "", None: "", False: "; its time service says: not synchronised"}
    return about_host(host).found(
        "clock_offset",
        judge_level(offset_ms, level),
        f"the clock is {abs(offset_s) * 1000:.0f} ms {direction} the control machine's, "
        f"give or take {uncertain_ms:.0f} ms{synchronised[facts.clock.synchronised]}",
        value=offset_ms,
        unit="ms",
        threshold=words_for(level, "ms"),
        advice=on_host(host, "timedatectl; chronyc tracking || systemctl status systemd-timesyncd"),
    )
