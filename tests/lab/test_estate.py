"""What the lab's hosts offer works as a whole: balancer, database pair, S3, resolvers, apt, webhooks."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import boto3
import dns.resolver
import httpx
import psycopg
import pytest
from botocore.config import Config

from infra.lab.client import LabClient
from infra.lab.roles import addresses, issue
from infra.lab.roles.balancer import CERTIFICATE

pytestmark = pytest.mark.lab


def secret(lab: LabClient, name: str) -> str:
    return (lab.path / "secrets" / name).read_text()


def get(lab: LabClient, name: str, path: str) -> httpx.Response:
    """GET over HTTPS by name, without asking a resolver."""
    context = ssl.create_default_context(cafile=str(lab.path / "ca.pem"))
    with httpx.Client(verify=context, timeout=10) as client:
        address = addresses(lab.lab)[name]
        return client.get(
            f"https://{address}{path}", headers={"Host": name}, extensions={"sni_hostname": name}
        )


def eventually(read: Callable[[], Any], wanted: Any, timeout_s: float = 30) -> None:
    """Wait until `read` returns what is wanted; fails with what it returned last."""
    deadline = time.monotonic() + timeout_s
    while (last := read()) != wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    assert last == wanted


def resolve(address: str, name: str) -> set[str]:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [address]
    resolver.lifetime = 10
    return {answer.to_text() for answer in resolver.resolve(name, "A")}


def query(dsn: str, statement: str) -> Any:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def test_both_web_hosts_answer_through_the_balancer(lab: LabClient) -> None:
    answers = [get(lab, "shop.production.lab", "/") for _ in range(8)]
    assert {a.status_code for a in answers} == {200}
    assert {a.headers["x-served-by"] for a in answers} == {"prod-web-1", "prod-web-2"}


def test_an_order_reaches_the_standby(lab: LabClient) -> None:
    before = query(secret(lab, "postgres-prod-db-2"), "SELECT count(*) FROM orders")
    placed = httpx.post(f"http://{lab.address('prod-web-1')}:8080/orders", content="a mug", timeout=10)
    assert placed.status_code == 201
    standby = secret(lab, "postgres-prod-db-2")
    eventually(lambda: query(standby, "SELECT count(*) FROM orders"), before + 1)
    assert query(standby, "SELECT pg_is_in_recovery()") is True
    primary = secret(lab, "postgres-prod-db-1")
    assert query(primary, "SELECT state FROM pg_stat_replication") == "streaming"
    assert query(primary, "SELECT active FROM pg_replication_slots WHERE slot_name = 'prod_db_2'") is True


def test_the_shop_outlives_its_database_and_says_so(lab: LabClient) -> None:
    url = f"http://{lab.address('stage-web-1')}:8080"
    lab.exec("stage-db-1", "systemctl", "stop", "pgbouncer.service")
    try:
        failing = httpx.get(f"{url}/healthz", timeout=10)
        assert (failing.status_code, failing.json()["status"]) == (503, "failing")
        assert "db.staging.lab:6432" in failing.json()["reason"]
        assert httpx.get(f"{url}/version", timeout=10).json() == {"version": "1.0.0"}
    finally:
        lab.exec("stage-db-1", "systemctl", "start", "pgbouncer.service")
    eventually(lambda: httpx.get(f"{url}/healthz", timeout=10).status_code, 200)


def test_a_drained_host_stays_drained_when_the_balancer_is_reloaded(lab: LabClient) -> None:
    def runtime(command: str) -> str:
        return lab.exec("prod-lb-1", "nc", "-N", "-U", "/run/haproxy/admin.sock", stdin=f"{command}\n")

    def served_by() -> set[str]:
        return {get(lab, "shop.production.lab", "/").headers["x-served-by"] for _ in range(6)}

    runtime("set server shop/prod-web-1 state drain")
    try:
        lab.exec("prod-lb-1", "systemctl", "reload", "haproxy.service")
        assert served_by() == {"prod-web-2"}
    finally:
        runtime("set server shop/prod-web-1 state ready")
    eventually(served_by, {"prod-web-1", "prod-web-2"})


def test_an_expired_certificate_can_be_put_in_and_taken_out(lab: LabClient) -> None:
    def reload() -> None:  # returns before the new process has taken over
        lab.exec("stage-lb-1", "systemctl", "reload", "haproxy.service")

    def answer() -> str:
        try:
            return str(get(lab, "shop.staging.lab", "/").status_code)
        except httpx.TransportError as error:
            return "expired" if "expired" in str(error) else str(error)

    good = lab.exec("stage-lb-1", "cat", CERTIFICATE)
    expired = issue(lab.path, "shop.staging.lab", days_before=30, days_after=-1).combined
    lab.exec("stage-lb-1", "tee", CERTIFICATE, stdin=expired)
    try:
        reload()
        eventually(answer, "expired")
    finally:
        lab.exec("stage-lb-1", "tee", CERTIFICATE, stdin=good)
        reload()
    eventually(answer, "200")


def test_what_is_put_into_s3_can_be_got_back(lab: LabClient) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{lab.address('support-1')}:8333",
        region_name="us-east-1",
        aws_access_key_id=secret(lab, "lab-s3-access-key"),
        aws_secret_access_key=secret(lab, "lab-s3-secret-key"),
        config=Config(s3={"addressing_style": "path"}),
    )
    body = bytes(range(256)) * 40_000
    s3.create_bucket(Bucket="estate")
    s3.put_object(Bucket="estate", Key="some/where", Body=body)
    assert s3.get_object(Bucket="estate", Key="some/where")["Body"].read() == body


def test_the_resolvers_agree_until_they_are_made_to_disagree(lab: LabClient) -> None:
    names = addresses(lab.lab)
    first, second = names["resolver-1.lab"], names["resolver-2.lab"]
    shop = {names["shop.production.lab"]}
    assert resolve(first, "shop.production.lab") == resolve(second, "shop.production.lab") == shop
    override = "/etc/lab-resolver-2.hosts"
    lab.exec("support-1", "tee", override, stdin="203.0.113.7 shop.production.lab\n- s3.lab\n")
    try:
        lab.exec("support-1", "systemctl", "reload", "lab-resolver-2.service")
        eventually(lambda: resolve(second, "shop.production.lab"), {"203.0.113.7"})
        assert resolve(first, "shop.production.lab") == shop
        with pytest.raises(dns.resolver.NXDOMAIN):
            resolve(second, "s3.lab")
    finally:
        lab.exec("support-1", "tee", override, stdin="")
        lab.exec("support-1", "systemctl", "reload", "lab-resolver-2.service")
    eventually(lambda: resolve(second, "shop.production.lab"), shop)


def test_updates_are_pending_only_once_the_new_suite_is_switched_on(lab: LabClient) -> None:
    source = "/etc/apt/sources.list.d/lab-new.sources"

    def switch(state: str) -> str:
        lab.exec("prod-web-2", "sed", "-i", f"s/^Enabled: .*/Enabled: {state}/", source)
        lab.exec("prod-web-2", "apt-get", "update", "--error-on=any")
        return lab.exec("prod-web-2", "apt", "list", "--upgradable")

    assert "upkeep-demo" not in lab.exec("prod-web-2", "apt", "list", "--upgradable")
    try:
        assert "upkeep-demo/new 1.1 all [upgradable from: 1.0]" in switch("yes")
    finally:
        assert "upkeep-demo" not in switch("no")


def test_a_webhook_is_remembered(lab: LabClient) -> None:
    url = secret(lab, "lab-webhook").replace("json://", "http://")
    httpx.post(url, json={"title": "a test"}, timeout=10)
    assert httpx.get(url, timeout=10).json()[-1]["body"] == '{"title":"a test"}'


def test_the_cache_answers(lab: LabClient) -> None:
    with socket.create_connection((lab.address("prod-cache-1"), 6379), timeout=10) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(16) == b"+PONG\r\n"
