"""A healthy host, and the lab's whole estate as a run observes it, with faults that a test switches on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.errors import Unreachable, UpkeepError
from infra.facts import (
    Clock,
    Counters,
    DiskRate,
    Filesystem,
    HostFacts,
    InterfaceCounters,
    Memory,
    OperatingSystem,
    PendingReboot,
    Rates,
    UnitState,
)
from infra.findings import Finding, Status
from infra.inventory import Endpoint, Host, Inventory
from infra.inventory.load import parse_inventory
from infra.lab.plan import Lab
from infra.lab.roles.estate import render
from infra.readings import (
    CONTROL,
    DnsError,
    DnsReading,
    EndpointReading,
    EndpointSample,
    Failure,
    LatencyReading,
    TlsReading,
)
from tasks.health.assess import Latencies, Network, Observed, assess
from tasks.health.estate import choose_estate, choose_pairs

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ACTIVE = UnitState("active", "running", "loaded")
STOPPED = UnitState("inactive", "dead", "loaded")
FAILED = UnitState("failed", "failed", "loaded")
GB = 10**9


def filesystem(
    mount: str = "/", *, used: float = 0.4, inodes: int | None = 1000, inodes_used: int = 100
) -> Filesystem:
    """100 GB, of which a share is used."""
    used_bytes = int(100 * GB * used)
    return Filesystem(
        mount, "/dev/vda1", "ext4", 100 * GB, used_bytes, 100 * GB - used_bytes, inodes, inodes_used, False
    )


def interface(*, packets: int = 10_000, errors: int = 0, name: str = "eth0") -> InterfaceCounters:
    """One interface that is up."""
    return InterfaceCounters(name, True, packets * 500, 0, packets, 0, errors, 0, 0, 0)


def counters(*interfaces: InterfaceCounters) -> Counters:
    """Counters of a host that is up for a day."""
    return Counters(86_400, 1000, 10, 100_000, (), interfaces or (interface(),))


def facts_of(host: Host, names: Sequence[str] = (), **changes: Any) -> HostFacts:
    """A healthy host that is a machine of its own; `changes` replace single facts."""
    healthy = HostFacts(
        host=host.name,
        read_at=NOW,
        hostname=host.name,
        os=OperatingSystem("debian", "12", "Debian GNU/Linux 12 (bookworm)"),
        kernel="6.1.0-18-amd64",
        architecture="x86_64",
        boot_id="2d1b4a7c-0000-4000-8000-000000000001",
        container=None,
        uptime_s=86_400,
        cpus=2,
        load=(0.5, 0.4, 0.3),
        memory=Memory(8 * GB, 6 * GB),
        swap=Memory(2 * GB, 2 * GB),
        filesystems=(filesystem(),),
        counters=counters(),
        failed_units=(),
        units=dict.fromkeys(names, ACTIVE),
        clock=Clock(0.002, 0.001, True),
        reboot=PendingReboot(False, ()),
        pending_updates=0,
        top_processes=(),
        log_errors=0,
        shared=frozenset(),
        refused={},
    )
    return replace(healthy, **changes)


def rates(cpu: float = 5.0, disk: float = 2.0) -> Rates:
    """Rates over two seconds."""
    return Rates(2.0, cpu, 0.5, (DiskRate("vda", 1e6, 2e6, disk),))


class World:
    """The lab's estate as one run observes it; everything is well until a test breaks something."""

    def __init__(self, directory: Path) -> None:
        text = render(Lab("test", 77), directory, "postgresql@15-main.service")
        self.inventory: Inventory = parse_inventory(text, "lab.toml")
        self.estate = choose_estate(self.inventory, None, (), None)
        self.hosts = {host.name: host for host in self.estate.fleet}
        units = self.inventory.critical_units
        self.answers: dict[str, HostFacts | UpkeepError] = {
            host.name: facts_of(host, units(host)) for host in self.estate.readable
        }
        self.rates = {name: rates() for name in self.answers}
        self.samples: dict[tuple[str, str], EndpointSample] = {}
        self.certificates: dict[str, TlsReading] = {}
        self.resolved: dict[tuple[str, str], DnsReading] = {}
        self.slow: dict[tuple[str, str], float] = {}
        self.latency_failures: dict[tuple[str, str], Failure] = {}

    # -- faults

    def change(self, host: str, **changes: Any) -> None:
        """Replace facts of a host."""
        known = self.answers[host]
        assert isinstance(known, HostFacts)
        self.answers[host] = replace(known, **changes)

    def unit(self, host: str, unit: str, state: UnitState) -> None:
        """Put a unit into a state."""
        known = self.answers[host]
        assert isinstance(known, HostFacts)
        self.change(host, units={**known.units, unit: state})

    def down(self, host: str) -> None:
        """Cut a host off."""
        address = self.hosts[host].address
        self.answers[host] = Unreachable(f"no answer on {address}:22 within 5 s", host=host)

    def break_endpoint(self, part: str, sample: EndpointSample, vantage: str | None = None) -> None:
        """Whatever endpoint has this in its URL answers with this sample, from one vantage or from all."""
        found = [w.item for w in self.estate.endpoints() if part in w.item.url]
        assert found, f"the lab has no endpoint with {part}"
        for endpoint in found:
            for seen_from in endpoint.probed_from:
                if vantage in (None, seen_from):
                    self.samples[endpoint.url, seen_from] = sample

    def refuse(self, part: str) -> None:
        """Whatever endpoint has this in its URL refuses connections."""
        self.break_endpoint(part, EndpointSample(None, failure=Failure.CONNECT, error="connection refused"))

    # -- what a run makes of it

    def findings(self) -> tuple[Finding, ...]:
        """Judge it all, as the flow does."""
        return assess(self.estate, self.observe())

    def counted(self) -> list[tuple[str, str, Status]]:
        """Check, subject and status of what counts and is not ok."""
        return sorted(
            (f.check, f.subject, f.status) for f in self.findings() if f.counts and f.status is not Status.OK
        )

    def observe(self) -> Observed:
        """Everything that a run reads."""
        answered = {name for name, answer in self.answers.items() if isinstance(answer, HostFacts)}
        pairs = [p for p in choose_pairs(self.estate) if {h.name for h in p} <= answered]
        return Observed(
            at=NOW,
            answers=self.answers,
            rates={name: rate for name, rate in self.rates.items() if name in answered},
            previous={},
            network=self._network(),
            latencies=Latencies(
                tuple(
                    self._latency(CONTROL, n) for n in sorted(answered) if self.hosts[n].connection == "ssh"
                ),
                tuple(self._latency(a.name, b.name) for a, b in pairs),
            ),
        )

    def _latency(self, origin: str, peer: str) -> LatencyReading:
        failure = self.latency_failures.get((origin, peer))
        if failure is not None:
            return LatencyReading(origin, peer, None, failure=failure, error="no answer")
        extra = self.slow.get((origin, peer), 0.0)
        return LatencyReading(origin, peer, 0.2 + extra, "ping")

    def slow_down(self, host: str, ms: float) -> None:
        """Every packet of this host takes longer."""
        for other in (CONTROL, *self.hosts):
            self.slow[other, host] = self.slow[host, other] = ms

    def _network(self) -> Network:
        addresses = [(w, tuple(w.item.addresses)) for w in self.estate.tls_names()]
        return Network(
            endpoints=tuple(
                (w, tuple(self._endpoint(w.item, vantage) for vantage in w.item.probed_from))
                for w in self.estate.endpoints()
            ),
            tls=tuple((w, tuple(self._tls(w.item.name, a) for a in found)) for w, found in addresses),
            dns=tuple(
                (w, tuple(self._dns(w.item.name, r, w.item.expect) for r in w.item.resolvers))
                for w in self.estate.dns_names()
            ),
        )

    def _endpoint(self, endpoint: Endpoint, vantage: str) -> EndpointReading:
        if isinstance(error := self.answers.get(vantage), UpkeepError):
            return EndpointReading(
                vantage, (EndpointSample(None, failure=Failure.VANTAGE, error=str(error)),)
            )
        status = None if endpoint.url.startswith("tcp") else endpoint.expect_status[0]
        good = EndpointSample(12.0, status, body='{"status": "ok"}')
        return EndpointReading(vantage, (self.samples.get((endpoint.url, vantage), good),) * 5)

    def _tls(self, name: str, address: str) -> TlsReading:
        return self.certificates.get(name) or certificate(address, days=60)

    def _dns(self, name: str, resolver: str, expected: Sequence[str]) -> DnsReading:
        known = self.resolved.get((name, resolver)) or self.resolved.get(("*", resolver))
        return known or DnsReading(resolver, frozenset(expected), 1.5)


def certificate(
    address: str = "10.0.0.1", *, days: float, lifetime: float = 90, **changes: Any
) -> TlsReading:
    """A certificate that ends in so many days."""
    ends = NOW + timedelta(days=days)
    good = TlsReading(address, ends - timedelta(days=lifetime), ends, "CN=shop.test", name_matches=True)
    return replace(good, **changes)


def silent(resolver: str) -> DnsReading:
    """A resolver that does not answer."""
    return DnsReading(resolver, error=DnsError.TIMEOUT, detail=f"no answer from {resolver} within 2 x 2 s")


def host_named(name: str = "web-1", **fields: Any) -> Host:
    """A host of the environment production."""
    given: Mapping[str, Any] = {"environment": "production", "address": "10.0.0.11", **fields}
    return Host(name=name, **given)
