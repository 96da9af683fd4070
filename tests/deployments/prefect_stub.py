"""A small HTTP server that answers as Prefect's API does, with what a test wants to see diagnosed."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from deployments.registration import PREFECT_FILE

AUTH = "upkeep:right"


@dataclass
class PrefectStub:
    """What the server says; a test changes it before it looks.

    Attributes:
        auth_string: None when it lets everybody in.
        deployments: as `/deployments/filter` gives them; to begin with, all that are shipped.
    """

    auth_string: str | None = AUTH
    version: str = version("prefect")
    pool: dict[str, Any] | None = field(default_factory=lambda: {"is_paused": False})
    workers: list[dict[str, Any]] = field(default_factory=list)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    broken: bool = False
    clock: timedelta = timedelta(0)
    port: int = 0

    def __post_init__(self) -> None:
        self.workers = [self.worker()]
        shipped = yaml.safe_load(PREFECT_FILE.read_text())["deployments"]
        self.deployments = [as_on_server(deployment) for deployment in shipped]

    def worker(self, status: str = "ONLINE", age: timedelta = timedelta(seconds=5)) -> dict[str, Any]:
        """A worker that reported `age` ago."""
        return {
            "name": "one",
            "status": status,
            "last_heartbeat_time": (datetime.now(UTC) - age).isoformat(),
        }

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and JSON."""
        page = self.deployments if not body.get("offset") else []
        answers: dict[tuple[str, str], Any] = {
            ("GET", "/admin/version"): self.version,
            ("GET", "/health"): True,
            ("GET", "/work_pools/upkeep"): self.pool,
            ("POST", "/work_pools/upkeep/workers/filter"): self.workers if self.pool else None,
            ("POST", "/deployments/filter"): page,
        }
        if self.broken:
            return 500, {}
        found = answers.get((method, path.removeprefix("/api"))) if path.startswith("/api/") else None
        return (404, {"detail": "not found"}) if found is None else (200, found)


def as_on_server(shipped: dict[str, Any]) -> dict[str, Any]:
    """A deployment after its first registration."""
    schedules = [
        {
            "id": f"id-of-{s['slug']}",
            "slug": s["slug"],
            "active": s.get("active", True),
            "schedule": {"cron": s["cron"], "timezone": s["timezone"]},
        }
        for s in shipped["schedules"]
    ]
    return {
        "id": "1",
        "name": shipped["name"],
        "entrypoint": shipped["entrypoint"],
        "paused": False,
        "schedules": schedules,
    }


@contextmanager
def serving(stub: PrefectStub, address: str = "127.0.0.1", certificate: Path | None = None) -> Iterator[None]:
    """Listen until the block ends; with TLS if there is a certificate (PEM with its key)."""

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            token = base64.b64encode((stub.auth_string or "").encode()).decode()
            free = stub.auth_string is None or self.path == "/api/health"
            if free or self.headers.get("authorization") == f"Basic {token}":
                status, said = stub.answer(self.command, self.path, body)
            else:
                status, said = 401, {}
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do  # noqa: N815 - names of the standard library

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((datetime.now(UTC) + stub.clock).timestamp())

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer((address, 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    stub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
