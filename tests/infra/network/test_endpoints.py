from __future__ import annotations

import socket
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from infra.endpoints import SAMPLES, probe_endpoint
from infra.inventory import Endpoint
from infra.readings import EndpointReading, Failure
from tests.infra.network.servers import Answer, Authority, make_authority, silent_server, web_server


def only_failure(reading: EndpointReading) -> tuple[Failure | None, str]:
    (failure,) = {sample.failure for sample in reading.samples}
    return failure, reading.samples[-1].error or ""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_an_answer_has_its_status_and_five_times() -> None:
    with web_server(Answer(delay_s=0.02)) as port:
        reading = probe_endpoint(Endpoint(url=f"http://127.0.0.1:{port}/healthz?deep=1"))
    assert [sample.status for sample in reading.samples] == [200] * SAMPLES
    assert reading.vantage == "control"
    assert reading.p50_ms is not None
    assert reading.p95_ms is not None
    assert 20 <= reading.p50_ms <= reading.p95_ms


def test_path_query_and_host_header_arrive_as_the_url_says() -> None:
    answer = Answer()
    with web_server(answer) as port:
        probe_endpoint(Endpoint(url=f"http://shop.test:{port}/healthz?deep=1", address="127.0.0.1"))
    assert set(answer.seen) == {(f"shop.test:{port}", "/healthz?deep=1")}


def test_an_unexpected_status_is_a_reading_and_not_a_failure() -> None:
    with web_server(Answer(status=503)) as port:
        reading = probe_endpoint(Endpoint(url=f"http://127.0.0.1:{port}"))
    assert {(s.status, s.failure) for s in reading.samples} == {(503, None)}


def test_a_redirect_is_not_followed() -> None:
    with web_server(Answer(status=302, headers={"Location": "http://192.0.2.1/"})) as port:
        reading = probe_endpoint(Endpoint(url=f"http://127.0.0.1:{port}/"))
    assert {s.status for s in reading.samples} == {302}


def test_body_and_headers_are_kept_only_when_they_are_expected() -> None:
    with web_server(Answer(body="hello", headers={"X-Version": "1.2"})) as port:
        url = f"http://127.0.0.1:{port}/"
        plain = probe_endpoint(Endpoint(url=url)).samples[0]
        asked = probe_endpoint(
            Endpoint(url=url, expect_body="hell", expect_headers={"X-Version": "1"})
        ).samples[0]
    assert (plain.body, dict(plain.headers)) == ("", {})
    assert (asked.body, dict(asked.headers)) == ("hello", {"x-version": "1.2"})


def test_a_refused_connection_is_said_with_its_address() -> None:
    port = free_port()
    failure, error = only_failure(probe_endpoint(Endpoint(url=f"http://127.0.0.1:{port}/")))
    assert failure is Failure.CONNECT
    assert error == f"127.0.0.1:{port}: connection refused"


def test_a_name_that_does_not_resolve_is_a_failure_of_the_name() -> None:
    failure, error = only_failure(probe_endpoint(Endpoint(url="http://no-such-host.invalid/")))
    assert failure is Failure.NAME
    assert "no-such-host.invalid:80 does not resolve" in error


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    with web_server(Answer()) as port:
        assert probe_endpoint(Endpoint(url=f"http://127.0.0.1:{port}/")).samples[0].status == 200


def test_silence_ends_at_the_timeout_and_is_tried_once() -> None:
    with silent_server() as port:
        started = time.monotonic()
        reading = probe_endpoint(Endpoint(url=f"http://127.0.0.1:{port}/", timeout_s=0.3))
    assert time.monotonic() - started < 2
    assert len(reading.samples) == 1
    assert only_failure(reading) == (Failure.TIMEOUT, f"no answer from 127.0.0.1:{port} within 0.3 s")


