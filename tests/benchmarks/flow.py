"""What the health flow adds at N hosts: Prefect, judging, recording and publishing, without any network.

    python -m tests.benchmarks.flow [--hosts 200] [--rounds 7]

The adapters answer at once from memory; everything else is real: a Prefect server, the flow as
`upkeep health` runs it (without heartbeats, which end on whole seconds), the decisions, the store. What
fanning out to instant answers takes is measured apart and subtracted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

GOAL_S = 0.5  # at 200 hosts


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch), options.hosts)
        flow_s, bare_s = measure(options.rounds)
    added = [flow - bare_s for flow in flow_s]
    print(f"{options.hosts} hosts, {options.rounds} rounds after one to warm up")
    print(f"the flow adds     {statistics.median(added):.2f} s ({min(added):.2f} to {max(added):.2f})")
    print(f"instant fan-outs  {bare_s:.3f} s")
    print(f"goal              {GOAL_S} s at 200 hosts: {statistics.median(added) / GOAL_S:.2f} of it")


def prepare(scratch: Path, hosts: int) -> None:
    """An inventory of web hosts with a unit and an endpoint each, and an environment of our own."""
    names = [f"web-{n}" for n in range(1, hosts + 1)]
    lines = [
        f'{name} = {{address = "198.18.{n // 250}.{n % 250 + 1}", role = "web", service = "shop"}}'
        for n, name in enumerate(names)
    ]
    endpoints = [f'{{url = "http://{name}.example/healthz", host = "{name}"}},' for name in names]
    text = [
        "version = 1", "[environments.production.hosts]", *lines, "[environments.production.services.shop]",
        'critical_units = {web = ["shop.service"]}', "endpoints = [", *endpoints, "]",
    ]  # fmt: skip
    (scratch / "inventory.toml").write_text("\n".join(text))
    os.environ.update(
        UPKEEP_INVENTORY=str(scratch / "inventory.toml"),
        UPKEEP_HOME=str(scratch / "home"),
        PREFECT_HOME=str(scratch / "prefect"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
    )
    from deployments.cli.health import quiet_prefect

    quiet_prefect()


def measure(rounds: int) -> tuple[list[float], float]:
    """Seconds of each round of the flow, and the median of its bare fan-outs."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    from flows.health import health
    from infra import endpoints, latency, probe, ssh
    from infra.inventory import load_inventory
    from infra.settings import settings
    from tasks.health import steps
    from tests.flows.estate import Estate

    estate = Estate()
    for module, name in (
        (probe, "read_facts"), (probe, "read_counters"), (endpoints, "probe_endpoint"),
        (latency, "measure_latency"), (latency, "measure_between"),
    ):  # fmt: skip
        setattr(module, name, getattr(estate, name))
    steps.RATES_OVER_S = 0.0
    inventory = load_inventory(settings().inventory)
    fleet = inventory.fleet()

    def bare() -> None:
        ssh.fan_out(fleet, lambda host: estate.read_facts(host, inventory.critical_units(host)))
        ssh.fan_out(fleet, estate.read_counters)

    without_heartbeats = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=120), without_heartbeats:
        flow_s = [timed(lambda: health(return_state=True)) for _ in range(rounds + 1)][1:]
    return flow_s, statistics.median(timed(bare) for _ in range(rounds))


def timed(act: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
