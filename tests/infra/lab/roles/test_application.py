"""The shop answers over real HTTP on loopback; only its database is a fake, in memory."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.lab.roles.application import Request, Shop, ShopServer, open_access_log


@dataclass
class FakeOrders:
    """Orders in a list; away when told so."""

    items: list[str] = field(default_factory=lambda: ["a mug"])
    away: bool = False

    def check(self) -> None:
        if self.away:
            raise OSError("db.lab:6432: Connection refused")

    def latest(self) -> list[dict[str, Any]]:
        self.check()
        return [{"id": number, "item": item} for number, item in enumerate(self.items, 1)]

    def add(self, item: str) -> int:
        self.check()
        self.items.append(item)
        return len(self.items)


@pytest.fixture
def orders() -> FakeOrders:
    return FakeOrders()


@pytest.fixture
def access_log(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "access.log"
    logging.getLogger("shop.access").handlers.clear()


@pytest.fixture
def client(orders: FakeOrders, access_log: Path) -> Iterator[httpx.Client]:
    server = ShopServer(("127.0.0.1", 0), Shop("1.2.3", orders, "web-9"), open_access_log(access_log))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
        yield client
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_says_which_release_runs_on_which_host(client: httpx.Client) -> None:
    answer = client.get("/version")
    assert answer.json() == {"version": "1.2.3"}
    assert answer.headers["x-served-by"] == "web-9"


def test_it_is_healthy_while_its_database_answers(client: httpx.Client) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_it_goes_on_without_its_database_and_says_why_it_is_unhealthy(
    client: httpx.Client, orders: FakeOrders
) -> None:
    orders.away = True
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["reason"] == "database: db.lab:6432: Connection refused"
    assert client.get("/orders").status_code == 503
    assert client.get("/").status_code == 200


def test_an_order_that_is_placed_can_be_read_back(client: httpx.Client) -> None:
    assert client.post("/orders", content="a plate").json() == {"id": 2}
    assert [order["item"] for order in client.get("/orders").json()["orders"]] == ["a mug", "a plate"]


def test_an_order_without_an_item_is_refused(client: httpx.Client, orders: FakeOrders) -> None:
    assert client.post("/orders", content=" ").status_code == 400
    assert orders.items == ["a mug"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/no", 404), ("POST", "/version", 405)])
def test_a_wrong_request_is_told_what_there_is(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert "GET" in answer.json()["reason"] or "/healthz" in answer.json()["reason"]


def test_requests_are_counted_by_method_path_and_status(client: httpx.Client) -> None:
    for _ in range(3):
        client.get("/")
    client.get("/no/such/page")
    metrics = client.get("/metrics").text
    assert 'shop_requests_total{method="GET",path="/",status="200"} 3' in metrics
    assert 'shop_requests_total{method="GET",path="other",status="404"} 1' in metrics
    assert re.search(r'shop_request_seconds_total\{path="/"\} 0\.\d+', metrics)


def test_every_request_is_a_line_in_the_access_log(client: httpx.Client, access_log: Path) -> None:
    client.get("/version?why=not")
    client.get("/version")
    first = access_log.read_text().splitlines()[0]
    when = r"\[\d\d/\w+/\d{4}:[\d:]{8} [+-]\d{4}\]"
    request = r'"GET /version\?why=not HTTP/1\.1"'
    assert re.fullmatch(rf"127\.0\.0\.1 - - {when} {request} 200 21 0\.\d{{3}}", first)


def test_a_share_of_errors_is_exact(client: httpx.Client) -> None:
    client.post("/faults/errors-percent", content="25")
    codes = [client.get("/orders").status_code for _ in range(40)]
    assert codes.count(500) == 10
    assert codes.count(200) == 30


def test_a_fault_on_one_path_leaves_the_others_alone(client: httpx.Client) -> None:
    client.post("/faults/error?path=/orders")
    assert client.get("/orders").status_code == 500
    assert client.get("/healthz").status_code == 200


def test_a_wrong_body_comes_with_a_good_status(client: httpx.Client) -> None:
    client.post("/faults/body")
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert "ok" not in answer.text


def test_a_slow_shop_takes_at_least_as_long_as_it_was_told(client: httpx.Client) -> None:
    client.post("/faults/slow", content="200")
    assert client.get("/").elapsed.total_seconds() >= 0.2


def test_faults_end_when_they_are_switched_off(client: httpx.Client) -> None:
    client.post("/faults/error")
    assert client.get("/faults").json() == {"error": {"value": 1.0, "path": "/"}}
    client.post("/faults/error", content="0")
    assert client.get("/").status_code == 200
    client.post("/faults/error")
    assert client.delete("/faults").json() == {}
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    ("kind", "value", "status", "accepted"),
    [
        ("errors-percent", "101", 400, "0 to 100"),
        ("slow", "soon", 400, "0 to 60000"),
        ("fire", "1", 404, "slow"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(
    client: httpx.Client, kind: str, value: str, status: int, accepted: str
) -> None:
    answer = client.post(f"/faults/{kind}", content=value)
    assert answer.status_code == status
    assert accepted in answer.json()["reason"]
    assert client.get("/faults").json() == {}


def test_nobody_outside_the_host_may_switch_a_fault_on(orders: FakeOrders) -> None:
    shop = Shop("1.2.3", orders)
    answer = shop.answer(Request("POST", "/faults/error", {}, "1", loopback=False))
    assert answer.status == 403
    assert "loopback" in json.loads(answer.body)["reason"]
    assert shop.faults == {}
