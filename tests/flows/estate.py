"""An estate in memory: hosts that answer, fall silent and come back; endpoints that answer or refuse.

It stands where the adapters stand, so flow, steps, decisions and store are the real ones.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from infra import endpoints, latency, probe
from infra.errors import Unreachable, UpkeepError
from infra.facts import Counters, HostFacts, UnitState
from infra.inventory import Endpoint, Host
from infra.readings import CONTROL, EndpointReading, EndpointSample, Failure, LatencyReading
from infra.settings import settings
from tests.facts import counters_at, facts_of


class Estate:
    """What the adapters find.

    Attributes:
        silent: host -> how many reads it still fails to answer.
        refused: host -> the error that every read of it ends with.
        stopped: critical units that are not running, as ``HOST/UNIT``.
        down: URLs that refuse connections.
        reads: how often each host was read.
    """

    def __init__(self) -> None:
        self.silent: dict[str, int] = {}
        self.refused: dict[str, UpkeepError] = {}
        self.stopped: set[str] = set()
        self.down: set[str] = set()
        self.reads: Counter[str] = Counter()
        self._lock = threading.Lock()

    def read_facts(self, host: Host, units: Sequence[str] = ()) -> HostFacts:
        self._answer(host)
        states = {unit: self._state(host, unit) for unit in units}
        return facts_of(host.name, units=states)

    def read_counters(self, host: Host) -> Counters:
        self._answer(host)
        return counters_at(86402.0)

    def probe_endpoint(self, endpoint: Endpoint, vantage: Host | None = None) -> EndpointReading:
        where = vantage.name if vantage else CONTROL
        if endpoint.url in self.down:
            refused = EndpointSample(None, failure=Failure.CONNECT, error="connection refused")
            return EndpointReading(where, (refused,) * 5)
        return EndpointReading(where, (EndpointSample(3.0, status=200),) * 5)

    def measure_latency(self, hosts: Sequence[Host]) -> tuple[LatencyReading, ...]:
        return tuple(LatencyReading(CONTROL, host.name, 0.4, "tcp connect") for host in hosts)

    def measure_between(self, pairs: Sequence[tuple[Host, Host]]) -> tuple[LatencyReading, ...]:
        return tuple(LatencyReading(origin.name, peer.name, 0.4, "ping") for origin, peer in pairs)

    def _answer(self, host: Host) -> None:
        with self._lock:
            self.reads[host.name] += 1
            if host.name in self.refused:
                raise self.refused[host.name]
            if self.silent.get(host.name, 0) > 0:
                self.silent[host.name] -= 1
                raise Unreachable(f"no answer on {host.address}:22 within 5 s", host=host.name)

    def _state(self, host: Host, unit: str) -> UnitState:
        if f"{host.name}/{unit}" in self.stopped:
            return UnitState("inactive", "dead", "loaded")
        return UnitState("active", "running", "loaded")


INVENTORY = """
version = 1

[environments.production.hosts]
web-1 = {address = "198.18.0.11", role = "web", service = "shop"}
web-2 = {address = "198.18.0.12", role = "web", service = "shop"}
db-1 = {address = "198.18.0.13", role = "primary"}

[environments.production.services.shop]
critical_units = {web = ["shop.service"]}
endpoints = [
  {url = "http://web-1.example/healthz", host = "web-1"},
  {url = "http://web-2.example/healthz", host = "web-2"},
]

[environments.staging.hosts]
"""


@pytest.fixture
def estate(home: Path, monkeypatch: pytest.MonkeyPatch) -> Estate:
    """The estate of `INVENTORY`, well, behind the adapters' functions."""
    path = home.with_name("inventory.toml")
    path.write_text(INVENTORY)
    monkeypatch.setenv("UPKEEP_INVENTORY", str(path))
    settings.cache_clear()
    there = Estate()
    for module, name in (
        (probe, "read_facts"),
        (probe, "read_counters"),
        (endpoints, "probe_endpoint"),
        (latency, "measure_latency"),
        (latency, "measure_between"),
    ):
        monkeypatch.setattr(module, name, getattr(there, name))
    return there
