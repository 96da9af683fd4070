"""From a host: over a real sshd, with the tools of this machine, some of them hidden."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from infra.endpoints import probe_endpoint
from infra.inventory import Endpoint, Host
from infra.latency import measure_between, measure_latency, parse_between
from infra.readings import Failure
from tests.infra.network.servers import Answer, Authority, silent_server, web_server

TOOLS = ("sh", "mktemp", "rm", "cat", "grep", "date", "sed", "tail", "head", "timeout", "bash")


@pytest.fixture
def local() -> Host:
    return Host(name="here", environment="test", address="127.0.0.1", connection="local")


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Hides all programs of this machine but a few."""

    def keep(*names: str) -> None:
        programs = tmp_path / "bin"
        programs.mkdir()
        for name in names:
            found = shutil.which(name)
            if found is None:
                pytest.skip(f"{name} is not installed here")
            (programs / name).symlink_to(found)
        monkeypatch.setenv("PATH", str(programs))

    return keep


def test_curl_on_the_host_asks_as_the_control_machine_does(
    local: Host, authority: Authority, good_pem: Path
) -> None:
    answer = Answer(body="hello", headers={"X-Version": "1.2"})
    with web_server(answer, pem=good_pem) as port:
        endpoint = Endpoint(
            url=f"https://shop.test:{port}/healthz?deep=1",
            address="127.0.0.1",
            ca_file=str(authority.pem),
            expect_body="hello",
            expect_headers={"X-Version": "1"},
        )
        reading = probe_endpoint(endpoint, local)
    assert reading.vantage == "here"
    assert [(s.status, s.failure, s.error) for s in reading.samples] == [(200, None, None)] * 5
    assert {(s.body, tuple(s.headers.items())) for s in reading.samples} == {
        ("hello", (("x-version", "1.2"),))
    }
    assert set(answer.seen) == {(f"shop.test:{port}", "/healthz?deep=1")}
    assert reading.p95_ms is not None


def test_curl_tells_a_bad_certificate_from_a_refused_connection(
    local: Host, authority: Authority, pki: Path
) -> None:
    pem = authority.issue(pki, "shop.test", starts=timedelta(days=-90), ends=timedelta(days=-2))
    with web_server(Answer(), pem=pem) as port:
        endpoint = Endpoint(url=f"https://shop.test:{port}/", address="127.0.0.1", ca_file=str(authority.pem))
        expired = probe_endpoint(endpoint, local)
    gone = probe_endpoint(endpoint, local)
    assert {s.failure for s in expired.samples} == {Failure.CERTIFICATE}
    assert "expired" in (expired.samples[0].error or "")
    assert {s.failure for s in gone.samples} == {Failure.CONNECT}


def test_curl_gives_up_at_the_timeout_once(local: Host) -> None:
    with silent_server() as port:
        reading = probe_endpoint(Endpoint(url=f"http://127.0.0.1:{port}/", timeout_s=1), local)
    assert [(s.failure, s.error) for s in reading.samples] == [(Failure.TIMEOUT, "no answer within 1 s")]


def test_wget_serves_where_curl_is_missing(local: Host, only: Callable[..., None]) -> None:
    only("wget", *TOOLS)
    answer = Answer(status=503)
    with web_server(answer) as port:
        reading = probe_endpoint(Endpoint(url=f"http://shop.test:{port}/", address="127.0.0.1"), local)
    assert {(s.status, s.failure) for s in reading.samples} == {(503, None)}
    assert answer.seen[0] == (f"shop.test:{port}", "/")


def test_a_host_without_tools_measures_nothing_and_says_what_it_needs(
    local: Host, only: Callable[..., None]
) -> None:
    only(*TOOLS)
    reading = probe_endpoint(Endpoint(url="http://127.0.0.1:1/"), local)
    assert [(s.failure, s.error) for s in reading.samples] == [
        (Failure.VANTAGE, "curl must be installed on here to probe http://127.0.0.1:1/ from there")
    ]


def test_bash_connects_to_tcp_endpoints(local: Host) -> None:
    with silent_server() as port:
        good = probe_endpoint(Endpoint(url=f"tcp://127.0.0.1:{port}"), local)
    refused = probe_endpoint(Endpoint(url=f"tcp://127.0.0.1:{port}"), local)
    assert [(s.failure, s.error) for s in good.samples] == [(None, None)] * 5
    assert {s.failure for s in refused.samples} == {Failure.CONNECT}
    assert {s.error for s in refused.samples} == {"Connection refused"}


def test_nothing_is_left_behind(local: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with web_server(Answer()) as port:
        assert probe_endpoint(Endpoint(url=f"http://127.0.0.1:{port}/"), local).samples[0].status == 200
    assert list(tmp_path.iterdir()) == []


def test_a_url_is_never_read_as_shell(local: Host, tmp_path: Path) -> None:
    with web_server(Answer()) as port:
        touch = f"touch${{IFS}}{tmp_path}/owned"
        reading = probe_endpoint(Endpoint(url=f"http://127.0.0.1:{port}/$({touch})';{touch}"), local)
    assert {s.status for s in reading.samples} == {200}
    assert not (tmp_path / "owned").exists()


def test_a_host_that_cannot_be_used_is_a_reading_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    gone = Host(name="gone", environment="test", address="127.0.0.1", port=port, user="nobody")
    reading = probe_endpoint(Endpoint(url="http://127.0.0.1:1/"), gone)
    assert [s.failure for s in reading.samples] == [Failure.VANTAGE]
    (latency,) = measure_between([(gone, gone)])
    assert latency.failure is Failure.VANTAGE
    (silent,) = measure_latency([gone])
    assert (silent.failure, silent.median_ms) == (Failure.CONNECT, None)


def test_the_round_trip_to_a_host_is_its_connection_time(local: Host) -> None:
    with silent_server() as port:
        host = Host(name="near", environment="test", address="127.0.0.1", port=port)
        (reading,) = measure_latency([local, host])
    assert (reading.vantage, reading.host, reading.method) == ("control", "near", "tcp connect")
    assert reading.median_ms is not None
    assert 0 < reading.median_ms < 1000


def test_a_host_measures_its_peer_by_connecting_where_there_is_no_ping(
    local: Host, only: Callable[..., None]
) -> None:
    only(*TOOLS)
    with silent_server() as port:
        peer = Host(name="peer", environment="test", address="127.0.0.1", port=port)
        (reading,) = measure_between([(local, peer)])
    assert (reading.vantage, reading.host, reading.method) == ("here", "peer", "tcp connect")
    assert reading.median_ms is not None


def test_a_peer_that_refuses_has_no_round_trip(local: Host, only: Callable[..., None]) -> None:
    only(*TOOLS)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    peer = Host(name="peer", environment="test", address="127.0.0.1", port=port)
    (reading,) = measure_between([(local, peer)])
    assert (reading.median_ms, reading.failure) == (None, Failure.CONNECT)


def test_replies_of_ping_are_read(local: Host) -> None:
    reading = parse_between(local, local, "time=0.051\ntime=40.2\ntime=0.049\n")
    assert (reading.median_ms, reading.method) == (0.051, "ping")
