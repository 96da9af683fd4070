"""The gate in front of every verb that needs Prefect: a server that answers, or exit 69 with what starts it.

No verb lets Prefect start an ephemeral server of its own: `PREFECT_SERVER_ALLOW_EPHEMERAL_MODE` is false, and
these functions are called first.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import httpx

from infra.errors import ServiceUnavailable

WORK_POOL = "upkeep"
START = "start it with `upkeep up`, or name another with PREFECT_API_URL and PREFECT_API_AUTH_STRING"


@dataclass(frozen=True, slots=True)
class PrefectApi:
    """Where Prefect is: base address with ``/api``, and ``user:password`` or None."""

    url: str
    auth_string: str | None

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return httpx.URL(self.url).host in {"localhost", "127.0.0.1", "::1"}

    def request(
        self, method: str, path: str, body: object | None = None, *, timeout_s: float = 10
    ) -> httpx.Response:
        """Send one request.

        Raises:
            ServiceUnavailable: no answer, 401, or a server error.
        """
        user, _, password = (self.auth_string or "").partition(":")
        try:
            answer = httpx.request(
                method,
                self.url + path,
                json=body,
                auth=(user, password) if self.auth_string else None,
                timeout=timeout_s,
                trust_env=not self.on_loopback,  # no proxy in front of this machine
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceUnavailable(
                f"Prefect's API at {self.url} does not answer ({error}): {START}"
            ) from error
        if answer.status_code in {401, 403}:
            raise ServiceUnavailable(
                f"Prefect's API at {self.url} refuses PREFECT_API_AUTH_STRING: "
                'take the right one with `eval "$(upkeep env)"`, or from whoever runs that server'
            )
        if answer.status_code >= 500:
            raise ServiceUnavailable(
                f"Prefect's API at {self.url} answers {answer.status_code}: see the server's log"
            )
        return answer


def configured_api() -> PrefectApi | None:
    """The API that this process would use: from the environment, else from Prefect's profile and files."""
    url, auth = os.environ.get("PREFECT_API_URL"), os.environ.get("PREFECT_API_AUTH_STRING")
    if not url:
        from prefect.settings import get_current_settings  # costs 1.7 s, rarely needed

        api = get_current_settings().api
        url = api.url
        auth = auth or (api.auth_string.get_secret_value() if api.auth_string else None)
    return PrefectApi(url.rstrip("/"), auth or None) if url else None


def require_server() -> PrefectApi:
    """Make sure that Prefect's API answers and lets us in; call it before anything that touches Prefect.

    Raises:
        ServiceUnavailable: none is configured, it does not answer, or it refuses us (exit code 69).
    """
    api = configured_api()
    if api is None:
        raise ServiceUnavailable(f"no Prefect server is configured (PREFECT_API_URL): {START}")
    api.request("GET", "/version")
    return api


def require_worker(pool: str = WORK_POOL) -> PrefectApi:
    """Make sure that a worker is there to execute a deployment's run.

    Raises:
        ServiceUnavailable: as `require_server`, or no worker of the pool is online.
    """
    api = require_server()
    answer = api.request("POST", f"/work_pools/{pool}/workers/filter", {})
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise ServiceUnavailable(f"Prefect has no work pool {pool!r}: `upkeep up` creates it")
    if not any(worker["status"] == "ONLINE" for worker in answer.json()):
        raise ServiceUnavailable(
            f"no worker of the pool {pool!r} is online: `upkeep up` starts one on this machine, "
            f"`prefect worker start --pool {pool}` anywhere else"
        )
    return api
