from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.findings import Finding, Status
from infra.inventory import DnsName, Endpoint, Level, Thresholds, TlsName
from infra.inventory.thresholds import DEFAULTS
from infra.readings import (
    CONTROL,
    DnsError,
    DnsReading,
    EndpointReading,
    EndpointSample,
    Failure,
    LatencyReading,
    TlsReading,
    percentile_95,
)
from tasks.health.judge import judge_between, judge_dns, judge_endpoint, judge_latency, judge_tls
from tasks.health.judge.certificates import default_level
from tests.tasks.health.examples import NOW, certificate, host_named, silent

SHOP = Endpoint(url="https://shop.test/healthz", latency_objective_ms=200)
GOOD = EndpointSample(50.0, 200)
REFUSED = EndpointSample(None, failure=Failure.CONNECT, error="10.0.0.1:443: connection refused")
NAME = DnsName(name="shop.test", expect=("10.0.0.1",))


def answered(
    *samples: EndpointSample, endpoint: Endpoint = SHOP, vantage: str = CONTROL
) -> dict[str, Finding]:
    found = judge_endpoint(endpoint, EndpointReading(vantage, samples), "production", "shop")
    return {f.check: f for f in found}


def judged_certificate(*readings: TlsReading, limits: Thresholds = DEFAULTS) -> Finding:
    name = TlsName(name="shop.test")
    (finding,) = judge_tls(name, readings, "production", "shop", limits, NOW)
    return finding


def said(resolver: str, *answers: str, ms: float = 1.0, error: DnsError | None = None) -> DnsReading:
    return DnsReading(resolver, frozenset(answers), ms, error)


def resolved(*readings: DnsReading, name: DnsName = NAME) -> tuple[Finding, dict[str, Finding]]:
    """The finding about the name, and those about its resolvers."""
    answer, *resolvers = judge_dns(name, readings, "production", "shop", DEFAULTS)
    assert answer.check == "dns_answer"
    return answer, {f.subject: f for f in resolvers}


# -- endpoints


def test_a_good_endpoint_is_ok_in_both_findings() -> None:
    found = answered(*[GOOD] * 5)
    assert {check: f.status for check, f in found.items()} == {
        "endpoint": Status.OK,
        "endpoint_latency": Status.OK,
    }
    assert found["endpoint"].summary == "https://shop.test/healthz (shop) answers in 50 ms"
    assert found["endpoint"].threshold == "must answer with 200"


def test_an_endpoint_that_is_refused_is_critical_and_has_no_latency() -> None:
    found = answered(*[REFUSED] * 5)
    assert set(found) == {"endpoint"}
    assert found["endpoint"].status is Status.CRITICAL
    assert "connection refused" in found["endpoint"].summary
    assert found["endpoint"].advice == "curl -v -m 5 https://shop.test/healthz"


@pytest.mark.parametrize(
    ("bad", "status"),
    [(0, Status.OK), (1, Status.WARNING), (2, Status.WARNING), (3, Status.CRITICAL), (5, Status.CRITICAL)],
)
def test_half_of_the_attempts_decide(bad: int, status: Status) -> None:
    finding = answered(*[REFUSED] * bad, *[GOOD] * (5 - bad))["endpoint"]
    assert finding.status is status
    if 0 < bad < 5:
        assert f"({bad} of 5 attempts)" in finding.summary


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (EndpointSample(9.0, 503), "it answers with 503 instead of 200"),
        (
            EndpointSample(9.0, 200, {"x-version": "2"}, "ok"),
            "its header X-Version is '2' and does not match '^1'",
        ),
        (
            EndpointSample(9.0, 200, {"x-version": "1"}, "oops"),
            "its body does not match 'ok'; it begins with 'oops'",
        ),
    ],
)
def test_an_answer_that_is_not_as_expected_says_what_was_expected(sample: EndpointSample, words: str) -> None:
    endpoint = Endpoint(url="http://shop.test/", expect_body="ok", expect_headers={"X-Version": "^1"})
    finding = answered(*[sample] * 5, endpoint=endpoint)["endpoint"]
    assert (finding.status, words in finding.summary) == (Status.CRITICAL, True)


def test_slow_answers_miss_the_objective_and_are_a_warning() -> None:
    finding = answered(*[GOOD] * 3, *[EndpointSample(400.0, 200)] * 2)["endpoint_latency"]
    assert (finding.status, finding.value, finding.unit) == (Status.WARNING, 400, "ms")
    assert finding.summary == (
        "https://shop.test/healthz (shop) answers 95 % within 400 ms, over its objective of 200 ms"
    )


def test_an_unusable_vantage_is_unknown() -> None:
    lost = EndpointSample(None, failure=Failure.VANTAGE, error="web-1: no answer")
    finding = answered(lost, vantage="web-1")["endpoint"]
    assert (finding.status, finding.subject) == (Status.UNKNOWN, "https://shop.test/healthz from web-1")
    assert "could not be probed from web-1: web-1: no answer" in finding.summary


