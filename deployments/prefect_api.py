"""The gate in front of every verb that needs Prefect: a server that answers, or exit 69 with what starts it.

No verb lets Prefect start an ephemeral server of its own: `PREFECT_SERVER_ALLOW_EPHEMERAL_MODE` is false, and
these functions are called first.
"""

from __future__ import annotations

import os
import ssl
import time
from dataclasses import dataclass

import httpx

from infra.errors import ServiceUnavailable
from infra.settings import settings

WORK_POOL = "upkeep"
START = "start it with `upkeep up`, or name another with PREFECT_API_URL and PREFECT_API_AUTH_STRING"
START_WORKER = (
    f"`upkeep up` starts one here, `prefect worker start --type process --pool {WORK_POOL}` elsewhere"
)
BUSY_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})  # as pydantic, so Prefect, reads a switch


@dataclass(frozen=True, slots=True)
class PrefectApi:
    """Where Prefect is, and how it is known to be the right one.

    Attributes:
        url: base address with ``/api``.
        auth_string: ``user:password``, or None.
        ca_file: certificates to trust instead of the usual ones (PREFECT_API_SSL_CERT_FILE).
        verified: False when any certificate is taken (PREFECT_API_TLS_INSECURE_SKIP_VERIFY).
    """

    url: str
    auth_string: str | None
    ca_file: str | None = None
    verified: bool = True

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return httpx.URL(self.url).host in {"localhost", "127.0.0.1", "::1"}

    def ask(
        self, method: str, path: str, body: object | None = None, *, timeout_s: float = 10
    ) -> httpx.Response:
        """Send one request, and return whatever is answered.

        Raises:
            ServiceUnavailable: no answer.
        """
        user, _, password = (self.auth_string or "").partition(":")
        try:
            return httpx.request(
                method,
                self.url + path,
                json=body,
                auth=(user, password) if self.auth_string else None,
                timeout=timeout_s,
                verify=self._trust(),
                trust_env=not self.on_loopback,  # no proxy in front of this machine
            )
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, UnicodeError) as error:
            cause = str(error) or type(error).__name__
            certificate = "certificate" in cause.lower()
            raise ServiceUnavailable(
                f"Prefect's API at {self.url} does not answer ({cause})",
                advice="name the authority's file with PREFECT_API_SSL_CERT_FILE" if certificate else START,
            ) from error

    def request(
        self, method: str, path: str, body: object | None = None, *, timeout_s: float = 10
    ) -> httpx.Response:
        """Send one request, again while the server's SQLite is busy (503; the request had no effect).

        Raises:
            ServiceUnavailable: no answer, 401, or a server error.
        """
        answer = self.ask(method, path, body, timeout_s=timeout_s)
        for pause_s in BUSY_PAUSES_S:
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(pause_s)
            answer = self.ask(method, path, body, timeout_s=timeout_s)
        if answer.status_code in {401, 403}:
            raise ServiceUnavailable(
                f"Prefect's API at {self.url} refuses PREFECT_API_AUTH_STRING",
                advice='take the right one with `eval "$(upkeep env)"`, or from whoever runs that server',
            )
        if answer.status_code >= 500:
            log = settings().home / "log" / "server.log"
            raise ServiceUnavailable(
                f"Prefect's API at {self.url} answers {answer.status_code} to {method} {path}",
                advice=f"see the server's log: `tail -n 50 {log}`, or `journalctl -u upkeep-server`",
            )
        return answer

    def _trust(self) -> ssl.SSLContext | bool:
        if not self.url.startswith("https://"):
            return False  # nothing to verify, and reading all certificates takes as long as ten requests
        if not self.verified or not self.ca_file:
            return self.verified
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ServiceUnavailable(
                f"PREFECT_API_SSL_CERT_FILE = {self.ca_file!r} cannot be used ({error.strerror or error})",
                advice="accepted: a readable file of PEM certificates",
            ) from error


def configured_api() -> PrefectApi | None:
    """The API that this process would use: from the environment, else from Prefect's profile and files."""
    url, auth = os.environ.get("PREFECT_API_URL"), os.environ.get("PREFECT_API_AUTH_STRING")
    ca_file = os.environ.get("PREFECT_API_SSL_CERT_FILE") or os.environ.get("SSL_CERT_FILE")
    verified = os.environ.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").lower() not in TRUE
    if not url:
        from prefect.settings import get_current_settings  # costs 1.7 s, rarely needed

        api = get_current_settings().api
        url = api.url
        auth = auth or (api.auth_string.get_secret_value() if api.auth_string else None)
        ca_file, verified = api.ssl_cert_file, not api.tls_insecure_skip_verify
    return PrefectApi(url.rstrip("/"), auth or None, ca_file, verified) if url else None


def require_server() -> PrefectApi:
    """Make sure that Prefect's API answers and lets us in; call it before anything that touches Prefect.

    Raises:
        ServiceUnavailable: none is configured, it does not answer, or it refuses us (exit code 69).
    """
    api = configured_api()
    if api is None:
        raise ServiceUnavailable("no Prefect server is configured (PREFECT_API_URL)", advice=START)
    answer = api.request("GET", "/admin/version")
    if not answer.is_success or not answer.headers.get("content-type", "").startswith("application/json"):
        raise ServiceUnavailable(
            f"what answers at {api.url} is not Prefect's API ({answer.status_code} to GET /admin/version)",
            advice="PREFECT_API_URL must end in /api and name a Prefect server; " + START,
        )
    return api


def require_worker(pool: str = WORK_POOL) -> PrefectApi:
    """Make sure that a worker is there to execute a deployment's run.

    Raises:
        ServiceUnavailable: as `require_server`, or no worker of the pool is online.
    """
    api = require_server()
    answer = api.request("POST", f"/work_pools/{pool}/workers/filter", {})
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise ServiceUnavailable(f"Prefect has no work pool {pool!r}", advice="`upkeep up` creates it")
    if not any(worker["status"] == "ONLINE" for worker in answer.json()):
        raise ServiceUnavailable(
            f"no worker of the pool {pool!r} is online",
            advice=START_WORKER,
        )
    return api
