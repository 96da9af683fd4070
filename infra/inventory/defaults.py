"""The limits that hold where the inventory names none, each with its reason."""

from __future__ import annotations

from infra.inventory.model import Level, Thresholds

NEVER = Level()

DEFAULTS = Thresholds(
    # A run queue of twice the cpus is felt; of four times, interactive work stalls (Gregg, Systems Performance, 6.6).
    load_per_cpu=Level(warning=2, critical=4),
    # Queueing delay is ten times the service time at 90 % and fifty times at 98 % (M/M/1: 1 / (1 - utilisation)).
    cpu_percent=Level(warning=90, critical=98),
    # MemAvailable already counts reclaimable cache, so what is left is all there is before swapping or the OOM killer.
    memory_percent=Level(warning=90, critical=97),
    # Half-used swap shows a host that once was short of memory; at 80 % the OOM killer is near.
    swap_percent=Level(warning=50, critical=80),
    # df's percentage; ext4 keeps 5 % back for root and btrfs needs free chunks: act while 10 % are left.
    disk_space_percent=Level(warning=80, critical=90),
    # Running out of inodes is ENOSPC like running out of space, so the same limits.
    disk_inodes_percent=Level(warning=80, critical=90),
    # Busy time (iostat's %util): one queue saturates near 100 %; SSDs serve several requests at once, hence so late.
    disk_busy_percent=Level(warning=80, critical=95),
    # 50 ms is beyond one region's network, 200 ms beyond one continent's.
    network_latency_ms=Level(warning=50, critical=200),
    # TCP throughput falls with the square root of loss (Mathis 1997): 0.1 % is measurable, 1 % is ruinous.
    interface_errors_percent=Level(warning=0.1, critical=1),
    # Half a second already misorders logs over hosts; Kerberos (RFC 4120) allows 5 minutes, TOTP 30 s, etcd warns at 1 s.
    clock_offset_ms=Level(warning=500, critical=5000),
    # resolv.conf(5): a resolver gets 5 s before the next is asked; 2 s is felt in every connection.
    dns_time_ms=Level(warning=500, critical=2000),
    # tls_days is not given: it follows the certificate's lifetime, see Thresholds.tls_days.
    # A long uptime is no fault by itself (a pending reboot is a check of its own); counts differ from estate to estate.
    uptime_days=NEVER,
    pending_updates=NEVER,
    log_errors=NEVER,
)
