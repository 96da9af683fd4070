from __future__ import annotations

import socket
import time

import dns.message
import dns.rcode
import pytest

from infra.dns import resolve
from infra.inventory import DnsName
from infra.readings import DnsError, DnsReading
from tests.infra.network.servers import Responder, dns_server, records, saying


def ask(respond: Responder, name: str = "shop.test", kind: str = "A") -> DnsReading:
    with dns_server(respond) as resolver:
        (reading,) = resolve(DnsName(name=name, type=kind, resolvers=(resolver,)), timeout_s=0.2)
    return reading


def test_all_records_are_one_set_with_a_time() -> None:
    reading = ask(records("shop.test. 60 IN A 10.0.0.1", "shop.test. 60 IN A 10.0.0.2"))
    assert reading.answers == {"10.0.0.1", "10.0.0.2"}
    assert reading.time_ms is not None
    assert 0 < reading.time_ms < 200
    assert reading.error is None


def test_an_alias_is_followed_to_its_address() -> None:
    zone = records("shop.test. 60 IN CNAME web.test.", "web.test. 60 IN A 10.0.0.1")
    assert ask(zone).answers == {"10.0.0.1"}
    assert ask(zone, kind="CNAME").answers == {"web.test"}


@pytest.mark.parametrize(
    ("kind", "value", "answer"),
    [
        ("AAAA", "2001:DB8::1", "2001:db8::1"),
        ("MX", "10 Mail.Test.", "10 mail.test"),
        ("TXT", '"v=spf1 " "-all"', "v=spf1 -all"),
        ("NS", "ns.test.", "ns.test"),
        ("SRV", "1 2 5432 db.test.", "1 2 5432 db.test"),
    ],
)
def test_every_type_is_text_as_the_inventory_writes_it(kind: str, value: str, answer: str) -> None:
    assert ask(records(f"shop.test. 60 IN {kind} {value}"), kind=kind).answers == {answer}


def test_a_name_that_does_not_exist_is_nxdomain() -> None:
    reading = ask(records("other.test. 60 IN A 10.0.0.1"))
    assert (reading.error, reading.answers) == (DnsError.NXDOMAIN, frozenset())
    assert reading.time_ms is not None


def test_a_name_without_records_of_the_type_is_no_answer() -> None:
    assert ask(records("shop.test. 60 IN A 10.0.0.1"), kind="AAAA").error is DnsError.NO_ANSWER


@pytest.mark.parametrize(
    ("code", "error"), [(dns.rcode.REFUSED, DnsError.REFUSED), (dns.rcode.SERVFAIL, DnsError.FAILED)]
)
def test_a_resolver_that_says_no_is_not_silent(code: dns.rcode.Rcode, error: DnsError) -> None:
    reading = ask(saying(code))
    assert reading.error is error
    assert not error.silent


def test_silence_ends_after_two_tries() -> None:
    tries = 0

    def respond(query: dns.message.Message) -> None:
        nonlocal tries
        tries += 1

    started = time.monotonic()
    reading = ask(respond)
    assert time.monotonic() - started < 3
    assert (reading.error, tries) == (DnsError.TIMEOUT, 2)
    assert "within 2 x 0.2 s" in reading.detail


def test_one_lost_packet_is_no_outage() -> None:
    answer, tries = records("shop.test. 60 IN A 10.0.0.1"), 0

    def respond(query: dns.message.Message) -> dns.message.Message | None:
        nonlocal tries
        tries += 1
        return None if tries == 1 else answer(query)

    assert ask(respond).answers == {"10.0.0.1"}


def test_a_port_that_nobody_listens_on_is_silent() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    (reading,) = resolve(DnsName(name="shop.test", resolvers=(f"127.0.0.1:{port}",)), timeout_s=0.2)
    assert reading.error is not None
    assert reading.error.silent


def test_every_resolver_is_asked_in_the_order_of_the_inventory() -> None:
    with (
        dns_server(records("shop.test. 60 IN A 10.0.0.1")) as first,
        dns_server(records("shop.test. 60 IN A 10.0.0.9"), "127.0.0.2") as second,
    ):
        readings = resolve(DnsName(name="shop.test", resolvers=(second, first)))
    assert [(r.resolver, set(r.answers)) for r in readings] == [(second, {"10.0.0.9"}), (first, {"10.0.0.1"})]
