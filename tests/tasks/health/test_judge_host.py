from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import AuthenticationRefused, HostKeyRefused, Unreachable, UpkeepError
from infra.facts import Clock, HostFacts, Memory, PendingReboot, Process, UnitState
from infra.findings import Finding, Status
from infra.inventory import Host, Level, Thresholds
from infra.inventory.thresholds import DEFAULTS
from tasks.health.judge import judge_host
from tasks.health.judge.levels import in_bytes, in_words, judge_level, words_for
from tests.tasks.health.examples import (
    ACTIVE,
    FAILED,
    GB,
    STOPPED,
    counters,
    facts_of,
    filesystem,
    host_named,
    interface,
    rates,
)

WEB = host_named("web-1")
UNITS = ("nginx.service",)


def judge(host: Host = WEB, limits: Thresholds = DEFAULTS, **changes: Any) -> dict[str, Finding]:
    """Findings about a host with these facts, by check."""
    facts = facts_of(host, UNITS, **changes)
    return {f.check: f for f in judge_host(host, facts, rates(), UNITS, limits, counters())}


def judge_silence(host: Host, error: UpkeepError | None) -> Finding:
    (finding,) = judge_host(host, error, None, UNITS, DEFAULTS)
    return finding


def test_a_healthy_host_is_ok_in_everything_and_has_no_advice() -> None:
    found = judge()
    assert {f.status for f in found.values()} == {Status.OK}
    assert {f.advice for f in found.values()} == {""}
    assert set(found) == {
        "reachability",
        "uptime",
        "load",
        "cpu",
        "memory",
        "swap",
        "disk_space",
        "disk_inodes",
        "disk_io",
        "interface_errors",
        "critical_unit",
        "failed_units",
        "clock_offset",
        "pending_reboot",
        "pending_updates",
        "log_errors",
    }


def test_a_host_that_is_down_is_one_critical_finding() -> None:
    finding = judge_silence(WEB, Unreachable("no answer on 10.0.0.11:22 within 5 s", host="web-1"))
    assert (finding.check, finding.status) == ("reachability", Status.CRITICAL)
    assert finding.summary == "web-1 cannot be reached: no answer on 10.0.0.11:22 within 5 s"


@pytest.mark.parametrize("error", [AuthenticationRefused("no key fits"), HostKeyRefused("the key changed")])
def test_a_host_that_lets_nobody_in_is_unknown_and_not_down(error: UpkeepError) -> None:
    finding = judge_silence(WEB, error)
    assert (finding.check, finding.status) == ("access", Status.UNKNOWN)
    assert error.reason in finding.summary


def test_a_windows_host_is_unknown_with_a_sentence() -> None:
    finding = judge_silence(host_named("win-1", os="windows"), None)
    assert (finding.status, finding.summary) == (
        Status.UNKNOWN,
        "win-1 was not checked: Windows hosts are not supported yet",
    )


