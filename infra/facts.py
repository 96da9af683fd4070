"""What a host says about itself: frozen, as read at one moment.

None always means "not known": the probe could not tell (no tool, no permission). It never means zero.
Facts that describe the machine under a container rather than the host itself are named in `HostFacts.shared`;
they are judged on the control machine only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class OperatingSystem:
    """From os-release(5): ``id`` (debian), ``version`` (12), ``name`` (PRETTY_NAME)."""

    id: str
    version: str
    name: str


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. ``available`` is MemAvailable for memory and SwapFree for swap."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Filesystem:
    """One mounted filesystem, once per device. Inodes are None where the filesystem has no fixed number."""

    mount: str
    device: str
    type: str
    size_bytes: int
    used_bytes: int
    available_bytes: int
    inodes: int | None
    inodes_used: int | None
    read_only: bool


@dataclass(frozen=True, slots=True)
class DiskCounters:
    """/proc/diskstats since boot: bytes, and milliseconds during which the device was busy."""

    device: str
    read_bytes: int
    written_bytes: int
    busy_ms: int


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """/sys/class/net/*/statistics since boot; loopback left out."""

    name: str
    up: bool
    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int


@dataclass(frozen=True, slots=True)
class Counters:
    """Everything that only means something as a difference between two reads.

    Attributes:
        at_s: the host's monotonic clock (/proc/uptime), seconds.
        cpu_busy_s, cpu_total_s: cpu seconds over all cpus.
        cpu_iowait_s: part of the total that waited for a disk.
        disks: the devices that back this host's own filesystems.
    """

    at_s: float
    cpu_busy_s: float
    cpu_iowait_s: float
    cpu_total_s: float
    disks: tuple[DiskCounters, ...]
    interfaces: tuple[InterfaceCounters, ...]


@dataclass(frozen=True, slots=True)
class DiskRate:
    """Rates of one device: bytes a second, and the percentage of time it was busy (0 to 100)."""

    device: str
    read_bytes_s: float
    written_bytes_s: float
    busy_percent: float


@dataclass(frozen=True, slots=True)
class Rates:
    """The difference between two `Counters` of one host, over `over_s` seconds."""

    over_s: float
    cpu_percent: float
    iowait_percent: float
    disks: tuple[DiskRate, ...]


@dataclass(frozen=True, slots=True)
class UnitState:
    """One systemd unit: ActiveState (``active``, ``failed`` ...), SubState, LoadState (``not-found`` ...)."""

    active: str
    sub: str
    load: str


@dataclass(frozen=True, slots=True)
class Clock:
    """Time on the host.

    Attributes:
        offset_s: the host's clock minus the control machine's; None where it was not measured.
        uncertainty_s: half of the round trip: the offset is known no better.
        synchronised: what the host's own time service says.
    """

    offset_s: float | None
    uncertainty_s: float | None
    synchronised: bool | None


@dataclass(frozen=True, slots=True)
class PendingReboot:
    """Whether a reboot is due, and why (packages, kernels); None when no probe could tell (B10)."""

    required: bool | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Process:
    """One of the processes that use most cpu or memory."""

    pid: int
    command: str
    cpu_percent: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Everything that one read of a host returned.

    Attributes:
        host: inventory name.
        read_at: aware UTC.
        boot_id: /proc/sys/kernel/random/boot_id; changes with every boot.
        container: ``systemd-nspawn``, ``lxc``, ``docker`` ... or None on a machine of its own.
        uptime_s: age of this host's PID 1.
        load: averages over 1, 5 and 15 minutes.
        failed_units: names, sorted.
        units: state of the critical units that were asked for, by name.
        pending_updates: None when the package manager could not say.
        log_errors: journal entries of priority err or worse in the last hour; None when unreadable.
        shared: names of attributes that describe the machine underneath, e.g. ``load``.
        refused: what could not be read and why, by attribute, e.g. ``{"log_errors": "permission denied"}``.
    """

    host: str
    read_at: datetime
    hostname: str
    os: OperatingSystem
    kernel: str
    architecture: str
    boot_id: str
    container: str | None
    uptime_s: float
    cpus: int
    load: tuple[float, float, float]
    memory: Memory
    swap: Memory
    filesystems: tuple[Filesystem, ...]
    counters: Counters
    failed_units: tuple[str, ...] | None
    units: Mapping[str, UnitState]
    clock: Clock
    reboot: PendingReboot
    pending_updates: int | None
    top_processes: tuple[Process, ...]
    log_errors: int | None
    shared: frozenset[str]
    refused: Mapping[str, str]


def rates_between(before: Counters, after: Counters) -> Rates | None:
    """Turn two reads of one host's counters into rates.

    Returns:
        None when the second read is not later, or a counter went backwards (the host was rebooted meanwhile).
    """
    over_s = after.at_s - before.at_s
    cpu_s = after.cpu_total_s - before.cpu_total_s
    if over_s <= 0 or cpu_s <= 0:
        return None
    earlier = {disk.device: disk for disk in before.disks}
    pairs = [(earlier[disk.device], disk) for disk in after.disks if disk.device in earlier]
    if any(new.busy_ms < old.busy_ms for old, new in pairs):
        return None
    return Rates(
        over_s=over_s,
        cpu_percent=_percent(after.cpu_busy_s - before.cpu_busy_s, cpu_s),
        iowait_percent=_percent(after.cpu_iowait_s - before.cpu_iowait_s, cpu_s),
        disks=tuple(
            DiskRate(
                device=new.device,
                read_bytes_s=(new.read_bytes - old.read_bytes) / over_s,
                written_bytes_s=(new.written_bytes - old.written_bytes) / over_s,
                busy_percent=_percent((new.busy_ms - old.busy_ms) / 1000, over_s),
            )
            for old, new in pairs
        ),
    )


def _percent(part: float, whole: float) -> float:
    """Within 0 to 100, whatever was rounded; iowait may even go back a little, see proc(5)."""
    return min(100.0, max(0.0, 100 * part / whole))
