"""A health run on the lab as Prefect shows it, and its facts beside what psutil says on the host."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.runs import create_run
from infra.facts import HostFacts
from infra.inventory import Host, load_inventory
from infra.lab.client import LabClient
from infra.probe import read_facts
from infra.settings import settings
from infra.ssh import close_all, session
from tests.deployments.installation import Installation, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.prefect]


def task_runs(upkeep: Installation, run_id: str) -> dict[str, dict[str, Any]]:
    """The task runs of a flow run, by name."""
    query = {"flow_runs": {"id": {"any_": [run_id]}}}
    return {task["name"]: task for task in upkeep.api.request("POST", "/task_runs/filter", query).json()}


def states(upkeep: Installation, task: dict[str, Any]) -> list[str]:
    """The names of the states that a task run went through, first to last."""
    history = upkeep.api.request("GET", f"/task_run_states/?task_run_id={task['id']}").json()
    return [state["name"] for state in sorted(history, key=lambda state: state["timestamp"])]


def flow_state(upkeep: Installation, run_id: str) -> dict[str, Any]:
    state: dict[str, Any] = upkeep.api.request("GET", f"/flow_runs/{run_id}").json()["state"]
    return state


def ended(upkeep: Installation, run_id: str) -> dict[str, Any] | None:
    state = flow_state(upkeep, run_id)
    return state if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None


def start(upkeep: Installation) -> str:
    run = create_run(
        upkeep.api, upkeep.deployment("all")["id"], {"scope": "infrastructure", "environment": "production"}
    )
    return str(run["id"] if isinstance(run, dict) else run)


def test_a_host_cut_off_for_a_moment_shows_its_retry_and_then_completes(
    upkeep: Installation, lab: LabClient
) -> None:
    lab.cut("prod-web-2")
    try:
        run_id = start(upkeep)
        wait_for(
            lambda: (
                (task := task_runs(upkeep, run_id).get("revisit-prod-web-2"))
                and "AwaitingRetry" in states(upkeep, task)
            ),
            "the retry of a silent host",
            60,
        )
    finally:
        lab.uncut("prod-web-2")
    state = wait_for(lambda: ended(upkeep, run_id), "the end of the run")
    tasks = task_runs(upkeep, run_id)
    history = states(upkeep, tasks["revisit-prod-web-2"])
    assert history[-1] == "Completed"
    assert history.index("AwaitingRetry") < history.index("Completed")
    assert state["name"] == "Completed", state["message"]
    assert {
        "read-estate",
        "sweep-fleet",
        "probe-endpoints",
        "probe-tls",
        "resolve-names",
        "judge",
        "record",
    } <= set(tasks)


def test_a_run_killed_in_the_middle_ends_as_crashed_and_the_next_one_is_whole(
    upkeep: Installation, lab: LabClient
) -> None:
    """kill -9 of the flow's own process ends as Crashed, and the next run is whole."""
    lab.cut("prod-web-2")  # keeps the run busy
    try:
        run_id = start(upkeep)
        wait_for(lambda: "sweep-fleet" in task_runs(upkeep, run_id), "the sweep", 60)
        (process,) = [
            child
            for child in psutil.Process(upkeep.pid("worker")).children(recursive=True)
            if child.environ().get("PREFECT__FLOW_RUN_ID") == run_id
        ][:1]
        process.kill()
        state = wait_for(lambda: ended(upkeep, run_id), "the worker to notice", 60)
        assert state["type"] == "CRASHED"
    finally:
        lab.uncut("prod-web-2")
    again = start(upkeep)
    state = wait_for(lambda: ended(upkeep, again), "the next run", 90)
    assert state["name"] == "Completed", state["message"]


ORACLE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import psutil
disk, inodes = psutil.disk_usage("/"), __import__("os").statvfs("/srv/data")
net = psutil.net_io_counters(pernic=True)["host0"]
print(json.dumps({
    "boot_id": open("/proc/sys/kernel/random/boot_id").read().strip(),
    "age_s": time.time() - psutil.Process(1).create_time(),
    "load": psutil.getloadavg(), "cpus": psutil.cpu_count(),
    "memory": psutil.virtual_memory()._asdict(), "swap": psutil.swap_memory()._asdict(),
    "size": disk.total, "used": disk.used, "free": disk.free,
    "inodes": inodes.f_files, "inodes_used": inodes.f_files - inodes.f_ffree,
    "rx_bytes": net.bytes_recv, "rx_errors": net.errin, "kernel": __import__("platform").release(),
    "hostname": __import__("socket").gethostname(),
}))
"""


def ask_oracle(host: Host) -> dict[str, Any]:
    """What psutil, sent there for the purpose and removed again, says on the host itself."""
    package = Path(psutil.__file__).parent
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(package, "psutil", filter=lambda item: None if "tests" in item.name else item)
    there = session(host)
    directory = there.run("mktemp -d").stdout.strip()
    try:
        there.run(f"base64 -d | tar -xzC {directory}", stdin=base64.b64encode(buffer.getvalue()).decode())
        answer: dict[str, Any] = json.loads(there.run(f"python3 - {directory}", stdin=ORACLE).stdout)
        return answer
    finally:
        there.run(f"rm -r {directory}")


def test_the_facts_of_a_host_are_what_psutil_says_there(
    lab: LabClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPKEEP_KNOWN_HOSTS", str(lab.path / "known_hosts"))
    monkeypatch.setenv("UPKEEP_INVENTORY", str(lab.path / "inventory.toml"))
    settings.cache_clear()
    try:
        (host,) = load_inventory(lab.path / "inventory.toml").fleet(hosts=("prod-spare-1",))
        truth = ask_oracle(host)
        read_at = time.time()
        facts: HostFacts = read_facts(host, ())
    finally:
        close_all()
        settings.cache_clear()
    assert (facts.hostname, facts.kernel, facts.boot_id) == (
        "prod-spare-1", truth["kernel"], truth["boot_id"],
    )  # fmt: skip
    assert truth["hostname"] == facts.hostname
    assert facts.uptime_s == pytest.approx(truth["age_s"] + time.time() - read_at, abs=3)
    assert facts.cpus == truth["cpus"]
    assert facts.load[1] == pytest.approx(truth["load"][1], abs=0.3)
    assert facts.memory.total_bytes == truth["memory"]["total"]
    assert facts.memory.available_bytes == pytest.approx(truth["memory"]["available"], rel=0.1)
    assert facts.swap.total_bytes == truth["swap"]["total"]
    root = next(f for f in facts.filesystems if f.mount == "/")
    assert root.size_bytes == truth["size"]
    assert root.used_bytes == pytest.approx(truth["used"], abs=32 << 20)
    assert root.available_bytes == pytest.approx(truth["free"], abs=32 << 20)
    data = next(f for f in facts.filesystems if f.mount == "/srv/data")
    assert (data.inodes, data.inodes_used) == (truth["inodes"], truth["inodes_used"])
    (card,) = facts.counters.interfaces
    assert card.rx_bytes == pytest.approx(truth["rx_bytes"], abs=100_000)
    assert card.rx_errors == truth["rx_errors"]
    assert {"load", "memory", "swap"} <= facts.shared