def test_an_answer_that_drips_ends_at_the_timeout_too() -> None:
    with web_server(Answer(body="x" * 1000, drip_s=0.05)) as port:
        started = time.monotonic()
        reading = probe_endpoint(Endpoint(url=f"http://127.0.0.1:{port}/", timeout_s=0.5))
    assert time.monotonic() - started < 3
    assert reading.samples[-1].failure is Failure.TIMEOUT


def test_something_that_is_not_http_is_a_failure_of_the_protocol() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def babble() -> None:
            for _ in range(SAMPLES):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"220 mail.test ESMTP\r\n")

        thread = threading.Thread(target=babble, daemon=True)
        thread.start()
        failure, error = only_failure(probe_endpoint(Endpoint(url=f"http://127.0.0.1:{port}/")))
        thread.join(5)
    assert failure is Failure.PROTOCOL
    assert "220 mail.test" in error


def test_https_is_verified_for_the_name_of_the_url_on_the_address_given(
    authority: Authority, good_pem: Path
) -> None:
    answer = Answer()
    with web_server(answer, pem=good_pem) as port:
        url = f"https://shop.test:{port}/"
        reading = probe_endpoint(Endpoint(url=url, address="127.0.0.1", ca_file=str(authority.pem)))
    assert {s.status for s in reading.samples} == {200}
    assert answer.seen[0] == (f"shop.test:{port}", "/")


@pytest.mark.parametrize(
    ("names", "days", "said"),
    [
        (("shop.test",), (-90, -2), "certificate has expired"),
        (("other.test",), (-1, 90), "Hostname mismatch"),
        (("shop.test",), (2, 90), "certificate is not yet valid"),
    ],
)
def test_a_certificate_that_is_not_valid_is_a_failure_of_the_certificate(
    authority: Authority, pki: Path, names: tuple[str, ...], days: tuple[int, int], said: str
) -> None:
    pem = authority.issue(pki, *names, starts=timedelta(days=days[0]), ends=timedelta(days=days[1]))
    with web_server(Answer(), pem=pem) as port:
        url = f"https://shop.test:{port}/"
        reading = probe_endpoint(Endpoint(url=url, address="127.0.0.1", ca_file=str(authority.pem)))
    failure, error = only_failure(reading)
    assert failure is Failure.CERTIFICATE
    assert said in error


def test_an_authority_that_is_not_trusted_is_a_failure_of_the_certificate(pki: Path, good_pem: Path) -> None:
    stranger = make_authority(pki, "stranger")
    with web_server(Answer(), pem=good_pem) as port:
        url = f"https://shop.test:{port}/"
        reading = probe_endpoint(Endpoint(url=url, address="127.0.0.1", ca_file=str(stranger.pem)))
    assert only_failure(reading)[0] is Failure.CERTIFICATE


def test_plain_http_where_tls_is_expected_is_a_failure_of_the_protocol(authority: Authority) -> None:
    with web_server(Answer()) as port:
        reading = probe_endpoint(Endpoint(url=f"https://127.0.0.1:{port}/", ca_file=str(authority.pem)))
    assert only_failure(reading)[0] is Failure.PROTOCOL


def test_an_authorities_file_that_is_missing_says_so() -> None:
    reading = probe_endpoint(Endpoint(url="https://127.0.0.1:1/", ca_file="/nowhere/ca.pem"))
    failure, error = only_failure(reading)
    assert failure is Failure.VANTAGE
    assert error == "ca_file /nowhere/ca.pem is of no use: No such file or directory"


def test_tcp_is_good_when_the_connection_is_accepted() -> None:
    with silent_server() as port:
        reading = probe_endpoint(Endpoint(url=f"tcp://127.0.0.1:{port}"))
    assert [(s.failure, s.status) for s in reading.samples] == [(None, None)] * SAMPLES
    assert reading.p50_ms is not None


def test_tcp_that_is_refused_fails() -> None:
    assert only_failure(probe_endpoint(Endpoint(url=f"tcp://127.0.0.1:{free_port()}")))[0] is Failure.CONNECT
