"""Hold a number against its limits, and say both in words."""

from __future__ import annotations

from datetime import timedelta

from infra.findings import Status
from infra.inventory import Level


def judge_level(value: float, level: Level | None) -> Status:
    """At or beyond critical, at or beyond warning, or ok; a limit that is not given never triggers."""
    if level is not None and level.critical is not None and value >= level.critical:
        return Status.CRITICAL
    if level is not None and level.warning is not None and value >= level.warning:
        return Status.WARNING
    return Status.OK


def judge_low_level(value: float, level: Level) -> Status:
    """The same where little is bad: at or below."""
    if level.critical is not None and value <= level.critical:
        return Status.CRITICAL
    if level.warning is not None and value <= level.warning:
        return Status.WARNING
    return Status.OK


def words_for(level: Level | None, unit: str, prefix: str = "") -> str:
    """``warning at 80 %, critical at 90 %``; empty without limits."""
    if level is None:
        return ""
    limits = (("warning", level.warning), ("critical", level.critical))
    return ", ".join(
        f"{name} at {prefix}{limit:g} {unit}".rstrip() for name, limit in limits if limit is not None
    )


def in_bytes(size: float) -> str:
    """``1.2 GB``: powers of 1000, as df -H and disks' labels count."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def in_words(age: timedelta) -> str:
    """``3 days``, ``5 hours``, ``12 minutes``: the largest unit that fits, rounded down."""
    for unit, seconds in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if age.total_seconds() >= seconds:
            return count(int(age.total_seconds() // seconds), unit)
    return count(max(0, int(age.total_seconds())), "second")


def count(number: int, noun: str) -> str:
    """``1 unit``, ``2 units``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
