"""Limits of health checks: their shape, and those that hold where nobody names one, each with its reason."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LOW_IS_BAD = frozenset({"tls_days"})


class Frozen(BaseModel):
    """Every table of the file: unknown keys are mistakes, and nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Level(Frozen):
    """Where a value becomes a warning and where critical; a level that is not given never triggers."""

    warning: float | None = Field(None, description="At or beyond this value: warning.", ge=0)
    critical: float | None = Field(None, description="At or beyond this value: critical.", ge=0)


class Thresholds(Frozen):
    """Limits of health checks. What is not given is inherited: host, environment, file, built-in defaults."""

    load_per_cpu: Level | None = Field(
        None, description="5-minute load average divided by the number of cpus."
    )
    cpu_percent: Level | None = Field(None, description="CPU in use, %, over the time between two reads.")
    memory_percent: Level | None = Field(None, description="Memory that is not available, %.")
    swap_percent: Level | None = Field(None, description="Swap in use, %.")
    disk_space_percent: Level | None = Field(None, description="Space in use as users see it (df), %.")
    disk_inodes_percent: Level | None = Field(None, description="Inodes in use, %.")
    disk_busy_percent: Level | None = Field(None, description="Time a disk was busy, %, between two reads.")
    network_latency_ms: Level | None = Field(None, description="Round trip, median, milliseconds.")
    interface_errors_percent: Level | None = Field(
        None, description="Errors per packet since the last read, %."
    )
    clock_offset_ms: Level | None = Field(
        None, description="Clock against the control machine, milliseconds."
    )
    dns_time_ms: Level | None = Field(None, description="Time of one DNS answer, milliseconds.")
    tls_days: Level | None = Field(
        None,
        description="Days left on a certificate, at or below. Not given: a third of its lifetime, at most "
        "30, is a warning and a tenth, at most 7, critical.",
    )
    uptime_days: Level | None = Field(None, description="Days since the last boot.")
    pending_updates: Level | None = Field(None, description="Number of updates that wait.")
    log_errors: Level | None = Field(None, description="Journal entries of priority err or worse in an hour.")

    @field_validator("*")
    @classmethod
    def _check_order(cls, level: Level | None, info: ValidationInfo) -> Level | None:
        limits = (level.warning, level.critical) if level else ()
        given = [limit for limit in limits if limit is not None]
        name = info.field_name or ""
        if name.endswith("_percent") and any(limit > 100 for limit in given):
            raise ValueError("percentages, 0 to 100")
        if name in LOW_IS_BAD and given != sorted(given, reverse=True):
            raise ValueError("a warning that is not below critical (few days left are bad)")
        if name not in LOW_IS_BAD and given != sorted(given):
            raise ValueError("a warning that is not beyond critical")
        return level

    def over(self, base: Thresholds) -> Thresholds:
        """These limits where they are given, else those of `base`."""
        given = {k: v for k, v in dict(self).items() if v is not None}
        return base.model_copy(update=given)


NEVER = Level()

DEFAULTS = Thresholds(
    # Twice as much work as cpus is felt, at four times interactive work stalls (Gregg, Systems Performance).
    load_per_cpu=Level(warning=2, critical=4),
    # Utilisation over a second or two says what is busy now; whether work has to wait says the load, which
    # can be critical (Gregg's USE method). A compiler at 100 % must not page anybody.
    cpu_percent=Level(warning=95),
    # MemAvailable (proc(5)) already counts cache that can be given back: below it waits the OOM killer.
    memory_percent=Level(warning=90, critical=97),
    # Half-used swap shows a host that once was short of memory; at 80 % the OOM killer is near.
    swap_percent=Level(warning=50, critical=80),
    # ext4 keeps 5 % for root, copy-on-write filesystems need free chunks: act while there is room to act.
    disk_space_percent=Level(warning=80, critical=90),
    # Running out of inodes is ENOSPC like running out of space, so the same limits.
    disk_inodes_percent=Level(warning=80, critical=90),
    # iostat(1) %util: a device that serves one request at a time is saturated near 100 %, others later.
    disk_busy_percent=Level(warning=80, critical=95),
    # 50 ms is beyond one region's network, 200 ms is another continent.
    network_latency_ms=Level(warning=50, critical=200),
    # TCP's throughput falls with the root of the loss (Mathis et al. 1997): 0.1 % is measurable, 1 % ruinous.
    interface_errors_percent=Level(warning=0.1, critical=1),
    # Half a second already misorders logs of several hosts; no working NTP client lets 5 s happen.
    clock_offset_ms=Level(warning=500, critical=5000),
    # resolv.conf(5): the next resolver is asked after 5 s; 2 s on every connection is an outage to a user.
    dns_time_ms=Level(warning=500, critical=2000),
    # tls_days stays open: it follows each certificate's own lifetime, see its description.
    # No number fits every estate for these three, and a pending reboot has a check of its own.
    uptime_days=NEVER,
    pending_updates=NEVER,
    log_errors=NEVER,
)
