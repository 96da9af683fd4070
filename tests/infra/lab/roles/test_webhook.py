"""The webhook receiver keeps what it is sent, over real HTTP on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.lab.roles.webhook import WebhookServer


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    server = WebhookServer(("127.0.0.1", 0), tmp_path / "received.jsonl")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
        yield client
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_was_sent_is_given_back_in_order(client: httpx.Client) -> None:
    client.post("/alert", json={"severity": "critical"})
    client.post("/", content="plain text")
    first, second = client.get("/").json()
    assert first["path"] == "/alert"
    assert first["body"] == '{"severity":"critical"}'
    assert first["headers"]["Content-Type"] == "application/json"
    assert second["body"] == "plain text"


def test_nothing_was_received_at_first_and_after_forgetting(client: httpx.Client) -> None:
    assert client.get("/").json() == []
    client.post("/", content="x")
    client.delete("/")
    assert client.get("/").json() == []
