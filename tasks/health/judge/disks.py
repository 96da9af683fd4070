"""Filesystems and disks of one host."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from fnmatch import fnmatchcase

from infra.facts import Filesystem, HostFacts, Rates
from infra.findings import Finding, Status
from infra.inventory import Host, Level, Thresholds
from tasks.health.judge.about import about_host, on_host
from tasks.health.judge.levels import in_bytes, judge_level, words_for


def judge_filesystems(host: Host, facts: HostFacts, limits: Thresholds) -> Iterator[Finding]:
    """Space, inodes and read-only state of every filesystem that the inventory does not ignore."""
    for filesystem in facts.filesystems:
        if any(fnmatchcase(filesystem.mount, pattern) for pattern in host.ignored_mounts):
            continue
        if filesystem.read_only:
            yield _read_only(host, filesystem)
        if filesystem.used_bytes + filesystem.available_bytes > 0:
            yield _space(host, filesystem, limits.disk_space_percent)
        if filesystem.inodes and filesystem.inodes_used is not None:
            yield _inodes(
                host, filesystem, filesystem.inodes, filesystem.inodes_used, limits.disk_inodes_percent
            )


def _read_only(host: Host, filesystem: Filesystem) -> Finding:
    return about_host(host).found(
        "disk_read_only",
        Status.CRITICAL,
        f"{filesystem.mount} ({filesystem.device}) is mounted read-only",
        part=filesystem.mount,
        advice=on_host(host, "dmesg -T | grep -iE 'remount|i/o error|ext4|xfs|btrfs' | tail -n 20"),
    )


def _space(host: Host, filesystem: Filesystem, level: Level | None) -> Finding:
    """Used of what users can have, as df(1) counts: what is reserved for root is neither."""
    used = 100 * filesystem.used_bytes / (filesystem.used_bytes + filesystem.available_bytes)
    return about_host(host).found(
        "disk_space",
        judge_level(used, level),
        f"{filesystem.mount} is {used:.0f} % full ({in_bytes(filesystem.available_bytes)} left)",
        part=filesystem.mount,
        value=used,
        unit="%",
        threshold=words_for(level, "%"),
        advice=on_host(
            host, f"sudo du -xh {shlex.quote(filesystem.mount)} 2>/dev/null | sort -h | tail -n 20"
        ),
    )


def _inodes(
    host: Host, filesystem: Filesystem, inodes: int, used_inodes: int, level: Level | None
) -> Finding:
    used = 100 * used_inodes / inodes
    return about_host(host).found(
        "disk_inodes",
        judge_level(used, level),
        f"{filesystem.mount} has {used:.0f} % of its inodes in use ({inodes - used_inodes} left)",
        part=filesystem.mount,
        value=used,
        unit="%",
        threshold=words_for(level, "%"),
        advice=on_host(host, f"sudo du -x --inodes {shlex.quote(filesystem.mount)} | sort -n | tail -n 20"),
    )


def judge_disk_io(host: Host, rates: Rates | None, limits: Thresholds) -> Iterator[Finding]:
    """The busiest disk: those under it (a partition's, a volume's) say the same again."""
    if rates is None or not rates.disks:
        return
    level = limits.disk_busy_percent
    busiest = max(rates.disks, key=lambda disk: (disk.busy_percent, disk.device))
    yield about_host(host).found(
        "disk_io",
        judge_level(busiest.busy_percent, level),
        f"{busiest.device} was busy {busiest.busy_percent:.0f} % of {rates.over_s:.0f} s "
        f"(reads {in_bytes(busiest.read_bytes_s)}/s, writes {in_bytes(busiest.written_bytes_s)}/s)",
        value=busiest.busy_percent,
        unit="%",
        threshold=words_for(level, "%"),
        advice=on_host(
            host,
            "sudo iotop -boPn 3 2>/dev/null | head -n 20 || vmstat 1 5; ps -eo state,pid,args | grep '^D'",
        ),
    )