@pytest.mark.parametrize(
    ("changes", "check", "status", "summary"),
    [
        (
            {"load": (9.0, 8.0, 1.0)},
            "load",
            Status.CRITICAL,
            "the 5-minute load is 8.00 on 2 cpus: 4.00 per cpu",
        ),
        (
            {"load": (9.0, 4.0, 1.0)},
            "load",
            Status.WARNING,
            "the 5-minute load is 4.00 on 2 cpus: 2.00 per cpu",
        ),
        ({"load": (9.0, 3.9, 9.0)}, "load", Status.OK, "the 5-minute load is 3.90 on 2 cpus: 1.95 per cpu"),
        (
            {"memory": Memory(10 * GB, GB // 5)},
            "memory",
            Status.CRITICAL,
            "memory is 98 % in use (200.0 MB of 10.0 GB left)",
        ),
        ({"swap": Memory(2 * GB, GB)}, "swap", Status.WARNING, "swap is 50 % in use (1.0 GB of 2.0 GB left)"),
        (
            {"filesystems": (filesystem("/var", used=0.93),)},
            "disk_space",
            Status.CRITICAL,
            "/var is 93 % full (7.0 GB left)",
        ),
        (
            {"filesystems": (filesystem("/var", inodes_used=850),)},
            "disk_inodes",
            Status.WARNING,
            "/var has 85 % of its inodes in use (150 left)",
        ),
        (
            {"failed_units": ("a.service", "b.timer")},
            "failed_units",
            Status.WARNING,
            "2 units failed on web-1: a.service, b.timer",
        ),
        (
            {"reboot": PendingReboot(True, ("libc6",))},
            "pending_reboot",
            Status.WARNING,
            "web-1 waits for a reboot: libc6",
        ),
        (
            {"clock": Clock(-7.0, 0.01, None)},
            "clock_offset",
            Status.CRITICAL,
            "the clock is 7000 ms behind the control machine's, give or take 10 ms",
        ),
        (
            {"clock": Clock(0.6, 0.05, False)},
            "clock_offset",
            Status.WARNING,
            (
                "the clock is 600 ms ahead of the control machine's, give or take 50 ms; "
                "its time service says: not synchronised"
            ),
        ),
    ],
)
def test_a_sentence_has_the_value_and_the_limits_decide(
    changes: dict[str, Any], check: str, status: Status, summary: str
) -> None:
    finding = judge(**changes)[check]
    assert (finding.status, finding.summary) == (status, summary)
    assert bool(finding.advice) == (status is not Status.OK)


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        (ACTIVE, Status.OK, "is active (running)"),
        (UnitState("reloading", "reload", "loaded"), Status.OK, "is reloading (reload)"),
        (STOPPED, Status.CRITICAL, "is stopped"),
        (FAILED, Status.CRITICAL, "has failed"),
        (UnitState("activating", "start-pre", "loaded"), Status.WARNING, "is activating (start-pre)"),
        (
            UnitState("activating", "auto-restart", "loaded"),
            Status.CRITICAL,
            "crashed and is about to be started again",
        ),
        (UnitState("inactive", "dead", "not-found"), Status.CRITICAL, "is not installed"),
        (UnitState("inactive", "dead", "masked"), Status.CRITICAL, "is masked"),
    ],
)
def test_a_critical_unit_must_be_active(state: UnitState, status: Status, words: str) -> None:
    finding = judge(units={UNITS[0]: state})["critical_unit"]
    assert (finding.subject, finding.status) == ("web-1:nginx.service", status)
    assert finding.summary == f"nginx.service on web-1 {words}"


def test_a_critical_unit_of_unknown_state_is_unknown_and_says_why() -> None:
    finding = judge(units={}, refused={"units": "no systemd"})["critical_unit"]
    assert (finding.status, finding.summary) == (
        Status.UNKNOWN,
        "the state of nginx.service on web-1 is not known: no systemd",
    )


def test_a_critical_unit_that_failed_is_not_counted_among_the_failed_ones() -> None:
    found = judge(units={UNITS[0]: FAILED}, failed_units=UNITS)
    assert (found["critical_unit"].status, found["failed_units"].status) == (Status.CRITICAL, Status.OK)


def test_ignored_units_and_mounts_are_not_judged() -> None:
    host = host_named("web-1", ignored_units=("snap-*",), ignored_mounts=("/media/*",))
    found = judge(host, failed_units=("snap-x.service",), filesystems=(filesystem("/media/cd", used=1.0),))
    assert found["failed_units"].status is Status.OK
    assert "disk_space" not in found


def test_a_filesystem_that_became_read_only_is_critical() -> None:
    finding = judge(filesystems=(replace(filesystem("/data"), read_only=True),))["disk_read_only"]
    assert (finding.status, finding.subject) == (Status.CRITICAL, "web-1:/data")


def test_what_describes_the_machine_underneath_is_one_skipped_finding() -> None:
    found = judge(
        container="systemd-nspawn",
        load=(99.0, 99.0, 99.0),
        shared=frozenset({"load", "memory", "swap", "cpu", "clock", "disk_io"}),
    )
    assert found["shared_facts"].status is Status.SKIPPED
    assert found["shared_facts"].summary == (
        "not applicable: clock offset, cpu, disk io, load, memory, swap describe the machine underneath "
        "(systemd-nspawn)"
    )
    assert not {"load", "memory", "swap", "cpu", "clock_offset", "disk_io"} & set(found)
    assert all(f.status in (Status.OK, Status.SKIPPED) for f in found.values())


def test_what_could_not_be_read_is_one_skipped_finding_with_reasons() -> None:
    finding = judge(
        log_errors=None, reboot=PendingReboot(None, ()), refused={"log_errors": "permission denied"}
    )["not_read"]
    assert finding.status is Status.SKIPPED
    assert (
        finding.summary == "not known: pending reboot (the host cannot tell), log errors (permission denied)"
    )


def test_without_a_second_read_rates_are_skipped_with_why() -> None:
    found = {f.check: f for f in judge_host(WEB, facts_of(WEB), None, (), DEFAULTS, None)}
    assert not {"cpu", "disk_io", "interface_errors"} & set(found)
    assert "cpu (needs two reads" in found["not_read"].summary
    assert "interface errors (needs an earlier run" in found["not_read"].summary


