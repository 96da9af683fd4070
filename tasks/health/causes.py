"""Fold findings under the finding that explains them, so that one fault counts once.

The law: a finding is explained by the first of its possible causes that is a problem itself, in the order
host, unit, database, name, endpoint, along the inventory's edges; chains end at the root. A cause is as bad
as the worst that it causes, so folding never changes the verdict. The order of the findings does not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from infra.findings import Finding, Status, SubjectKind, worst
from infra.inventory import Inventory
from tasks.health.edges import Behind, Edges

_FULL_PERCENT = 99  # a filesystem that is fuller than this fails writes, and units with them
_PRESSURE = ("disk_io", "memory", "load", "cpu")  # what makes a host slow, causes before effects


def fold_causes(findings: Iterable[Finding], inventory: Inventory) -> tuple[Finding, ...]:
    """Set `caused_by` of every finding that another one explains.

    Args:
        findings: of one run, any order; of several with one key the worst is kept.
        inventory: the estate they are about.

    Returns:
        One finding per key, sorted by key; `caused_by` names a finding that has none itself.
    """
    unique = _one_per_key(findings)
    causes = _Causes([f for f in unique.values() if f.status.rank > Status.OK.rank], Edges(inventory))
    roots = {key: causes.root(key) for key in unique}
    effects: dict[str, list[Finding]] = defaultdict(list)
    for key, root in roots.items():
        if root != key:
            effects[root].append(unique[key])
    return tuple(
        replace(unique[key], caused_by=root)
        if (root := roots[key]) != key
        else _raised(unique[key], effects[key])
        for key in sorted(unique)
    )


def _one_per_key(findings: Iterable[Finding]) -> dict[str, Finding]:
    unique: dict[str, Finding] = {}
    for finding in findings:
        fresh = replace(finding, caused_by=None)
        known = unique.get(fresh.key)
        if known is None or _badness(fresh) > _badness(known):
            unique[fresh.key] = fresh
    return unique


def _badness(finding: Finding) -> tuple[int, float, str]:
    return finding.status.rank, finding.value or 0.0, finding.summary


def _raised(root: Finding, effects: list[Finding]) -> Finding:
    """A cause is as bad as the worst that it causes."""
    status = worst((root.status, *(effect.status for effect in effects)))
    if status is root.status:
        return root
    example = min((e for e in effects if e.status is status), key=lambda e: e.key)
    return replace(root, status=status, summary=f"{root.summary}; {status.value} because {example.summary}")


class _Causes:
    """The problems of one run, found by check and host, by check and subject, and by what they are about."""

    def __init__(self, problems: list[Finding], edges: Edges) -> None:
        self._edges = edges
        self._problems = {finding.key: finding for finding in problems}
        self._by_host: dict[tuple[str, str | None], list[Finding]] = defaultdict(list)
        self._by_subject: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        self._by_twin: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        self._by_check: dict[str, list[Finding]] = defaultdict(list)
        self._broken_databases: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in sorted(problems, key=lambda f: (-f.status.rank, f.key)):
            behind = edges.behind(finding.environment, finding.subject)
            self._by_host[finding.check, finding.host].append(finding)
            self._by_subject[finding.check, finding.subject].append(finding)
            self._by_twin[finding.check, _twin(finding, behind)].append(finding)
            self._by_check[finding.check].append(finding)
            if finding.kind is SubjectKind.DATABASE and finding.status is Status.CRITICAL:
                self._broken_databases[finding.environment, finding.subject].append(finding)
        self._rules: dict[str, Callable[[Finding, Behind], Iterator[Finding]]] = {
            "reachability": self._of_host_access,
            "access": self._of_host_access,
            "disk_inodes": self._of_inodes,
            "swap": self._of_pressure,
            "load": self._of_pressure,
            "cpu": self._of_pressure,
            "log_errors": self._of_log_errors,
            "critical_unit": self._of_unit,
            "failed_units": self._of_unit,
            "network_latency": self._of_latency,
            "network_latency_between": self._of_pair,
            "endpoint": self._of_endpoint,
            "endpoint_latency": self._of_endpoint_latency,
            "tls_certificate": self._of_tls,
            "dns_answer": self._of_dns_answer,
            "dns_resolver": self._of_resolver,
        }

    def root(self, key: str) -> str:
        """Follow the causes to the end; of findings that explain each other, the first by key is the root."""
        path: list[str] = []
        while key not in path:
            path.append(key)
            cause = self._cause(key)
            if cause is None:
                return key
            key = cause
        return min(path[path.index(key) :])

    def _cause(self, key: str) -> str | None:
        effect = self._problems.get(key)
        if effect is None:
            return None
        behind = self._edges.behind(effect.environment, effect.subject)
        rule = self._rules.get(effect.check)
        if rule is None and effect.kind is SubjectKind.DATABASE:
            rule = self._of_database
        candidates = rule(effect, behind) if rule else iter(())
        return next((cause.key for cause in candidates if cause.key != key), None)

    # -- causes by where they are, first those that take a host away altogether

    def _on(self, checks: Iterable[str], hosts: Iterable[str | None]) -> Iterator[Finding]:
        names = sorted(host for host in hosts if host)
        for check in checks:
            for host in names:
                yield from self._by_host.get((check, host), ())

    def _outage(self, hosts: Iterable[str | None]) -> Iterator[Finding]:
        hosts = list(hosts)
        yield from self._on(("reachability",), hosts)
        yield from self._on(("critical_unit",), hosts)

    def _pressure(self, hosts: Iterable[str | None]) -> Iterator[Finding]:
        yield from self._on(_PRESSURE, hosts)

    # -- one rule per check: what may explain it, most fundamental first

    def _of_host_access(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        del behind
        jump = self._edges.jumps.get(effect.subject)
        yield from self._on(("reachability", "access"), (jump,))

    def _of_inodes(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        """Filesystems without a fixed number of inodes run out of both at once."""
        del behind
        yield from self._by_subject.get(("disk_space", effect.subject), ())

    def _of_pressure(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        del behind
        causes = {"swap": ("memory",), "load": ("disk_io",), "cpu": ("load",)}[effect.check]
        yield from self._on(causes, (effect.host,))

    def _of_log_errors(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        del behind
        yield from self._on(("critical_unit", "failed_units"), (effect.host,))

    def _of_unit(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        del behind
        yield from self._on(("reachability",), (effect.host,))
        full = self._on(("disk_read_only", "disk_space", "disk_inodes"), (effect.host,))
        yield from (f for f in full if f.value is None or f.value >= _FULL_PERCENT)

    def _of_latency(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        del behind
        jump = self._edges.jumps.get(effect.subject)
        yield from self._on(("reachability",), (effect.host, jump))
        if effect.value is not None:
            yield from self._on(("network_latency",), (jump,))
            yield from self._pressure((effect.host, *self._edges.local))

    def _of_pair(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        both = effect.subject.split(" -> ")
        yield from self._on(("reachability",), both)
        if effect.status is Status.UNKNOWN:
            yield from self._on(("access",), (effect.host,))
            return
        if effect.value is not None:
            yield from self._on(("network_latency",), both)
            yield from self._pressure(both)
        yield from self._by_twin[effect.check, _twin(effect, behind)][:1]

    def _of_endpoint(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        yield from self._on(("reachability",), (behind.vantage,))
        if effect.status is Status.UNKNOWN:
            yield from self._on(("access",), (behind.vantage,))
            return
        yield from self._outage(behind.hosts)
        yield from self._databases(effect, behind)
        yield from self._names(behind)
        yield from self._endpoints_below("endpoint", effect, behind)
        yield from self._by_twin[effect.check, behind.twin][:1]

    def _of_endpoint_latency(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        hosts = {*behind.hosts, behind.vantage}
        yield from self._outage(hosts)
        yield from self._pressure(hosts if behind.vantage else (*hosts, *self._edges.local))
        yield from self._on(("network_latency",), hosts)
        for pair in self._on(("network_latency_between",), hosts):
            if hosts.issuperset(pair.subject.split(" -> ")):
                yield pair
        yield from self._databases(effect, behind)
        yield from self._endpoints_below("endpoint_latency", effect, behind)
        yield from self._by_twin[effect.check, behind.twin][:1]

    def _of_tls(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        if effect.status is Status.UNKNOWN:
            yield from self._outage(behind.hosts)
            yield from self._names(behind)
            for endpoint in self._by_check["endpoint"]:
                if self._edges.behind(endpoint.environment, endpoint.subject).tls == behind.tls:
                    yield endpoint
        yield from self._by_twin[effect.check, behind.twin][:1]

    def _of_dns_answer(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        if behind.resolvers:
            silent = [self._silent(resolver) for resolver in behind.resolvers]
            if all(silent):
                yield from (finding for found in silent for finding in found)
        else:
            for finding in self._by_check["dns_resolver"]:
                if finding.environment == effect.environment and finding.status is Status.CRITICAL:
                    yield from self._silent(finding.subject)
        yield from self._by_twin[effect.check, behind.twin][:1]

    def _of_resolver(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        if effect.value is None:
            yield from self._outage(behind.hosts)
        else:
            yield from self._on(("network_latency",), behind.hosts)
            yield from self._pressure((*behind.hosts, *self._edges.local))
        yield from self._by_twin[effect.check, behind.twin][:1]

    def _of_database(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        hosts = {*behind.hosts, effect.host} if effect.host else behind.hosts
        yield from self._outage(hosts)

    # -- causes by what they are about

    def _silent(self, resolver: str) -> list[Finding]:
        return [f for f in self._by_subject.get(("dns_resolver", resolver), ()) if f.value is None]

    def _databases(self, effect: Finding, behind: Behind) -> Iterator[Finding]:
        """What the database scope finds critical about a database that it uses."""
        for name in behind.databases:
            yield from self._broken_databases.get((effect.environment, name), ())

    def _names(self, behind: Behind) -> Iterator[Finding]:
        tls = self._by_subject.get(("tls_certificate", behind.tls), ())
        yield from (f for f in tls if f.status is Status.CRITICAL)
        for subject in behind.dns:
            yield from self._by_subject.get(("dns_answer", subject), ())

    def _endpoints_below(self, check: str, effect: Finding, behind: Behind) -> Iterator[Finding]:
        """An endpoint of one host behind it: a web host's own address explains the balancer's."""
        for finding in self._on((check,), behind.hosts):
            if finding.status is not Status.UNKNOWN and finding.host != effect.host:
                yield finding


def _twin(finding: Finding, behind: Behind) -> str:
    if finding.check == "network_latency_between":
        return " ".join(sorted(finding.subject.split(" -> ")))
    return behind.twin
