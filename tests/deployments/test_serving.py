"""`upkeep up` and `upkeep down` with a real server and a real worker."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.processes import TOKEN, Background
from deployments.runs import create_run
from tests.deployments.installation import Installation, free_port, wait_for

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(400)]

Deployment = dict[str, Any]

HOURLY: Deployment = {
    "name": "hourly",
    "entrypoint": "upkeep_test_flows.tiny",
    "schedules": [{"slug": "hourly", "cron": "0 * * * *", "timezone": "UTC"}],
}
PAUSED: Deployment = {
    "name": "paused",
    "entrypoint": "upkeep_test_flows.tiny",
    "schedules": [{"slug": "quarter", "cron": "*/15 * * * *", "timezone": "Europe/Berlin", "active": False}],
}
SLOW: Deployment = {"name": "slow", "entrypoint": "upkeep_test_flows.slow"}


def ours(home: Path) -> list[psutil.Process]:
    """Every process of an installation, found without Upkeep's own records."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            continue
        if TOKEN in environment and environment.get("UPKEEP_HOME") == str(home):
            found.append(process)
    return [p for p in found if p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    here = Installation(tmp_path_factory.mktemp("serving"))
    here.serve(HOURLY, PAUSED, SLOW)
    yield here
    here.upkeep("down")
    assert ours(here.home) == []


def test_the_first_start_registers_every_schedule_in_its_initial_state(installation: Installation) -> None:
    assert installation.schedule("hourly")["active"] is True
    assert installation.schedule("paused")["active"] is False
    assert installation.schedule("paused")["schedule"]["timezone"] == "Europe/Berlin"


def test_an_active_schedule_makes_runs(installation: Installation) -> None:
    wait_for(lambda: len(installation.runs("hourly")) >= 3, "three scheduled runs")


def test_nobody_else_can_read_the_state(installation: Installation) -> None:
    open_to_others = [
        path
        for path in [installation.home, *installation.home.rglob("*")]
        if stat.S_IMODE(path.lstat().st_mode) & 0o077
    ]
    assert open_to_others == []


def test_the_api_is_on_loopback_only_and_asks_for_the_auth_string(installation: Installation) -> None:
    api = installation.api
    assert type(api)(api.url, None).on_loopback
    with pytest.raises(Exception, match="refuses PREFECT_API_AUTH_STRING"):
        type(api)(api.url, None).request("GET", "/version")
    listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    addresses = {tuple(c.laddr) for c in listening}
    assert {a for a in addresses if a[1:] == (installation.port,)} == {("127.0.0.1", installation.port)}


def test_a_second_start_leaves_what_runs_alone(installation: Installation) -> None:
    before = installation.pid("server"), installation.pid("worker")
    again = installation.serve(HOURLY, PAUSED, SLOW)
    assert (installation.pid("server"), installation.pid("worker")) == before
    assert again.stdout.rstrip().splitlines()[-1].startswith('eval "$(')


def test_what_a_person_paused_stays_paused_and_what_they_started_stays_active(
    installation: Installation,
) -> None:
    installation.change_schedule("hourly", {"active": False})
    installation.change_schedule("paused", {"active": True})
    installation.serve(HOURLY, PAUSED, SLOW)
    assert installation.schedule("hourly")["active"] is False
    assert installation.schedule("paused")["active"] is True
    installation.change_schedule("hourly", {"active": True})
    installation.change_schedule("paused", {"active": False})


def test_a_changed_time_is_kept_and_said_while_an_unchanged_one_follows_the_file(
    installation: Installation,
) -> None:
    installation.change_schedule("hourly", {"schedule": {"cron": "7 * * * *", "timezone": "UTC"}})
    newer = [{**PAUSED["schedules"][0], "cron": "*/20 * * * *"}]
    for _ in range(2):
        again = installation.serve(HOURLY, {**PAUSED, "schedules": newer}, SLOW)
        assert installation.schedule("hourly")["schedule"]["cron"] == "7 * * * *"
        assert "kept cron 7 * * * *" in again.stderr
        assert installation.schedule("paused")["schedule"]["cron"] == "*/20 * * * *"
    installation.change_schedule("hourly", {"schedule": {"cron": "0 * * * *", "timezone": "UTC"}})


def test_a_schedule_that_a_person_added_is_kept_and_one_that_is_shipped_no_more_goes(
    installation: Installation,
) -> None:
    own = {"schedule": {"cron": "3 3 * * *", "timezone": "UTC"}, "active": True}
    path = f"/deployments/{installation.deployment('hourly')['id']}/schedules"
    assert installation.api.request("POST", path, [own]).is_success
    installation.change_schedule("paused", {"active": True})
    for _ in range(2):
        installation.serve({**HOURLY, "schedules": []}, PAUSED, SLOW)
        assert installation.schedule("hourly")["schedule"]["cron"] == "3 3 * * *"
    assert installation.schedule("paused")["active"] is True


@pytest.mark.parametrize("name", ["worker", "server"])
def test_what_was_killed_is_started_again(installation: Installation, name: str) -> None:
    before = installation.pid(name)
    os.kill(before, signal.SIGKILL)
    assert "is gone" in installation.serve(HOURLY, PAUSED, SLOW).stderr
    assert installation.pid(name) != before
    assert psutil.pid_exists(installation.pid(name))


def test_stopping_the_worker_ends_its_runs_even_when_it_was_killed(installation: Installation) -> None:
    create_run(installation.api, installation.deployment("slow")["id"])
    worker = Background(installation.home, "worker")
    record = worker.record()
    assert record is not None

    def flow_runs() -> list[psutil.Process]:
        everything = [p for p in ours(installation.home) if p.environ().get(TOKEN) == record.token]
        return [p for p in everything if p.pid != installation.pid("worker")]

    wait_for(flow_runs, "a flow run's process")
    os.kill(installation.pid("worker"), signal.SIGKILL)
    assert flow_runs()
    installation.serve(HOURLY, PAUSED, SLOW)
    assert flow_runs() == []


def test_a_new_shell_talks_to_the_server_from_any_directory(installation: Installation) -> None:
    upkeep = Path(sys.executable).with_name("upkeep")
    script = f'eval "$({upkeep} env)"; prefect deployment ls; echo "$UPKEEP_HOME"; upkeep --help'
    for shell in ("sh", "bash"):
        done = subprocess.run(
            [shell, "-c", script],
            env={"HOME": "/", "PATH": "/usr/bin:/bin", "UPKEEP_HOME": str(installation.home)},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "tiny/hourly" in done.stdout
        assert str(installation.home) in done.stdout


def test_a_lost_client_file_is_written_again_and_the_server_is_left_alone(installation: Installation) -> None:
    before, pid = installation.api.auth_string, installation.pid("server")
    (installation.home / "env").unlink()
    lost = installation.upkeep("env")
    assert (lost.returncode, "`upkeep up`" in lost.stderr) == (69, True)
    again = installation.serve(HOURLY, PAUSED, SLOW, UPKEEP_PORT="")
    assert "env is gone" in again.stderr
    assert (installation.api.auth_string, installation.pid("server")) == (before, pid)


def test_a_database_that_is_removed_is_seen_and_a_new_one_begun(installation: Installation) -> None:
    (installation.home / "prefect" / "prefect.db").unlink()
    said = installation.upkeep("doctor", "--no-hosts")
    assert (said.returncode, "was removed" in said.stdout) == (2, True)
    again = installation.serve(HOURLY, PAUSED, SLOW)
    assert "they are lost" in again.stderr
    assert installation.deployment("hourly")
    assert "was removed" not in installation.upkeep("doctor", "--no-hosts").stdout


def test_another_port_moves_the_server_and_its_clients(installation: Installation) -> None:
    before, installation.port = installation.port, free_port()
    installation.serve(HOURLY, PAUSED, SLOW)
    assert installation.api.url == f"http://127.0.0.1:{installation.port}/api"
    assert installation.deployment("hourly")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", before)) != 0


def test_a_start_that_was_killed_halfway_is_finished_by_the_next(tmp_path: Path) -> None:
    here = Installation(tmp_path)
    upkeep = [str(Path(sys.executable).with_name("upkeep")), "up"]
    first = subprocess.Popen(upkeep, env=here.environment, stderr=subprocess.DEVNULL)
    try:
        wait_for((here.home / "run" / "server.json").exists, "the server's record")
        first.kill()
        first.wait()
        here.serve(HOURLY)
        assert here.deployment("hourly")
    finally:
        here.upkeep("down")
    assert ours(here.home) == []


def at_once(name: str, mark: Path, **schedule: Any) -> Deployment:
    """A deployment with one schedule, one run at a time, that leaves a line in `mark`."""
    return {
        "name": name,
        "entrypoint": "upkeep_test_flows.tiny",
        "parameters": {"mark": str(mark)},
        "concurrency_limit": {"limit": 1, "collision_strategy": "ENQUEUE"},
        "schedules": [{"slug": name, "timezone": "UTC", **schedule}],
    }


def make_late(installation: Installation, run: dict[str, Any], by: timedelta) -> None:
    """Put a scheduled run into the past, as if nobody had executed it."""
    due = datetime.fromisoformat(run["expected_start_time"]) - by
    with sqlite3.connect(installation.home / "prefect" / "prefect.db", timeout=30) as database:
        database.execute(
            "UPDATE flow_run SET expected_start_time = ? WHERE replace(id, '-', '') = ?",
            (f"{due:%Y-%m-%d %H:%M:%S.%f}", run["id"].replace("-", "")),
        )
    state = {"type": "SCHEDULED", "name": "Late", "state_details": {"scheduled_time": due.isoformat()}}
    body = {"state": state, "force": True}
    assert installation.api.request("POST", f"/flow_runs/{run['id']}/set_state", body).is_success


def test_of_the_runs_that_nobody_executed_only_the_last_is_and_the_others_are_skipped(
    installation: Installation, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    daily = at_once("daily", mark, cron=f"{(datetime.now(UTC) - timedelta(minutes=3)):%M %H} * * *")
    installation.serve(daily)
    Background(installation.home, "worker").stop()
    planned = wait_for(lambda: runs if len(runs := installation.runs("daily")) >= 3 else [], "scheduled runs")
    late = planned[:3]
    for run in late:  # due two days ago, yesterday, and three minutes ago
        make_late(installation, run, timedelta(days=3))
    installation.serve(daily)

    def ended() -> list[str]:
        runs = installation.runs("daily", id={"any_": [run["id"] for run in late]})
        return [r["state_name"] for r in runs if r["state_type"] == "COMPLETED"]

    wait_for(lambda: len(ended()) == 3, "the late runs to end", 120)
    assert ended() == ["Skipped", "Skipped", "Completed"]
    assert mark.read_text().count("ran") == 1


def test_a_run_that_a_person_asks_for_is_never_skipped(installation: Installation, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    installation.serve(at_once("byhand", mark, cron="0 0 1 1 *", active=False))
    run = create_run(installation.api, installation.deployment("byhand")["id"])
    wait_for(mark.exists, "the run")
    wait_for(
        lambda: installation.runs("byhand", id={"any_": [run]})[0]["state_name"] == "Completed", "its end"
    )


@pytest.mark.long
@pytest.mark.timeout(900)
def test_after_a_real_stop_of_several_periods_one_run_is_executed(
    installation: Installation, tmp_path: Path
) -> None:
    mark, period = tmp_path / "ran", timedelta(seconds=60)
    often = at_once("often", mark, interval=period.total_seconds())
    installation.serve(often)
    wait_for(mark.exists, "a first run in time", 120)
    Background(installation.home, "worker").stop()
    stopped, executed = datetime.now(UTC), mark.read_text().count("ran")
    wait_for(lambda: datetime.now(UTC) > stopped + 3 * period, "three periods", 300)
    installation.serve(often)

    def since_the_stop() -> list[str]:
        runs = installation.runs("often", expected_start_time={"after_": stopped.isoformat()})
        return [r["state_name"] for r in runs if r["state_type"] == "COMPLETED"]

    wait_for(lambda: "Completed" in since_the_stop(), "a run after the stop", 150)
    late = since_the_stop()[: since_the_stop().index("Completed")]
    assert late == ["Skipped"] * len(late)
    assert len(late) >= 2
    assert mark.read_text().count("ran") == executed + 1


def test_a_port_in_use_is_refused_with_its_holder_and_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        other = Installation(tmp_path, port=taken.getsockname()[1])
        done = other.upkeep("up")
    assert done.returncode == 69
    assert f"pid {os.getpid()}" in done.stderr
    assert f"UPKEEP_PORT={other.port + 1}" in done.stderr
    assert ours(other.home) == []


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    broken = Installation(
        tmp_path, variables={"PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////proc/none/x.db"}
    )
    done = broken.upkeep("up")
    assert done.returncode == 69
    assert "the server ended while it started" in done.stderr
    broken.upkeep("down")
    assert ours(broken.home) == []


def test_a_record_of_a_process_that_is_not_ours_harms_nobody(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    run = tmp_path / "home" / "run"
    run.mkdir(parents=True)
    (run / "server.json").write_text(
        f'{{"token": "server-1", "argv": ["sleep", "60"], "fingerprint": "", "pid": {stranger.pid}}}'
    )
    try:
        done = Installation(tmp_path, port=free_port()).upkeep("down")
        assert done.returncode == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