def test_cpu_and_disk_come_from_the_rates_and_name_the_culprit() -> None:
    facts = facts_of(WEB, top_processes=(Process(7, "idle", 1.0, 1), Process(9, "stress", 180.0, 1)))
    found = {f.check: f for f in judge_host(WEB, facts, rates(cpu=99, disk=85), (), DEFAULTS, None)}
    assert (found["cpu"].status, found["disk_io"].status) == (Status.WARNING, Status.WARNING)
    assert found["cpu"].summary == "the cpus were 99 % busy over 2 s, most of it stress (pid 9)"
    assert found["disk_io"].summary == "vda was busy 85 % of 2 s (reads 1.0 MB/s, writes 2.0 MB/s)"


@pytest.mark.parametrize(
    ("before", "after", "status", "percent"),
    [
        (interface(packets=10_000, errors=5), interface(packets=20_000, errors=5), Status.OK, 0.0),
        (interface(packets=10_000), interface(packets=19_800, errors=200), Status.CRITICAL, 2.0),
        (interface(packets=10_000), interface(packets=19_980, errors=20), Status.WARNING, 0.2),
        (interface(packets=10_000), interface(packets=10_001, errors=9), Status.OK, 90.0),  # few packets
        (
            interface(packets=10_000, errors=500),
            interface(packets=980, errors=20),
            Status.CRITICAL,
            2.0,
        ),  # reboot
    ],
)
def test_interface_errors_are_counted_per_packet_since_the_last_run(
    before: Any, after: Any, status: Status, percent: float
) -> None:
    facts = facts_of(WEB, counters=counters(after))
    found = {f.check: f for f in judge_host(WEB, facts, None, (), DEFAULTS, counters(before))}
    assert found["interface_errors"].status is status
    assert found["interface_errors"].value == pytest.approx(percent, abs=0.01)


def test_an_offset_within_its_uncertainty_is_ok() -> None:
    assert judge(clock=Clock(5.2, 5.0, None))["clock_offset"].status is Status.OK


def test_advice_can_be_typed_on_the_control_machine() -> None:
    host = host_named("web-1", user="ops", port=2222)
    assert judge(host, filesystems=(filesystem("/my data", used=1.0),))["disk_space"].advice == (
        "ssh -p 2222 ops@10.0.0.11 'sudo du -xh '\"'\"'/my data'\"'\"' 2>/dev/null | sort -h | tail -n 20'"
    )
    local = host_named("here", connection="local")
    assert judge(local, reboot=PendingReboot(True, ()))["pending_reboot"].advice.endswith(
        ": sudo systemctl reboot"
    )


def test_a_limit_that_is_not_given_never_triggers() -> None:
    assert judge_level(1e9, None) is Status.OK
    assert judge_level(1e9, Level(warning=5)) is Status.WARNING
    assert judge_level(5, Level(critical=5)) is Status.CRITICAL


def test_limits_sizes_and_times_in_words() -> None:
    assert words_for(Level(warning=80, critical=90), "%") == "warning at 80 %, critical at 90 %"
    assert words_for(Level(critical=2.5), "ms") == "critical at 2.5 ms"
    assert words_for(Level(), "%") == ""
    assert [in_bytes(n) for n in (999, 1_200_000_000, 5e15)] == ["999 B", "1.2 GB", "5000.0 TB"]
    assert [in_words(timedelta(seconds=s)) for s in (1, 60, 7200, 200_000)] == [
        "1 second",
        "1 minute",
        "2 hours",
        "2 days",
    ]


shares = st.floats(0, 1)


@given(st.tuples(shares, shares))
def test_more_of_a_bad_thing_is_never_better(values: tuple[float, float]) -> None:
    less, more = sorted(values)

    def status(share: float) -> list[Status]:
        facts: HostFacts = facts_of(
            WEB,
            load=(0, share * 20, 0),
            memory=Memory(GB, int(GB * (1 - share))),
            filesystems=(filesystem(used=share, inodes_used=int(1000 * share)),),
            clock=Clock(share * 10, 0.0, None),
            counters=counters(interface(packets=20_000, errors=int(share * 1000))),
        )
        limits = DEFAULTS
        found = judge_host(WEB, facts, rates(share * 100, share * 100), (), limits, counters())
        return [f.status for f in sorted(found, key=lambda f: f.key)]

    assert all(a.rank <= b.rank for a, b in zip(status(less), status(more), strict=True))


@pytest.mark.parametrize("error", [Unreachable, HostKeyRefused])
def test_an_error_that_knows_what_to_do_says_it_instead(error: type[UpkeepError]) -> None:
    assert judge_silence(WEB, error("no", host="web-1", advice="look there")).advice == "look there"
