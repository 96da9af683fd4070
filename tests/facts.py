"""Facts of a host on which everything is well, for tests to spoil one thing at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from infra.facts import (
    Clock,
    Counters,
    DiskCounters,
    Filesystem,
    HostFacts,
    InterfaceCounters,
    Memory,
    OperatingSystem,
    PendingReboot,
)

GB = 10**9


def counters_at(at_s: float, *, busy: float = 0.05) -> Counters:
    """The counters of a quiet host of 2 cpus, `at_s` after its boot."""
    return Counters(
        at_s=at_s,
        cpu_busy_s=2 * at_s * busy,
        cpu_iowait_s=0.0,
        cpu_total_s=2 * at_s,
        disks=(DiskCounters("vda", int(at_s * 1000), int(at_s * 2000), int(at_s * 10)),),
        interfaces=(InterfaceCounters("eth0", True, 10**6, 10**6, 10**4, 10**4, 0, 0, 0, 0),),
    )


def facts_of(host: str, **changes: Any) -> HostFacts:
    """A host on which everything is well, but for `changes`."""
    values: dict[str, Any] = {
        "host": host,
        "read_at": datetime.now(UTC),
        "hostname": host,
        "os": OperatingSystem("debian", "12", "Debian GNU/Linux 12 (bookworm)"),
        "kernel": "6.1.0-30-amd64",
        "architecture": "x86_64",
        "boot_id": f"b007-{host}",
        "container": None,
        "uptime_s": 86400.0,
        "cpus": 2,
        "load": (0.1, 0.1, 0.1),
        "memory": Memory(8 * GB, 6 * GB),
        "swap": Memory(0, 0),
        "filesystems": (
            Filesystem("/", "/dev/vda1", "ext4", 40 * GB, 10 * GB, 30 * GB, 10**6, 10**5, False),
        ),
        "counters": counters_at(86400.0),
        "failed_units": (),
        "units": {},
        "clock": Clock(0.001, 0.001, True),
        "reboot": PendingReboot(False, ()),
        "pending_updates": 0,
        "top_processes": (),
        "log_errors": 0,
        "shared": frozenset(),
        "refused": {},
    }
    return HostFacts(**(values | changes))
