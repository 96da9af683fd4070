"""What stands behind what, read from the inventory once: the edges along which failures spread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from infra.inventory import DnsName, Endpoint, Environment, Inventory, TlsName
from tasks.health.judge.subjects import dns_subject, endpoint_subject, resolver_subject, tls_subject


@dataclass(frozen=True, slots=True)
class Behind:
    """What a finding about the network stands on.

    Attributes:
        twin: names the thing itself: the same for every vantage, service and environment that asks for it.
        hosts: hosts whose failure explains its failure.
        databases: names of the databases that it uses, in its environment.
        vantage: the host that asked; None for the control machine.
        own_host: the one host that the thing is on, if there is one.
        tls, dns: subjects of the names that it is reached by.
        resolvers: subjects of the resolvers that were asked; empty for the system's.
    """

    twin: str
    hosts: frozenset[str]
    databases: tuple[str, ...] = ()
    vantage: str | None = None
    own_host: str | None = None
    tls: str = ""
    dns: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()


class Edges:
    """All edges of an inventory; building it costs one pass.

    Attributes:
        jumps: host -> the host that it is reached through.
        local: hosts that are the control machine itself.
        addresses: address or name -> host.
    """

    def __init__(self, inventory: Inventory) -> None:
        hosts = [
            host for environment in inventory.environments.values() for host in environment.hosts.values()
        ]
        self.jumps = {host.name: host.jump for host in hosts if host.jump}
        self.local = tuple(sorted(host.name for host in hosts if host.connection == "local"))
        self.addresses = {
            address: host.name
            for host in reversed(hosts)
            if host.connection == "ssh"
            for address in (*host.other_addresses, host.address, host.name)
        }
        self._behind: dict[tuple[str, str], Behind] = {}
        for name, environment in inventory.environments.items():
            self._read(name, environment)

    def behind(self, environment: str, subject: str) -> Behind:
        """What a subject stands on; nothing when the inventory does not know it."""
        return self._behind.get((environment, subject), Behind(subject, frozenset()))

    def database_hosts(self, environment: Environment, name: str) -> frozenset[str]:
        """The hosts of a database's members and pools."""
        database = environment.databases.get(name)
        members = database.members if database else ()
        pools = database.pools if database else ()
        return frozenset(m.host for m in members) | frozenset(p.host for p in pools)

    def _read(self, name: str, environment: Environment) -> None:
        for database in environment.databases:
            self._behind[name, database] = Behind(
                f"{name} {database}", self.database_hosts(environment, database)
            )
        for service_name, service in environment.services.items():
            below = self._below(environment, service_name)
            front = below | frozenset(_hosts_of(environment, service_name))
            for endpoint in service.endpoints:
                for vantage in endpoint.probed_from:
                    self._add(
                        name,
                        endpoint_subject(endpoint, vantage),
                        self._endpoint(
                            endpoint, vantage, below if endpoint.host else front, service.databases
                        ),
                    )
            for tls in service.tls:
                self._add(name, tls_subject(tls), self._tls(tls, front))
            for dns in service.dns:
                self._add(name, dns_subject(dns), _dns(dns))
                for resolver in dns.resolvers:
                    self._add(name, resolver_subject(resolver), self._resolver(resolver))

    def _add(self, environment: str, subject: str, behind: Behind) -> None:
        """Several services may name the same thing: whatever is behind it for one of them is behind it."""
        known = self._behind.get((environment, subject))
        if known is not None:
            behind = Behind(
                behind.twin,
                known.hosts | behind.hosts,
                tuple(dict.fromkeys((*known.databases, *behind.databases))),
                behind.vantage,
                known.own_host if known.own_host == behind.own_host else None,
                behind.tls,
                behind.dns,
                tuple(dict.fromkeys((*known.resolvers, *behind.resolvers))),
            )
        self._behind[environment, subject] = behind

    def _endpoint(
        self, endpoint: Endpoint, vantage: str, hosts: frozenset[str], databases: tuple[str, ...]
    ) -> Behind:
        url = urlsplit(endpoint.url)
        host = url.hostname or ""
        there = self.addresses.get(endpoint.address or host)
        own = endpoint.host or there
        return Behind(
            twin=endpoint_subject(endpoint),
            hosts=hosts | frozenset(h for h in (endpoint.host, there) if h),
            databases=databases,
            vantage=None if vantage == "control" else vantage,
            own_host=own,
            tls=f"{host}:{url.port or 443}" if url.scheme == "https" else "",
            dns=() if endpoint.address else (f"{host} A", f"{host} AAAA", f"{host} CNAME"),
        )

    def _tls(self, name: TlsName, hosts: frozenset[str]) -> Behind:
        there = (self.addresses.get(address) for address in (*name.addresses, name.name))
        return Behind(
            twin=tls_subject(name),
            hosts=hosts | frozenset(host for host in there if host),
            tls=tls_subject(name),
            dns=() if name.addresses else (f"{name.name} A", f"{name.name} AAAA", f"{name.name} CNAME"),
        )

    def _resolver(self, resolver: str) -> Behind:
        address = resolver.rpartition(":")[0] if resolver.count(":") == 1 or "]:" in resolver else resolver
        there = self.addresses.get(address.strip("[]"))
        return Behind(resolver_subject(resolver), frozenset({there} if there else ()), own_host=there)

    def _below(self, environment: Environment, service: str) -> frozenset[str]:
        """Hosts of what a service calls: databases, caches, and the services it depends on, with theirs."""
        hosts: set[str] = set()
        seen: set[str] = set()
        waiting = [service]
        while waiting:
            name = waiting.pop()
            if name in seen or name not in environment.services:
                continue
            seen.add(name)
            called = environment.services[name]
            waiting.extend(called.depends_on)
            hosts.update(*(self.database_hosts(environment, d) for d in called.databases))
            caches = (urlsplit(cache).hostname or "" for cache in called.caches)
            hosts.update(self.addresses[c] for c in caches if c in self.addresses)
            if name != service:
                hosts.update(_hosts_of(environment, name))
        return frozenset(hosts)


def _hosts_of(environment: Environment, service: str) -> Iterator[str]:
    yield from (host.name for host in environment.hosts.values() if host.service == service)
    yield from (b.host for b in environment.load_balancers.values() if service in b.backends.values())


def _dns(name: DnsName) -> Behind:
    resolvers = tuple(resolver_subject(resolver) for resolver in name.resolvers)
    return Behind(dns_subject(name), frozenset(), resolvers=resolvers)
