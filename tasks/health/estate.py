"""What a checkup concerns: hosts, what their services promise to answer, and the ways to measure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

from infra.errors import BadInventory, BadSetting
from infra.inventory import DnsName, Endpoint, Environment, Host, Inventory, Service, Thresholds, TlsName

T = TypeVar("T")

PEERS_AT_MOST = 4  # per measuring host: a large estate must not be measured each against each


@dataclass(frozen=True, slots=True)
class Watched(Generic[T]):
    """Something that a service promises to answer, with where it belongs."""

    environment: str
    service: str
    item: T


@dataclass(frozen=True, slots=True)
class Estate:
    """The part of the inventory that one run concerns.

    Attributes:
        fleet: the hosts, in the inventory's order.
        environments: their environments, in the inventory's order.
        chosen: hosts were named: of the endpoints only theirs are checked, of the names none.
        override: limits of this run.
    """

    inventory: Inventory
    fleet: tuple[Host, ...]
    environments: tuple[str, ...]
    chosen: bool
    override: Thresholds | None

    @property
    def readable(self) -> tuple[Host, ...]:
        """The hosts whose operating system Upkeep can read."""
        return tuple(host for host in self.fleet if host.os == "linux")

    def limits(self, environment: str, host: Host | None = None) -> Thresholds:
        """The limits that hold for a host, or for what belongs to the environment as a whole."""
        return self.inventory.thresholds_for(host, environment, self.override)

    def endpoints(self) -> tuple[Watched[Endpoint], ...]:
        """The endpoints to probe."""
        names = {host.name for host in self.fleet}
        return tuple(
            Watched(environment, name, endpoint)
            for environment, name, service in self._services()
            for endpoint in service.endpoints
            if not self.chosen or endpoint.host in names
        )

    def tls_names(self) -> tuple[Watched[TlsName], ...]:
        """The names whose certificates to read."""
        return tuple(Watched(env, name, tls) for env, name, s in self._whole_services() for tls in s.tls)

    def dns_names(self) -> tuple[Watched[DnsName], ...]:
        """The names to resolve."""
        return tuple(Watched(env, name, dns) for env, name, s in self._whole_services() for dns in s.dns)

    def _services(self) -> Iterator[tuple[str, str, Service]]:
        for environment in self.environments:
            for name, service in self.inventory.environments[environment].services.items():
                yield environment, name, service

    def _whole_services(self) -> Iterator[tuple[str, str, Service]]:
        return iter(()) if self.chosen else self._services()


def choose_estate(
    inventory: Inventory, environment: str | None, hosts: tuple[str, ...], override: Thresholds | None
) -> Estate:
    """The part of the inventory that a run's parameters name.

    Raises:
        BadSetting: an environment or a host is not in it; every mistake at once.
    """
    try:
        fleet = inventory.fleet(environment, hosts)
    except BadInventory as error:
        raise BadSetting(tuple(f"parameter {mistake}" for mistake in error.mistakes)) from error
    concerned = (
        {host.environment for host in fleet} if hosts else {environment or n for n in inventory.environments}
    )
    ordered = tuple(name for name in inventory.environments if name in concerned)
    return Estate(inventory, fleet, ordered, chosen=bool(hosts), override=override)


def choose_pairs(estate: Estate) -> tuple[tuple[Host, Host], ...]:
    """Which hosts measure the way to which: along the inventory's edges, each pair once.

    A balancer measures to the hosts behind it, a service's hosts to the services and databases that it uses,
    a primary to its standbys, each to `PEERS_AT_MOST` of them. A host that no edge touches measures to the
    next host of its environment.
    """
    fleet = {host.name: host for host in estate.readable if host.connection == "ssh"}
    pairs: list[tuple[Host, Host]] = []
    for name in estate.environments:
        environment = estate.inventory.environments[name]
        chosen = list(_bounded(_edges(environment), fleet))
        touched = {host for pair in chosen for host in pair}
        ring = [host for host in environment.hosts if host in fleet]
        for host, following in zip(ring, ring[1:] + ring[:1], strict=True):
            if host not in touched and host != following:
                chosen.append((host, following))
                touched |= {host, following}
        pairs += [(fleet[source], fleet[peer]) for source, peer in chosen]
    return tuple(pairs)


def _bounded(edges: Iterable[tuple[str, str]], fleet: Iterable[str]) -> Iterator[tuple[str, str]]:
    names, seen, peers = set(fleet), set[frozenset[str]](), dict[str, int]()
    for source, peer in edges:
        pair = frozenset((source, peer))
        if pair <= names and len(pair) == 2 and pair not in seen and peers.get(source, 0) < PEERS_AT_MOST:
            seen.add(pair)
            peers[source] = peers.get(source, 0) + 1
            yield source, peer


def _edges(environment: Environment) -> Iterator[tuple[str, str]]:
    """Every edge of the environment, source before peer, in the inventory's order."""
    members = {
        name: [h.name for h in environment.hosts.values() if h.service == name]
        for name in environment.services
    }
    balancers = {balancer.host for balancer in environment.load_balancers.values()}
    for name, service in environment.services.items():
        used = chain(
            (host for other in service.depends_on for host in members.get(other, [])),
            (
                m.host
                for d in service.databases
                if d in environment.databases
                for m in environment.databases[d].members
            ),
        )
        front, back = _split(members[name], balancers)
        yield from ((source, peer) for source in front for peer in back)
        yield from ((source, peer) for peer in used for source in back or front)
    for database in environment.databases.values():
        primaries = [m.host for m in database.members if m.role == "primary"]
        standbys = [m.host for m in database.members if m.role == "standby"]
        yield from ((source, peer) for source in primaries for peer in standbys)


def _split(hosts: Iterable[str], balancers: set[str]) -> tuple[list[str], list[str]]:
    ordered = list(hosts)
    return [h for h in ordered if h in balancers], [h for h in ordered if h not in balancers]
