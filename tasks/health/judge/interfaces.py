"""Errors of network interfaces, per packet since an earlier read.

Drops are left out: a host drops what it does not understand, all day long.
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.facts import Counters, InterfaceCounters
from infra.findings import Finding, Status
from infra.inventory import Host, Thresholds
from tasks.health.judge.about import about_host, on_host
from tasks.health.judge.levels import judge_level, words_for

# Fewer errors than this say nothing about a link, whatever they are of an idle link's few packets.
LEAST_ERRORS = 10


def judge_interfaces(
    host: Host, counters: Counters, previous: Counters | None, limits: Thresholds
) -> Iterator[Finding]:
    """The worst interface: a bond, its members and a bridge on it all count the same errors."""
    if previous is None or not counters.interfaces:
        return
    level = limits.interface_errors_percent
    before = {interface.name: interface for interface in previous.interfaces}
    differences = [_difference(interface, before.get(interface.name)) for interface in counters.interfaces]
    worst, (errors, packets) = max(
        zip(counters.interfaces, differences, strict=True),
        key=lambda pair: (_percent(*pair[1]), pair[0].name),
    )
    percent = _percent(errors, packets)
    yield about_host(host).found(
        "interface_errors",
        judge_level(percent, level) if errors >= LEAST_ERRORS else Status.OK,
        f"{worst.name} had {errors} errors in {packets} packets since the last check ({percent:.3g} %)",
        value=percent,
        unit="%",
        threshold=words_for(level, "%"),
        advice=on_host(
            host, f"ip -s -s link show {worst.name}; sudo ethtool -S {worst.name} | grep -v ': 0$'"
        ),
    )


def _difference(now: InterfaceCounters, before: InterfaceCounters | None) -> tuple[int, int]:
    """Errors and packets since the earlier read; since boot when the host was rebooted in between."""
    errors, packets = _totals(now)
    if before is None:
        return errors, packets
    earlier_errors, earlier_packets = _totals(before)
    if packets < earlier_packets or errors < earlier_errors:
        return errors, packets
    return errors - earlier_errors, packets - earlier_packets


def _totals(interface: InterfaceCounters) -> tuple[int, int]:
    errors = interface.rx_errors + interface.tx_errors
    return errors, interface.rx_packets + interface.tx_packets + errors


def _percent(errors: int, packets: int) -> float:
    return 100 * errors / packets if packets else 0.0
