"""The shop: the small web application that the lab's web hosts run and that deployments later replace.

It runs on the guests' own Python as ``shop.service``; beside the standard library it needs psycopg2 only. It
works while its database is away: ``/healthz`` then says 503 and why; the rest still answers.

    GET  /            greeting, with the version and the host that answered
    GET  /healthz     200 or 503, with the reason as JSON
    GET  /version     the release that runs
    GET  /metrics     request counters in Prometheus' text format
    GET  /orders      the latest orders, read through the pooler; POST adds one (body: the item)
    GET  /faults      the faults that are switched on; loopback only, like all below
    POST /faults/KIND switch one on (body: its value, 0 is off; ?path=/orders limits it)
    DELETE /faults    switch all off
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import queue
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit

T = TypeVar("T")

# Kind of fault -> highest value that it takes; the switches are on at 1.
FAULTS: Mapping[str, float] = {"slow": 60_000, "error": 1, "body": 1, "errors-percent": 100}
DATABASE_TIMEOUT_S = 3
IDLE_CONNECTIONS = 8


class Orders(Protocol):
    """Where orders are kept; every method raises OSError when it cannot be asked."""

    def check(self) -> None: ...

    def latest(self) -> list[dict[str, Any]]: ...

    def add(self, item: str) -> int: ...


class PostgresOrders:
    """Orders in PostgreSQL: idle connections are kept while the other side keeps them.

    Args:
        dsn: libpq connection string of the pooler.
    """

    def __init__(self, dsn: str) -> None:
        import psycopg2.extensions

        psycopg2.extensions.set_wait_callback(_wait)
        self._dsn = dsn
        self._error: type[Exception] = psycopg2.Error
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue(IDLE_CONNECTIONS)
        names = psycopg2.extensions.parse_dsn(dsn)
        self._where = f"{names['host']}:{names['port']}"

    def check(self) -> None:
        self._ask("SELECT 1")

    def latest(self) -> list[dict[str, Any]]:
        rows = self._ask("SELECT id, item, placed_at FROM orders ORDER BY id DESC LIMIT 10")
        return [{"id": row[0], "item": row[1], "placed_at": row[2].isoformat()} for row in rows]

    def add(self, item: str) -> int:
        return int(self._ask("INSERT INTO orders (item) VALUES (%s) RETURNING id", item)[0][0])

    def _ask(self, statement: str, *values: str) -> list[Any]:
        connection = None
        try:
            connection = self._live() or self._connect()
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                rows: list[Any] = cursor.fetchall()
        except self._error as error:
            if connection:
                connection.close()
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise OSError(f"{self._where}: {first}") from error
        try:
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()
        return rows

    def _connect(self) -> Any:
        import psycopg2

        connection = psycopg2.connect(self._dsn, connect_timeout=DATABASE_TIMEOUT_S, application_name="shop")
        connection.autocommit = True
        return connection

    def _live(self) -> Any | None:
        """An idle connection, if there is one, that the other side has not closed (that is readable)."""
        with contextlib.suppress(queue.Empty):
            while True:
                connection = self._idle.get_nowait()
                if not select.select([connection], [], [], 0)[0]:
                    return connection
                connection.close()
        return None


def _wait(connection: Any) -> None:
    """Wait for libpq, but not for ever: a frozen database takes the query and never answers."""
    from psycopg2 import OperationalError, extensions

    deadline = time.monotonic() + DATABASE_TIMEOUT_S
    while (state := connection.poll()) != extensions.POLL_OK:
        reading, writing = ([connection], []) if state == extensions.POLL_READ else ([], [connection])
        ready = select.select(reading, writing, [], max(0.0, deadline - time.monotonic()))
        if not (ready[0] or ready[1]):
            raise OperationalError(f"no answer from the database in {DATABASE_TIMEOUT_S} s")


@dataclass(slots=True)
class Request:
    """One request: path without the query, body as text, and whether it came over loopback."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    body: str
    loopback: bool


@dataclass(slots=True)
class Answer:
    """Status, body and content type."""

    status: int
    body: str
    content_type: str = "application/json"


def _json(status: int, /, **values: object) -> Answer:
    return Answer(status, json.dumps(values) + "\n")


@dataclass(slots=True)
class Fault:
    """How much of it, and on which paths (a prefix)."""

    value: float
    path: str = "/"
    requests: int = 0

    def due(self) -> bool:
        """Whether this request is one of `value` percent, spread evenly: 25 is exactly every fourth."""
        self.requests += 1
        return int(self.requests * self.value / 100) > int((self.requests - 1) * self.value / 100)


