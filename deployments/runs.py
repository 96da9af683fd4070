"""Create a run of a deployment and follow it to its end, over Prefect's API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from deployments.prefect_api import PrefectApi
from deployments.registration import answer_of
from infra.errors import ServiceUnavailable

FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
POLL_S = 0.5


def create_run(api: PrefectApi, deployment_id: str, parameters: Mapping[str, object] | None = None) -> str:
    """Ask for a run now; the deployment's own parameters count where none are given.

    Returns:
        The id of the run.
    """
    body = {"parameters": dict(parameters or {}), "state": {"type": "SCHEDULED"}}
    return str(answer_of(api.request("POST", f"/deployments/{deployment_id}/create_flow_run", body))["id"])


def follow(
    api: PrefectApi, run_id: str, say: Callable[[str], None], timeout_s: float | None = 300
) -> dict[str, Any]:
    """Wait until a run has ended, and say each state that it comes to.

    Returns:
        The run as the API describes it.

    Raises:
        ServiceUnavailable: it has not ended within `timeout_s`.
    """
    start, seen = time.monotonic(), ""
    while True:
        run: dict[str, Any] = answer_of(api.request("GET", f"/flow_runs/{run_id}"))
        state = run["state"]
        if state["name"] != seen:
            seen = state["name"]
            say(f"run {run['name']}: {seen}")
        if state["type"] in FINAL:
            return run
        if timeout_s is not None and time.monotonic() - start > timeout_s:
            raise ServiceUnavailable(
                f"run {run['name']} is still {seen} after {timeout_s:.0f} s",
                advice="see it in the UI, and whether a worker is online: `upkeep doctor`",
            )
        time.sleep(POLL_S)
