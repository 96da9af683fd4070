"""A whole Upkeep installation for tests: a home, a port, a prefect.yaml, and the real command line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deployments.home import read_variables
from deployments.prefect_api import PrefectApi
from deployments.registration import OnServer, read_deployments

FLOWS = """
from prefect import flow
from tasks.scheduling import skip_if_stale

@flow
@skip_if_stale
def tiny(scope: str = "all", mark: str = "") -> None:
    if mark:
        open(mark, "a").write("ran\\n")

@flow
def slow() -> None:
    import time
    time.sleep(600)
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(ready: Callable[[], Any], what: str, timeout_s: float = 60) -> Any:
    """The first true value of `ready`."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if value := ready():
            return value
        time.sleep(0.25)
    raise AssertionError(f"not within {timeout_s} s: {what}")


@dataclass
class Installation:
    """`upkeep` with its state in a directory of the test."""

    directory: Path
    port: int = field(default_factory=free_port)
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.directory / "upkeep_test_flows.py").write_text(FLOWS)

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "UPKEEP_"))}
        own = {"UPKEEP_HOME": str(self.home), "UPKEEP_PORT": str(self.port)}
        return {**clean, **own, "PYTHONPATH": str(self.directory), **self.variables}

    def upkeep(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("upkeep")), *arguments],
            env={**self.environment, **variables},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def serve(self, *deployments: dict[str, Any], **variables: str) -> subprocess.CompletedProcess[str]:
        """`upkeep up` with these deployments of the flows above."""
        file = self.directory / "prefect.yaml"
        pool = {"work_pool": {"name": "upkeep"}}
        file.write_text(yaml.safe_dump({"pull": [], "deployments": [{**pool, **d} for d in deployments]}))
        done = self.upkeep("up", "--prefect-file", str(file), **variables)
        assert done.returncode == 0, done.stderr
        return done

    @property
    def api(self) -> PrefectApi:
        local = read_variables(self.home / "env")
        return PrefectApi(local["PREFECT_API_URL"], local["PREFECT_API_AUTH_STRING"])

    def deployment(self, name: str) -> OnServer:
        """One deployment of the flows above, as the server has it."""
        return next(d for d in read_deployments(self.api).values() if d["name"] == name)

    def schedule(self, name: str) -> Any:
        """Its only schedule."""
        (schedule,) = self.deployment(name)["schedules"]
        return schedule

    def change_schedule(self, name: str, change: dict[str, Any]) -> None:
        """What the UI does when a person edits a schedule."""
        path = f"/deployments/{self.deployment(name)['id']}/schedules/{self.schedule(name)['id']}"
        assert self.api.request("PATCH", path, change).is_success

    def runs(self, name: str, **flow_run_filter: Any) -> list[dict[str, Any]]:
        """Runs of a deployment, oldest due first."""
        of_deployment = {"deployment_id": {"any_": [self.deployment(name)["id"]]}, **flow_run_filter}
        query = {"flow_runs": of_deployment, "sort": "EXPECTED_START_TIME_ASC"}
        runs: list[dict[str, Any]] = self.api.request("POST", "/flow_runs/filter", query).json()
        return runs

    def pid(self, name: str) -> int:
        """Of the server or the worker."""
        return int(json.loads((self.home / "run" / f"{name}.json").read_text())["pid"])