@dataclass(slots=True)
class Shop:
    """What the application answers, apart from how requests reach it."""

    version: str
    orders: Orders
    hostname: str = field(default_factory=socket.gethostname)
    faults: dict[str, Fault] = field(default_factory=dict)
    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> Answer:
        """Answer one request; faults and counters included."""
        started = time.monotonic()
        own = request.path.split("/")[1] in ("faults", "metrics")
        answer = self._route(request) if own else self._faulty(request)
        known = request.path if answer.status != 404 else "other"
        with self.lock:
            self.requests[request.method, known, answer.status] += 1
            self.seconds[known] += time.monotonic() - started  # type: ignore[assignment]
        return answer

    def _faulty(self, request: Request) -> Answer:
        with self.lock:
            active = {k: f for k, f in self.faults.items() if request.path.startswith(f.path)}
            unlucky = "errors-percent" in active and active["errors-percent"].due()
        if "slow" in active:
            time.sleep(active["slow"].value / 1000)
        if unlucky or "error" in active:
            return _json(500, status="failing", reason="a fault is switched on")
        answer = self._route(request)
        return Answer(answer.status, "a fault is switched on\n", "text/plain") if "body" in active else answer

    def _route(self, request: Request) -> Answer:
        routes: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("GET", "/"): lambda _: _json(200, greeting="welcome", version=self.version, host=self.hostname),
            ("GET", "/version"): lambda _: _json(200, version=self.version),
            ("GET", "/healthz"): self._health,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/orders"): self._latest,
            ("POST", "/orders"): self._add,
        }
        if request.path.split("/")[1] == "faults":
            return self._faults(request)
        if route := routes.get((request.method, request.path)):
            return route(request)
        accepted = ", ".join(method for method, path in routes if path == request.path)
        if accepted:
            return _json(405, reason=f"{request.path} accepts {accepted}")
        pages = ", ".join(sorted({path for _, path in routes}))
        return _json(404, reason=f"no such page; there are: {pages}")

    def _health(self, _: Request) -> Answer:
        try:
            self.orders.check()
        except OSError as error:
            return _json(503, status="failing", version=self.version, reason=f"database: {error}")
        return _json(200, status="ok", version=self.version)

    def _latest(self, _: Request) -> Answer:
        try:
            return _json(200, orders=self.orders.latest())
        except OSError as error:
            return _json(503, reason=f"database: {error}")

    def _add(self, request: Request) -> Answer:
        if not (item := request.body.strip()):
            return _json(400, reason="the body must name the item")
        try:
            return _json(201, id=self.orders.add(item))
        except OSError as error:
            return _json(503, reason=f"database: {error}")

    def _metrics(self, _: Request) -> Answer:
        with self.lock:
            requests, seconds = dict(self.requests), dict(self.seconds)
        lines = ["# TYPE shop_info gauge", f'shop_info{{version="{self.version}"}} 1']
        lines += ["# TYPE shop_requests_total counter"]
        lines += [
            f'shop_requests_total{{method="{method}",path="{path}",status="{status}"}} {count}'
            for (method, path, status), count in sorted(requests.items())
        ]
        lines += ["# TYPE shop_request_seconds_total counter"]
        lines += [f'shop_request_seconds_total{{path="{p}"}} {s:.6f}' for p, s in sorted(seconds.items())]
        return Answer(200, "\n".join(lines) + "\n", "text/plain; version=0.0.4")

    def _faults(self, request: Request) -> Answer:
        if not request.loopback:
            return _json(403, reason="faults are switched on the host itself, over loopback")
        kind = request.path.removeprefix("/faults").strip("/")
        if request.method == "POST":
            if kind not in FAULTS:
                return _json(404, reason=f"no fault {kind!r}; there are: {', '.join(FAULTS)}")
            try:
                value = float(request.body.strip() or 1)
            except ValueError:
                value = -1
            if not 0 <= value <= FAULTS[kind]:
                given = request.body.strip()
                return _json(400, reason=f"{kind} = {given!r}: accepted: 0 to {FAULTS[kind]:g}")
        with self.lock:
            if request.method == "DELETE":
                self.faults.clear()
            elif request.method == "POST":
                self.faults.pop(kind, None)
                if value:
                    self.faults[kind] = Fault(value, request.query.get("path", ["/"])[0])
            return _json(200, **{k: {"value": f.value, "path": f.path} for k, f in self.faults.items()})


class ShopServer(ThreadingHTTPServer):
    """Serves a shop; one line per request goes to `access_log`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], shop: Shop, access_log: logging.Logger) -> None:
        super().__init__(address, _Handler)
        self.shop = shop
        self.access_log = access_log


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 75  # idle connections are closed after this many seconds
    disable_nagle_algorithm = True
    wbufsize = -1
    server_version = "shop"
    sys_version = ""
    server: ShopServer

    def _serve(self) -> None:
        started = time.monotonic()
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.shop.answer(
            Request(
                method=self.command,
                path=url.path or "/",
                query=parse_qs(url.query),
                body=body.decode(errors="replace"),
                loopback=self.client_address[0] == "127.0.0.1",
            )
        )
        content = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Served-By", self.server.shop.hostname)
        self.send_header("X-Version", self.server.shop.version)
        self.end_headers()
        self.wfile.write(content)
        self.server.access_log.info(
            '%s - - [%s] "%s" %d %d %.3f',
            *(self.client_address[0], time.strftime("%d/%b/%Y:%H:%M:%S %z"), self.requestline),
            *(answer.status, len(content), time.monotonic() - started),
        )

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 (names that http.server asks for)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's signature)
        """The access log has it."""


def open_access_log(path: Path) -> logging.Logger:
    """One line per request, at most three files of 1 MB."""
    log = logging.getLogger("shop.access")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(logging.handlers.RotatingFileHandler(path, maxBytes=1_000_000, backupCount=2))
    return log


def main() -> None:
    """Serve until SIGTERM; configuration comes from SHOP_LISTEN, SHOP_DATABASE and SHOP_ACCESS_LOG."""
    host, _, port = os.environ["SHOP_LISTEN"].rpartition(":")
    version = (Path(__file__).resolve().parent / "VERSION").read_text().strip()
    shop = Shop(version, PostgresOrders(os.environ["SHOP_DATABASE"]))
    with ShopServer((host, int(port)), shop, open_access_log(Path(os.environ["SHOP_ACCESS_LOG"]))) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever()


if __name__ == "__main__":
    main()
