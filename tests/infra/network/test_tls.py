from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.inventory import TlsName
from infra.readings import Failure, TlsReading
from infra.tls import probe_tls
from tests.infra.network.servers import Answer, Authority, make_authority, silent_server, web_server

DAY = timedelta(days=1)


def read(port: int, authority: Authority, name: str = "shop.test", *addresses: str) -> tuple[TlsReading, ...]:
    return probe_tls(
        TlsName(name=name, port=port, addresses=addresses or ("127.0.0.1",), ca_file=str(authority.pem))
    )


def days_left(reading: TlsReading) -> int:
    assert reading.not_after is not None
    return round((reading.not_after - datetime.now(UTC)) / DAY)


def test_a_good_certificate_has_dates_and_nothing_against_it(authority: Authority, good_pem: Path) -> None:
    with web_server(Answer(), pem=good_pem) as port:
        (reading,) = read(port, authority)
    assert (reading.untrusted, reading.name_matches, reading.failure, reading.leaf) == (
        None,
        True,
        None,
        True,
    )
    assert days_left(reading) == 60
    assert reading.not_before is not None
    assert reading.ends_first == "CN=shop.test"


def test_an_expired_certificate_still_gives_its_dates(authority: Authority, pki: Path) -> None:
    pem = authority.issue(pki, "shop.test", starts=-90 * DAY, ends=-2 * DAY)
    with web_server(Answer(), pem=pem) as port:
        (reading,) = read(port, authority)
    assert days_left(reading) == -2
    assert (reading.untrusted, reading.name_matches) == (None, True)


def test_a_certificate_of_the_future_gives_its_dates(authority: Authority, pki: Path) -> None:
    pem = authority.issue(pki, "shop.test", starts=3 * DAY, ends=90 * DAY)
    with web_server(Answer(), pem=pem) as port:
        (reading,) = read(port, authority)
    assert reading.not_before is not None
    assert reading.not_before > datetime.now(UTC)
    assert reading.untrusted is None


def test_a_certificate_for_another_name_is_read_and_does_not_match(authority: Authority, pki: Path) -> None:
    pem = authority.issue(pki, "other.test", starts=-DAY, ends=60 * DAY)
    with web_server(Answer(), pem=pem) as port:
        (reading,) = read(port, authority)
    assert (reading.name_matches, reading.untrusted, days_left(reading)) == (False, None, 60)


def test_a_wildcard_stands_for_one_whole_label(authority: Authority, pki: Path) -> None:
    pem = authority.issue(pki, "*.shop.test", starts=-DAY, ends=60 * DAY)
    with web_server(Answer(), pem=pem) as port:
        matches = {
            name: read(port, authority, name)[0].name_matches
            for name in ("www.shop.test", "WWW.shop.test", "shop.test", "a.www.shop.test")
        }
    assert matches == {
        "www.shop.test": True,
        "WWW.shop.test": True,
        "shop.test": False,
        "a.www.shop.test": False,
    }


def test_an_address_can_be_the_name(authority: Authority, good_pem: Path) -> None:
    with web_server(Answer(), pem=good_pem) as port:
        (reading,) = read(port, authority, "127.0.0.1")
    assert reading.name_matches is True


def test_the_authority_that_ends_before_the_leaf_decides(authority: Authority, pki: Path) -> None:
    below = authority.intermediate(starts=-350 * DAY, ends=10 * DAY)
    pem = below.issue(pki, "shop.test", starts=-DAY, ends=60 * DAY)
    with web_server(Answer(), pem=pem) as port:
        (reading,) = read(port, authority)
    assert (reading.leaf, reading.ends_first, days_left(reading)) == (False, "CN=intermediate", 10)


def test_an_expired_authority_on_the_path_is_found_by_its_dates(authority: Authority, pki: Path) -> None:
    below = authority.intermediate(starts=-350 * DAY, ends=-1 * DAY)
    pem = below.issue(pki, "shop.test", starts=-2 * DAY, ends=60 * DAY)
    with web_server(Answer(), pem=pem) as port:
        (reading,) = read(port, authority)
    assert (reading.leaf, reading.ends_first, days_left(reading)) == (False, "CN=intermediate", -1)


def test_what_the_server_sends_beside_the_path_does_not_decide(authority: Authority, pki: Path) -> None:
    useless = authority.intermediate(starts=-350 * DAY, ends=-30 * DAY)
    pem = authority.issue(pki, "shop.test", starts=-DAY, ends=60 * DAY)
    pem.write_bytes(pem.read_bytes() + _certificates(useless, pki))
    with web_server(Answer(), pem=pem) as port:
        (reading,) = read(port, authority)
    assert (reading.leaf, days_left(reading), reading.untrusted) == (True, 60, None)


def _certificates(authority: Authority, pki: Path) -> bytes:
    text = authority.issue(pki, "unused.test", starts=-DAY, ends=DAY).read_text()
    return text.split("-----END CERTIFICATE-----\n")[1].encode() + b"-----END CERTIFICATE-----\n"


def test_an_unknown_authority_is_not_trusted_and_the_dates_are_read(pki: Path, good_pem: Path) -> None:
    stranger = make_authority(pki, "another stranger")
    with web_server(Answer(), pem=good_pem) as port:
        (reading,) = read(port, stranger)
    assert reading.untrusted is not None
    assert "issuer certificate" in reading.untrusted
    assert (days_left(reading), reading.name_matches) == (60, True)


def test_every_address_is_read_by_itself(authority: Authority, pki: Path, good_pem: Path) -> None:
    old = authority.issue(pki, "shop.test", starts=-90 * DAY, ends=-1 * DAY)
    with (
        web_server(Answer(), "127.0.0.1", pem=good_pem) as port,
        web_server(Answer(), "127.0.0.2", port, old),
    ):
        readings = read(port, authority, "shop.test", "127.0.0.2", "127.0.0.1")
    assert [(r.address, days_left(r)) for r in readings] == [("127.0.0.1", 60), ("127.0.0.2", -1)]


def test_a_refused_connection_shows_no_certificate_and_says_why(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    (reading,) = read(port, authority)
    assert (reading.not_after, reading.failure) == (None, Failure.CONNECT)
    assert reading.error == f"127.0.0.1:{port}: connection refused"


def test_silence_ends_at_the_timeout(authority: Authority) -> None:
    with silent_server() as port:
        started = time.monotonic()
        (reading,) = probe_tls(TlsName(name="shop.test", port=port, addresses=("127.0.0.1",)), timeout_s=0.3)
    assert time.monotonic() - started < 2
    assert reading.failure is Failure.TIMEOUT


def test_plain_http_is_a_failure_of_the_protocol(authority: Authority) -> None:
    with web_server(Answer()) as port:
        (reading,) = read(port, authority)
    assert reading.failure is Failure.PROTOCOL


def test_a_name_that_does_not_resolve_is_one_reading() -> None:
    (reading,) = probe_tls(TlsName(name="no-such-host.invalid"))
    assert (reading.address, reading.failure) == ("no-such-host.invalid", Failure.NAME)


def test_an_authorities_file_that_is_missing_says_so(good_pem: Path) -> None:
    with web_server(Answer(), pem=good_pem) as port:
        (reading,) = probe_tls(
            TlsName(name="shop.test", port=port, addresses=("127.0.0.1",), ca_file="/nowhere/ca.pem")
        )
    assert reading.not_after is None
    assert "/nowhere/ca.pem" in (reading.error or "")
