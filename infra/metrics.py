"""This machine's numbers, through psutil: the same facts as probe.sh reads on other hosts."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from infra.facts import (
    Counters,
    DiskCounters,
    Filesystem,
    InterfaceCounters,
    Memory,
    OperatingSystem,
    Process,
)

# Media that are read-only by nature: full and sealed is how they should be.
_SEALED_TYPES = {"squashfs", "iso9660", "udf", "erofs", "cramfs"}
_TOP = 5

# What the probe would have said where it does not run (a control machine that is not Linux).
NO_SYSTEM: dict[str, Any] = {
    "container": None,
    "failed_units": None,
    "units": (),
    "reboot": {"required": None, "reasons": ()},
    "pending_updates": None,
    "log_errors": None,
    "refused": {"failed_units": "systemd does not run here", "log_errors": "there is no journal here"},
}


def read_numbers() -> dict[str, Any]:
    """Every attribute of `HostFacts` that psutil and the standard library know, by name."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "hostname": socket.gethostname(),
        "os": _read_os(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "boot_id": _read_boot_id(),
        "uptime_s": time.time() - psutil.boot_time(),
        "cpus": psutil.cpu_count() or 1,
        "load": psutil.getloadavg(),
        "memory": Memory(memory.total, memory.available),
        "swap": Memory(swap.total, swap.free),
        "filesystems": tuple(_read_filesystems()),
        "counters": read_counters(),
        "top_processes": _read_top_processes(),
    }


def read_counters() -> Counters:
    """Everything that only means something as a difference between two reads."""
    at_s = time.monotonic()
    cpu = psutil.cpu_times()._asdict()
    # guest time is in user time already, proc(5)
    total_s = sum(seconds for kind, seconds in cpu.items() if kind not in ("guest", "guest_nice"))
    wait_s = cpu.get("iowait", 0.0)
    return Counters(
        at_s=at_s,
        cpu_busy_s=total_s - cpu["idle"] - wait_s,
        cpu_iowait_s=wait_s,
        cpu_total_s=total_s,
        disks=tuple(_read_disks()),
        interfaces=tuple(_read_interfaces()),
    )


def _read_os() -> OperatingSystem:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return OperatingSystem(platform.system().lower(), platform.release(), platform.platform())
    return OperatingSystem(release["ID"], release.get("VERSION_ID", ""), release.get("PRETTY_NAME", ""))


def _read_boot_id() -> str:
    """The kernel's own on Linux; elsewhere the instant of the boot stands in for it."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else f"booted-at-{psutil.boot_time():.0f}"


def _partitions() -> Iterator[Any]:
    """Filesystems with a device of their own, once each, the shortest mount point first."""
    seen = set()
    for partition in sorted(psutil.disk_partitions(all=False), key=lambda p: len(p.mountpoint)):
        if partition.fstype not in _SEALED_TYPES and partition.device not in seen:
            seen.add(partition.device)
            yield partition


def _read_filesystems() -> Iterator[Filesystem]:
    for partition in _partitions():
        try:
            stat = os.statvfs(partition.mountpoint)
        except OSError:  # unmounted meanwhile, or not ours to look at
            continue
        if stat.f_blocks:
            yield Filesystem(
                mount=partition.mountpoint,
                device=partition.device,
                type=partition.fstype,
                size_bytes=stat.f_blocks * stat.f_frsize,
                used_bytes=(stat.f_blocks - stat.f_bfree) * stat.f_frsize,
                available_bytes=stat.f_bavail * stat.f_frsize,
                inodes=stat.f_files or None,
                inodes_used=stat.f_files - stat.f_ffree if stat.f_files else None,
                read_only="ro" in partition.opts.split(","),
            )


def _read_disks() -> Iterator[DiskCounters]:
    counters = psutil.disk_io_counters(perdisk=True) or {}
    for name in sorted({_kernel_name(p) for p in _partitions()} & counters.keys()):
        disk = counters[name]
        # psutil has no busy time outside Linux and FreeBSD
        yield DiskCounters(name, disk.read_bytes, disk.write_bytes, getattr(disk, "busy_time", 0))


def _kernel_name(partition: Any) -> str:
    """The name in /proc/diskstats: /dev/mapper/vg-root is a link to dm-0, and /dev/root is no file."""
    device = Path(partition.device)
    if device.exists():
        return device.resolve().name
    number = os.stat(partition.mountpoint).st_dev  # noqa: PTH116 - the mount point's device, whatever it is
    link = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    return link.resolve().name if link.exists() else device.name


def _read_interfaces() -> Iterator[InterfaceCounters]:
    states = psutil.net_if_stats()
    for name, io in sorted(psutil.net_io_counters(pernic=True).items()):
        if name in ("lo", "lo0"):
            continue
        yield InterfaceCounters(
            name=name,
            up=name in states and states[name].isup,
            rx_bytes=io.bytes_recv,
            tx_bytes=io.bytes_sent,
            rx_packets=io.packets_recv,
            tx_packets=io.packets_sent,
            rx_errors=io.errin,
            tx_errors=io.errout,
            rx_dropped=io.dropin,
            tx_dropped=io.dropout,
        )


def _read_top_processes() -> tuple[Process, ...]:
    """The five that use most cpu over their life, then the five of the rest that use most memory."""
    now = time.time()
    processes = []
    for process in psutil.process_iter(["name", "cpu_times", "memory_info", "create_time"]):
        info = process.info
        age_s = now - (info["create_time"] or now)
        if not info["cpu_times"] or not info["memory_info"] or not info["memory_info"].rss or age_s < 2:
            continue  # not ours to look at, a kernel thread, or one of a moment, which has no rate
        cpu_s = info["cpu_times"].user + info["cpu_times"].system
        processes.append(Process(process.pid, info["name"], 100 * cpu_s / age_s, info["memory_info"].rss))
    processes.sort(key=lambda p: p.cpu_percent, reverse=True)
    rest = sorted(processes[_TOP:], key=lambda p: p.memory_bytes, reverse=True)
    return (*processes[:_TOP], *rest[:_TOP])