def test_tcp_needs_only_a_connection() -> None:
    endpoint = Endpoint(url="tcp://10.0.0.13:5432")
    assert answered(EndpointSample(1.0), endpoint=endpoint)["endpoint"].status is Status.OK
    assert answered(REFUSED, endpoint=endpoint)["endpoint"].advice == "nc -vz -w 5 10.0.0.13 5432"


def test_the_95th_percentile_is_interpolated() -> None:
    assert percentile_95([]) is None
    assert percentile_95([7.0]) == 7.0
    assert percentile_95([10, 20, 30, 40, 50]) == pytest.approx(48)


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=9), st.floats(0, 1e4))
def test_slower_answers_are_never_better(times: list[float], extra: float) -> None:
    def status(by: float) -> int:
        return answered(*(EndpointSample(t + by, 200) for t in times))["endpoint_latency"].status.rank

    assert status(0) <= status(extra)


# -- certificates


@pytest.mark.parametrize(
    ("days", "lifetime", "status"),
    [
        (31, 365, Status.OK),
        (30, 365, Status.WARNING),
        (8, 365, Status.WARNING),
        (7, 365, Status.CRITICAL),
        (31, 90, Status.OK),
        (29, 90, Status.WARNING),
        (2.1, 6, Status.OK),
        (2, 6, Status.WARNING),
        (0.5, 6, Status.CRITICAL),
        (-1, 90, Status.CRITICAL),
    ],
)
def test_the_lead_time_is_a_third_of_the_lifetime_and_at_most_thirty_days(
    days: float, lifetime: float, status: Status
) -> None:
    assert judged_certificate(certificate(days=days, lifetime=lifetime)).status is status


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (certificate(days=20), "the certificate ends in 20 days"),
        (certificate(days=-2), "the certificate expired 2 days ago"),
        (certificate(days=0), "the certificate expired 0 seconds ago"),
        (certificate(days=100, lifetime=90), "the certificate becomes valid in 10 days only"),
        (
            certificate(days=60, untrusted="self-signed certificate"),
            "the certificate is not to be trusted: self-signed certificate",
        ),
        (certificate(days=60, name_matches=False), "the certificate is for other names than shop.test"),
        (
            certificate(days=-3, leaf=False, ends_first="CN=old"),
            "the authority's certificate CN=old expired 3 days ago",
        ),
        (certificate(days=-3, untrusted="unable to get local issuer"), "the certificate expired 3 days ago"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said(reading: TlsReading, words: str) -> None:
    finding = judged_certificate(reading)
    assert finding.summary == f"shop: shop.test:443 at 10.0.0.1: {words}"
    assert "openssl s_client -connect 10.0.0.1:443 -servername shop.test" in finding.advice


def test_limits_of_the_inventory_replace_the_rule() -> None:
    limits = Thresholds(tls_days=Level(warning=10, critical=1))
    finding = judged_certificate(certificate(days=12), limits=limits)
    assert (finding.status, finding.threshold) == (
        Status.OK,
        "warning at 10 days left, critical at 1 days left",
    )


def test_the_worst_address_of_a_name_is_its_finding() -> None:
    finding = judged_certificate(
        certificate("10.0.0.1", days=60), certificate("10.0.0.2", days=-1), certificate("10.0.0.3", days=3)
    )
    assert finding.status is Status.CRITICAL
    assert finding.summary == (
        "shop: shop.test:443 at 10.0.0.2: the certificate expired 1 day ago (so on 2 of 3 addresses)"
    )


def test_an_address_without_a_certificate_is_unknown() -> None:
    finding = judged_certificate(TlsReading("10.0.0.1", failure=Failure.CONNECT, error="connection refused"))
    assert (finding.status, finding.value) == (Status.UNKNOWN, None)
    assert "could not be read: connection refused" in finding.summary


@given(st.floats(0.01, 4000), st.floats(0.01, 4000), st.floats(1, 4000))
def test_fewer_days_are_never_better(one: float, other: float, lifetime: float) -> None:
    less, more = sorted((one, other))
    assume(more <= lifetime)
    assert (
        judged_certificate(certificate(days=less, lifetime=lifetime)).status.rank
        >= judged_certificate(certificate(days=more, lifetime=lifetime)).status.rank
    )


@given(st.floats(0.1, 5000))
def test_the_rule_warns_before_it_is_critical(days: float) -> None:
    level = default_level(timedelta(days=days))
    assert level.warning is not None
    assert level.critical is not None
    assert 0 < level.critical < level.warning <= 30


# -- names


def test_the_right_answer_everywhere_is_ok() -> None:
    answer, resolvers = resolved(said("r1", "10.0.0.1"), said("r2", "10.0.0.1"))
    assert (answer.status, answer.summary) == (
        Status.OK,
        "shop: shop.test A is 10.0.0.1 at all 2 resolvers",
    )
    assert {f.status for f in resolvers.values()} == {Status.OK}


@pytest.mark.parametrize(
    ("readings", "status", "words"),
    [
        (
            (said("r1", "10.0.0.9"), said("r2", "10.0.0.9")),
            Status.CRITICAL,
            "is 10.0.0.9 at all 2 resolvers instead of 10.0.0.1",
        ),
        (
            (said("r1", "10.0.0.1", "10.0.0.2"), said("r2", "10.0.0.1", "10.0.0.2")),
            Status.CRITICAL,
            "is 10.0.0.1, 10.0.0.2 at all 2 resolvers instead of 10.0.0.1",
        ),
        (
            (said("r1", error=DnsError.NXDOMAIN), said("r2", error=DnsError.NXDOMAIN)),
            Status.CRITICAL,
            "does not resolve at all 2 resolvers: NXDOMAIN",
        ),
        (
            (said("r1", "10.0.0.1"), said("r2", "10.0.0.9")),
            Status.CRITICAL,
            "differs between resolvers: 10.0.0.1 at r1; 10.0.0.9 at r2",
        ),
        (
            (said("r1", "10.0.0.1"), said("r2", error=DnsError.REFUSED)),
            Status.CRITICAL,
            "differs between resolvers: 10.0.0.1 at r1; refused at r2",
        ),
        (
            (silent("r1"), silent("r2")),
            Status.CRITICAL,
            "no resolver answers: no answer from r1 within 2 x 2 s",
        ),
        ((said("r1", "10.0.0.1"), silent("r2")), Status.OK, "is 10.0.0.1 at its resolver"),
    ],
)
def test_what_is_wrong_with_a_name_is_one_finding(
    readings: tuple[DnsReading, ...], status: Status, words: str
) -> None:
    answer, _ = resolved(*readings)
    assert (answer.status, answer.summary) == (status, f"shop: shop.test A {words}")


def test_resolvers_that_disagree_about_an_open_answer_are_a_warning() -> None:
    name = DnsName(name="shop.test")
    assert resolved(said("r1", "a"), said("r2", "b"), name=name)[0].status is Status.WARNING


def test_expected_answers_are_compared_as_names_and_text_as_text() -> None:
    mail = DnsName(name="shop.test", type="MX", expect=("10 Mail.Test.",))
    text = DnsName(name="shop.test", type="TXT", expect=("Key.",))
    assert resolved(said("r1", "10 mail.test"), name=mail)[0].status is Status.OK
    assert resolved(said("r1", "Key."), name=text)[0].status is Status.OK
    assert resolved(said("r1", "key"), name=text)[0].status is Status.CRITICAL


def test_a_silent_resolver_is_a_warning_while_another_one_answers() -> None:
    _, resolvers = resolved(said("r1", "10.0.0.1"), silent("r2"))
    assert [resolvers[f"resolver {r}"].status for r in ("r1", "r2")] == [Status.OK, Status.WARNING]
    _, resolvers = resolved(silent("r1"), silent("r2"))
    assert {f.status for f in resolvers.values()} == {Status.CRITICAL}


def test_a_slow_resolver_is_held_against_its_limits() -> None:
    _, resolvers = resolved(said("r1", "10.0.0.1", ms=600), said("r2", "10.0.0.1", ms=2500))
    assert [resolvers[f"resolver {r}"].status for r in ("r1", "r2")] == [Status.WARNING, Status.CRITICAL]


def test_a_name_that_nobody_can_be_asked_for_is_unknown() -> None:
    assert resolved()[0].status is Status.UNKNOWN


# -- round trips


@pytest.mark.parametrize(("ms", "status"), [(49, Status.OK), (50, Status.WARNING), (200, Status.CRITICAL)])
def test_a_round_trip_is_held_against_its_limits(ms: float, status: Status) -> None:
    web, db = host_named("web-1"), host_named("db-1", address="10.0.0.13")
    (near,) = judge_latency(web, LatencyReading(CONTROL, "web-1", ms, "tcp connect"), DEFAULTS)
    (between,) = judge_between(web, db, LatencyReading("web-1", "db-1", ms, "ping"), DEFAULTS)
    assert (near.status, between.status) == (status, status)
    assert near.summary == f"a round trip from the control machine to web-1 takes {ms} ms (tcp connect)"
    assert (between.subject, between.host) == ("web-1 -> db-1", "web-1")


@pytest.mark.parametrize(
    ("failure", "status"), [(Failure.CONNECT, Status.CRITICAL), (Failure.VANTAGE, Status.UNKNOWN)]
)
def test_no_round_trip_is_critical_unless_it_could_not_be_measured(failure: Failure, status: Status) -> None:
    reading: Any = LatencyReading("web-1", "db-1", None, failure=failure, error="why")
    (finding,) = judge_between(host_named(), host_named("db-1"), reading, DEFAULTS)
    assert (finding.status, finding.summary) == (status, "no round trip from web-1 to db-1: why")
