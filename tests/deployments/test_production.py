"""The files for production: units, compose file, workflow; and the PostgreSQL variant for real."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from deployments.prefect_api import WORK_POOL, PrefectApi
from deployments.registration import read_deployments
from deployments.runs import create_run, follow
from deployments.server import server_answers
from infra.errors import UpkeepError
from tests.deployments.installation import free_port, wait_for
from tests.postgres import running_postgres

FILES = Path(__file__).parents[2] / "deployments"
BIN = Path(sys.executable).parent
UNITS = ("upkeep-server", "upkeep-worker")


def unit_text(name: str) -> str:
    """A unit, with this environment's programs in the place of the installed ones."""
    return (FILES / "systemd" / f"{name}.service").read_text().replace("/opt/upkeep/.venv/bin", str(BIN))


def unit_lines(name: str, key: str) -> list[str]:
    """The values of one key of a unit."""
    return [line.partition("=")[2] for line in unit_text(name).splitlines() if line.startswith(f"{key}=")]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("NO SYSTEMD-ANALYZE ON THIS MACHINE: apt-get install systemd")
    for name in UNITS:
        (tmp_path / f"{name}.service").write_text(unit_text(name))
    files = [str(tmp_path / f"{name}.service") for name in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_verb_of_the_workflow_exists() -> None:
    workflow = yaml.safe_load((FILES / "github-actions.yml").read_text())
    assert workflow[True] == {"schedule": [{"cron": "0 2 * * *"}], "workflow_dispatch": None}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    verbs = [step["run"].split()[1] for step in steps if step.get("run", "").startswith("upkeep ")]
    assert verbs
    for verb in verbs:
        assert (
            subprocess.run([BIN / "upkeep", verb, "--help"], capture_output=True, check=False).returncode == 0
        )


def test_the_compose_file_publishes_nothing_beyond_loopback() -> None:
    services = yaml.safe_load((FILES / "compose.yaml").read_text())["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:4200:4200"]


@contextmanager
def process(argv: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a program as systemd would, and end it with all that it started."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            argv, env=environment, stdout=output, stderr=output, cwd=log.parent, start_new_session=True
        )
    try:
        yield
    finally:
        if started.poll() is None:
            for child in psutil.Process(started.pid).children(recursive=True):
                child.kill()
            started.kill()
        started.wait()


@pytest.mark.prefect
@pytest.mark.timeout(300)
def test_server_worker_and_store_work_on_postgresql_with_a_role_each(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    base = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres(superuser="postgres"))
        variables = [f"{name}_password=secret{name}" for name in ("prefect", "upkeep")]
        options = [word for variable in ("ON_ERROR_STOP=1", *variables) for word in ("-v", variable)]
        subprocess.run(
            ["psql", postgres, *options, "-f", FILES / "postgres.sql"], check=True, capture_output=True
        )
        where = postgres.rpartition("@")[2].partition("/")[0]
        server = base | {
            "PREFECT_HOME": str(tmp_path / "server"),
            "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://prefect:secretprefect@{where}/prefect",
            "PREFECT_SERVER_API_AUTH_STRING": "upkeep:word",
        }
        worker = base | {
            "PREFECT_HOME": str(tmp_path / "worker"),
            "PREFECT_API_URL": url,
            "PREFECT_API_AUTH_STRING": "upkeep:word",
            "UPKEEP_HOME": str(tmp_path / "home"),
            "UPKEEP_DATABASE_URL": f"postgresql://upkeep:secretupkeep@{where}/upkeep",
        }
        (start,) = unit_lines("upkeep-server", "ExecStart")
        argv = shlex.split(start.replace("--port 4200", f"--port {port}"))
        stack.enter_context(process(argv, server, tmp_path / "server.log"))
        api = PrefectApi(url, "upkeep:word")
        wait_for(lambda: server_answers(api), "the server", 120)

        (before,) = unit_lines("upkeep-worker", "ExecStartPre")
        registered = subprocess.run(
            shlex.split(before), env=worker, capture_output=True, text=True, check=False
        )
        assert registered.returncode == 0, registered.stderr
        (start,) = unit_lines("upkeep-worker", "ExecStart")
        argv = shlex.split(start.replace("%H", "test"))
        stack.enter_context(process(argv, worker, tmp_path / "worker.log"))

        health = read_deployments(api)["flows.health.health/all"]
        said: list[str] = []
        run = follow(api, create_run(api, health["id"], {"fail_on": "never"}), said.append, timeout_s=150)
        assert run["state_name"] == "Completed", said
        count = ["psql", "--no-align", "--tuples-only", "--command"]
        store = worker["UPKEEP_DATABASE_URL"]
        found = subprocess.run(
            [*count, "SELECT count(*) FROM findings", store], check=True, capture_output=True, text=True
        )
        assert int(found.stdout) > 3
        other = store.removesuffix("/upkeep") + "/prefect"
        refused = subprocess.run([*count, "SELECT 1", other], capture_output=True, text=True, check=False)
        assert "permission denied for database" in refused.stderr
        assert WORK_POOL in api.request("GET", f"/work_pools/{WORK_POOL}").text


def test_a_run_that_does_not_end_is_given_up_with_an_address() -> None:
    with pytest.raises(UpkeepError, match="does not answer"):
        follow(PrefectApi("http://127.0.0.1:1/api", None), "x", print, timeout_s=1)
