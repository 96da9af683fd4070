"""Judge one host by what it said about itself, or by its silence.

A host that does not answer is one finding, whatever else could be said about it. What describes the machine
under a container, and what could not be read, is one skipped finding each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from infra.errors import TransientError, UpkeepError
from infra.facts import Counters, HostFacts, Rates
from infra.findings import Finding, Status
from infra.inventory import Host, Thresholds
from tasks.health.judge import disks, resources, units
from tasks.health.judge.about import about_host, on_host
from tasks.health.judge.interfaces import judge_interfaces

REACHABILITY = "reachability"
ACCESS = "access"

# check -> the facts that it stands on, as `HostFacts.shared` and `HostFacts.refused` may name them
_STANDS_ON = {
    "uptime": {"uptime_s"},
    "load": {"load"},
    "cpu": {"cpu", "rates"},
    "memory": {"memory"},
    "swap": {"swap"},
    "disk_space": {"filesystems"},
    "disk_io": {"disk_io", "rates"},
    "interface_errors": {"interfaces", "previous"},
    "failed_units": {"failed_units"},
    "critical_unit": {"units"},
    "clock_offset": {"clock"},
    "pending_reboot": {"reboot"},
    "pending_updates": {"pending_updates"},
    "log_errors": {"log_errors"},
}


def judge_host(
    host: Host,
    facts: HostFacts | UpkeepError | None,
    rates: Rates | None,
    critical_units: Sequence[str],
    limits: Thresholds,
    previous: Counters | None = None,
) -> tuple[Finding, ...]:
    """Judge everything that one read of a host says.

    Args:
        host: from the inventory.
        facts: what was read, why it could not be read, or None when it was not tried.
        rates: between two reads some seconds apart; None without a second read.
        critical_units: the units that must be active here.
        limits: resolved for this host.
        previous: the counters of an earlier run; interface errors are counted from there.

    Returns:
        Exactly one finding when there are no facts.
    """
    if not isinstance(facts, HostFacts):
        return (_unread(host, facts),)
    findings = (
        about_host(host).found(REACHABILITY, Status.OK, f"{host.name} answers"),
        *resources.judge_resources(host, facts, rates, limits),
        *disks.judge_filesystems(host, facts, limits),
        *disks.judge_disk_io(host, rates, limits),
        *judge_interfaces(host, facts.counters, previous, limits),
        *units.judge_units(host, facts, critical_units),
        *units.judge_upkeep(host, facts, limits),
    )
    shared = {check for check, names in _STANDS_ON.items() if names & facts.shared}
    return (
        *(f for f in findings if f.check not in shared),
        *_not_applicable(host, facts, shared),
        *_not_read(host, facts, shared, {f.check for f in findings}, _absent(rates, previous)),
    )


def _unread(host: Host, error: UpkeepError | None) -> Finding:
    about = about_host(host)
    if host.os == "windows":
        sentence = f"{host.name} was not checked: Windows hosts are not supported yet"
        return about.found(ACCESS, Status.UNKNOWN, sentence, advice="check this host by hand")
    if error is None:
        return about.found(ACCESS, Status.UNKNOWN, f"{host.name} was not read", advice="run the check again")
    if isinstance(error, TransientError):
        advice = error.advice or f"{on_host(host, 'uptime')}; no answer: look at its console and its power"
        sentence = f"{host.name} cannot be reached: {error.reason}"
        return about.found(REACHABILITY, Status.CRITICAL, sentence, advice=advice)
    sentence = f"{host.name} could not be checked: {error.reason}"
    return about.found(ACCESS, Status.UNKNOWN, sentence, advice=error.advice or on_host(host, "true"))


def _absent(rates: Rates | None, previous: Counters | None) -> dict[str, str]:
    reasons = {}
    if rates is None:
        reasons["rates"] = "needs two reads, and the host was not rebooted in between"
    if previous is None:
        reasons["previous"] = "needs an earlier run to compare with"
    return reasons


def _not_applicable(host: Host, facts: HostFacts, shared: Iterable[str]) -> tuple[Finding, ...]:
    names = ", ".join(sorted(name.replace("_", " ") for name in shared))
    if not names:
        return ()
    container = f" ({facts.container})" if facts.container else ""
    sentence = f"not applicable: {names} describe the machine underneath{container}"
    return (about_host(host).found("shared_facts", Status.SKIPPED, sentence),)


def _not_read(
    host: Host, facts: HostFacts, shared: Iterable[str], judged: Iterable[str], absent: dict[str, str]
) -> tuple[Finding, ...]:
    reasons = {**absent, **facts.refused}
    parts = []
    for check, names in _STANDS_ON.items():
        if check in shared or check in judged:
            continue
        why = next((reasons[name] for name in sorted(names) if name in reasons), "")
        if why or check in (
            "failed_units",
            "clock_offset",
            "pending_reboot",
            "pending_updates",
            "log_errors",
        ):
            parts.append(f"{check.replace('_', ' ')} ({why or 'the host cannot tell'})")
    if not parts:
        return ()
    return (about_host(host).found("not_read", Status.SKIPPED, f"not known: {', '.join(parts)}"),)
