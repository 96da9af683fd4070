"""`upkeep health` on the lab: silent when all is well, and for each fault exactly one counted finding.

Every fault is done to a real host, seen through the command line as a person sees it, mended, and gone again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from infra.lab.client import LabClient
from infra.lab.roles import issue
from infra.lab.roles.balancer import CERTIFICATE
from tests.deployments.installation import Installation, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.prefect, pytest.mark.timeout(700)]

Report = dict[str, Any]


def check(upkeep: Installation, environment: str, *options: str) -> Report:
    """The report of `upkeep health`, and that its exit code says the same."""
    done = upkeep.upkeep(
        "health", "--scope", "infrastructure", "--environment", environment, "--json", *options
    )
    assert done.stdout, done.stderr
    report: Report = json.loads(done.stdout)
    assert done.returncode == report["exit_code"]
    return report


def counted(report: Report) -> list[dict[str, Any]]:
    """The problems that count: not explained by another."""
    return [
        f
        for f in report["findings"]
        if f["status"] in {"warning", "unknown", "critical"} and f["caused_by"] is None
    ]


def said(findings: list[dict[str, Any]]) -> list[str]:
    return [f"{f['status']} {f['check']} {f['subject']}: {f['summary']}" for f in findings]


@dataclass(frozen=True)
class Fault:
    """What is done to the lab, and the one finding that must come of it."""

    name: str
    done: Callable[[LabClient], AbstractContextManager[None]]
    check: str
    status: str
    subject: str
    sentence: str
    environment: str = "production"
    options: tuple[str, ...] = ()


@contextmanager
def stopped_unit(lab: LabClient) -> Iterator[None]:
    lab.exec("prod-web-1", "systemctl", "stop", "shop.service")
    yield
    lab.exec("prod-web-1", "systemctl", "start", "shop.service")


@contextmanager
def failed_unit(lab: LabClient) -> Iterator[None]:
    lab.exec("prod-spare-1", "systemd-run", "--unit=nightly-report", "false")
    yield
    lab.exec("prod-spare-1", "systemctl", "reset-failed", "nightly-report.service")


@contextmanager
def full_disk(lab: LabClient) -> Iterator[None]:
    lab.fill("prod-spare-1")
    yield
    lab.unfill("prod-spare-1")


@contextmanager
def no_inodes(lab: LabClient) -> Iterator[None]:
    lab.fill_inodes("prod-spare-1")
    yield
    lab.unfill("prod-spare-1")


@contextmanager
def busy_disk(lab: LabClient) -> Iterator[None]:
    lab.io_load("prod-spare-1")
    yield
    lab.io_calm("prod-spare-1")


@contextmanager
def cut_off(lab: LabClient) -> Iterator[None]:
    lab.cut("prod-web-2")
    yield
    lab.uncut("prod-web-2")


@contextmanager
def frozen(lab: LabClient) -> Iterator[None]:
    lab.freeze("prod-web-2")
    yield
    lab.thaw("prod-web-2")


@contextmanager
def slow_host(lab: LabClient) -> Iterator[None]:
    lab.latency("prod-spare-1", 150)
    yield
    lab.latency("prod-spare-1", 0)


@contextmanager
def slow_pair(lab: LabClient) -> Iterator[None]:
    lab.latency("prod-web-1", 150, peer="prod-db-1")
    yield
    lab.latency("prod-web-1", 0, peer="prod-db-1")


def certificate(days_before: float, days_after: float) -> Callable[[LabClient], AbstractContextManager[None]]:
    @contextmanager
    def swapped(lab: LabClient) -> Iterator[None]:
        good = lab.exec("stage-lb-1", "cat", CERTIFICATE)
        bad = issue(lab.path, "shop.staging.lab", days_before=days_before, days_after=days_after).combined
        for pem in (bad, good):
            lab.exec("stage-lb-1", "tee", CERTIFICATE, stdin=pem)
            lab.exec("stage-lb-1", "systemctl", "reload", "haproxy.service")
            if pem == bad:
                yield

    return swapped


def answers(*resolvers: int) -> Callable[[LabClient], AbstractContextManager[None]]:
    """These resolvers give a wrong address for the staging shop."""

    @contextmanager
    def wrong(lab: LabClient) -> Iterator[None]:
        for lines in ("192.0.2.7 shop.staging.lab\n", ""):
            for number in resolvers:
                lab.exec("support-1", "tee", f"/etc/lab-resolver-{number}.hosts", stdin=lines)
                lab.exec("support-1", "systemctl", "reload", f"lab-resolver-{number}.service")
            if lines:
                yield

    return wrong


@contextmanager
def pending_reboot(lab: LabClient) -> Iterator[None]:
    lab.exec(
        "prod-spare-1",
        "sh",
        "-c",
        "echo linux-image-amd64 > /run/reboot-required.pkgs; : > /run/reboot-required",
    )
    yield
    lab.exec("prod-spare-1", "rm", "/run/reboot-required", "/run/reboot-required.pkgs")


FAULTS = (
    Fault("a stopped critical unit", stopped_unit, "critical_unit", "critical", "prod-web-1", r"shop\.serv"),
    Fault("a failed unit", failed_unit, "failed_units", "warning", "prod-spare-1", r"nightly-report"),
    Fault("a filled disk", full_disk, "disk_space", "critical", "prod-spare-1", r"\d+(\.\d)? % full"),
    Fault("exhausted inodes", no_inodes, "disk_inodes", "critical", "prod-spare-1", r"/srv/data.*inodes"),
    Fault("disk I/O", busy_disk, "disk_io", "critical|warning", "prod-spare-1", r"busy"),
    Fault("a cut-off host", cut_off, "reachability", "critical", "prod-web-2", r"no answer|no route"),
    Fault("a frozen host", frozen, "reachability", "critical", "prod-web-2", r"frozen"),
    Fault("latency to a host", slow_host, "network_latency", "warning", "prod-spare-1", r"1\d\d(\.\d+)? ms"),
    Fault("latency between hosts", slow_pair, "network_latency_between", "warning", "prod-", r"1\d\d.* ms"),
    Fault(
        "an expired certificate", certificate(30, -2), "tls_certificate", "critical", "shop.staging.lab",
        r"expired", environment="staging",
    ),
    Fault(
        "a certificate that expires soon", certificate(60, 5.5), "tls_certificate", "critical|warning",
        "shop.staging.lab", r"[56] days", environment="staging",
    ),
    Fault(
        "a wrong DNS name", answers(1, 2), "dns_answer", "critical", "shop.staging.lab", r"192\.0\.2\.7",
        environment="staging",
    ),
    Fault(
        "resolvers that disagree", answers(2), "dns_answer", "critical|warning", "shop.staging.lab",
        r"192\.0\.2\.7", environment="staging",
    ),
    Fault("a pending reboot", pending_reboot, "pending_reboot", "warning", "prod-spare-1", r"linux-image"),
)  # fmt: skip


@pytest.mark.parametrize("environment", ["production", "staging", "support", "control"])
def test_a_healthy_environment_has_no_problem(upkeep: Installation, environment: str) -> None:
    report = check(upkeep, environment)
    assert said(counted(report)) == []
    assert report["counts"].get("ok", 0) > 5


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_is_one_finding_and_goes_when_it_is_mended(
    upkeep: Installation, lab: LabClient, fault: Fault
) -> None:
    with fault.done(lab):
        report = check(upkeep, fault.environment, *fault.options)
    found = counted(report)
    assert len(found) == 1, said(found)
    (finding,) = found
    assert re.fullmatch(fault.check, finding["check"]), said(found)
    assert re.fullmatch(fault.status, finding["status"]), said(found)
    assert fault.subject in finding["subject"]
    assert re.search(fault.sentence, finding["summary"]), said(found)
    assert finding["advice"]

    def mended() -> bool:
        return counted(check(upkeep, fault.environment)) == []

    wait_for(mended, f"no finding after {fault.name} was mended", timeout_s=60)


def load_per_cpu() -> float:
    """What the finding is about: the average over 5 minutes."""
    return os.getloadavg()[1] / (os.cpu_count() or 1)


@contextmanager
def burning(processes: int) -> Iterator[None]:
    """Keep the cpus busy, below everybody else's priority."""
    burners = [
        subprocess.Popen(["nice", "-n", "15", sys.executable, "-c", "while True: pass"])
        for _ in range(processes)
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def test_load_is_one_finding_of_the_control_machine_and_goes_with_its_cause(upkeep: Installation) -> None:
    """The hosts share one kernel: load is judged where it belongs, the busy cpu is folded under it."""
    limit = load_per_cpu() + 0.5
    options = ("--threshold", f"load_per_cpu={limit:.2f},60", "--threshold", "cpu_percent=90,")
    with burning(6):
        wait_for(lambda: load_per_cpu() > limit + 0.02, "a load average above the limit", 280)
        report = check(upkeep, "control", *options)
    found = counted(report)
    assert [(f["check"], f["status"]) for f in found] == [("load", "warning")], said(found)
    cpu = next(f for f in report["findings"] if f["check"] == "cpu")
    assert (cpu["status"], cpu["caused_by"]) == ("warning", found[0]["key"])
    wait_for(lambda: not counted(check(upkeep, "control", *options)), "no finding after the load went", 280)


def test_what_belongs_to_the_machine_underneath_is_not_judged_on_a_container(upkeep: Installation) -> None:
    findings = check(
        upkeep, "staging", "--threshold", "load_per_cpu=0,0", "--threshold", "memory_percent=0,0"
    )
    assert said(counted(findings)) == []
    shared = [f for f in findings["findings"] if f["check"] == "shared_facts"]
    assert {f["status"] for f in shared} == {"skipped"}
    assert len(shared) == 3
