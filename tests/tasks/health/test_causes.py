"""One fault of the lab at a time: each is exactly one counted finding, whatever else it breaks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.facts import PendingReboot
from infra.findings import Finding, Status, SubjectKind, worst
from infra.readings import DnsError, DnsReading, EndpointSample, Failure, TlsReading
from tasks.health.causes import fold_causes
from tests.tasks.health.examples import FAILED, STOPPED, World, certificate, filesystem, rates, silent

NET = "198.18.77"
SHOP = "https://shop.production.lab/healthz"
TIMEOUT = EndpointSample(None, failure=Failure.TIMEOUT, error="no answer within 5 s")
SLOW = EndpointSample(1500.0, 200, body='{"status": "ok"}')
UNAVAILABLE = EndpointSample(3.0, 503)
EXPIRED = EndpointSample(None, failure=Failure.CERTIFICATE, error="certificate has expired")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_healthy_estate_has_nothing_to_say(world: World) -> None:
    assert world.counted() == []
    assert worst(f.status for f in world.findings() if f.counts) is Status.OK


def stopped_web(w: World) -> None:
    w.unit("prod-web-1", "shop.service", STOPPED)
    w.refuse(f"{NET}.11:8080")


def failed_web(w: World) -> None:
    w.unit("prod-web-1", "shop.service", FAILED)
    w.change("prod-web-1", failed_units=("shop.service",))
    w.refuse(f"{NET}.11:8080")


def both_web_and_so_the_balancer(w: World) -> None:
    stopped_web(w)
    w.break_endpoint(SHOP, UNAVAILABLE)


def stopped_balancer(w: World) -> None:
    w.unit("prod-lb-1", "haproxy.service", STOPPED)
    w.refuse(SHOP)
    w.certificates["shop.production.lab"] = TlsReading(
        f"{NET}.10", failure=Failure.CONNECT, error="connection refused"
    )


def failed_unit(w: World) -> None:
    w.change("prod-spare-1", failed_units=("backup.service",))


def full_disk(w: World) -> None:
    w.change("prod-spare-1", filesystems=(filesystem("/"), filesystem("/srv/data", used=0.999)))


def full_disk_that_kills_a_unit(w: World) -> None:
    w.change("prod-db-1", filesystems=(filesystem("/", used=1.0),))
    w.unit("prod-db-1", "postgresql@15-main.service", FAILED)
    w.refuse(f"{NET}.13:5432")
    for url in (SHOP, f"{NET}.11:8080", f"{NET}.12:8080"):
        w.break_endpoint(url, UNAVAILABLE)


def no_inodes(w: World) -> None:
    w.change("prod-spare-1", filesystems=(filesystem("/srv/data", inodes_used=1000),))


def no_space_and_no_inodes(w: World) -> None:
    w.change("prod-spare-1", filesystems=(filesystem("/srv/data", used=1.0, inodes_used=1000),))


def cut_off_web(w: World) -> None:
    w.down("prod-web-1")
    w.break_endpoint(f"{NET}.11:8080", TIMEOUT)
    w.break_endpoint(SHOP, UNAVAILABLE)  # until the balancer has noticed


def cut_off_balancer(w: World) -> None:
    w.down("prod-lb-1")
    w.break_endpoint(SHOP, TIMEOUT)
    w.certificates["shop.production.lab"] = TlsReading(
        f"{NET}.10", failure=Failure.TIMEOUT, error="no answer"
    )


def cut_off_database(w: World) -> None:
    w.down("prod-db-1")
    w.break_endpoint(f"{NET}.13", TIMEOUT)
    for url in (SHOP, f"{NET}.11:8080", f"{NET}.12:8080"):
        w.break_endpoint(url, UNAVAILABLE)


def cut_off_support(w: World) -> None:
    w.down("support-1")
    w.break_endpoint(f"{NET}.50", TIMEOUT)
    w.break_endpoint("s3.lab", TIMEOUT)
    w.certificates["s3.lab"] = TlsReading(f"{NET}.50", failure=Failure.TIMEOUT, error="no answer")
    for resolver in (f"{NET}.51", f"{NET}.52"):
        w.resolved["*", resolver] = silent(resolver)


def stopped_resolver(w: World) -> None:
    w.unit("support-1", "lab-resolver-2.service", STOPPED)
    w.resolved["*", f"{NET}.52"] = silent(f"{NET}.52")


def slow_pair(w: World) -> None:
    w.slow["prod-web-1", "prod-db-1"] = 400


def slow_host(w: World) -> None:
    w.slow_down("prod-web-1", 400)
    w.break_endpoint(f"{NET}.11:8080", SLOW)
    w.break_endpoint(SHOP, SLOW)


def slow_resolvers_host(w: World) -> None:
    w.slow_down("support-1", 1500)
    for resolver in (f"{NET}.51", f"{NET}.52"):
        answers = frozenset({f"{NET}.10"})
        w.resolved["shop.production.lab", resolver] = DnsReading(resolver, answers, 1500)
    w.break_endpoint("s3.lab", SLOW)


def expired(w: World) -> None:
    w.certificates["shop.production.lab"] = certificate(f"{NET}.10", days=-1)
    w.break_endpoint(SHOP, EXPIRED)


def soon_expiring(w: World) -> None:
    w.certificates["shop.production.lab"] = certificate(f"{NET}.10", days=20)


def wrong_name(w: World) -> None:
    for resolver in (f"{NET}.51", f"{NET}.52"):
        w.resolved["shop.production.lab", resolver] = DnsReading(resolver, frozenset({f"{NET}.99"}), 1.0)


def missing_name(w: World) -> None:
    for resolver in (f"{NET}.51", f"{NET}.52"):
        w.resolved["shop.production.lab", resolver] = DnsReading(resolver, error=DnsError.NXDOMAIN, time_ms=1)


def resolvers_disagree(w: World) -> None:
    w.resolved["shop.production.lab", f"{NET}.52"] = DnsReading(f"{NET}.52", frozenset({f"{NET}.99"}), 1.0)


def pending_reboot(w: World) -> None:
    w.change("prod-db-1", reboot=PendingReboot(True, ("linux-image-amd64",)))


def busy_disk(w: World) -> None:
    w.rates["prod-db-1"] = rates(disk=100)
    w.change("prod-db-1", load=(9.0, 9.0, 5.0))
    w.break_endpoint(f"{NET}.13:5432", EndpointSample(1500.0))


def load(w: World) -> None:
    w.change("prod-web-1", load=(20.0, 12.0, 5.0))
    w.rates["prod-web-1"] = rates(cpu=100)
    w.break_endpoint(f"{NET}.11:8080", SLOW)
    w.break_endpoint(SHOP, SLOW)


def seen_from_two_vantages(w: World) -> None:
    w.refuse(f"{NET}.13:6432")


def broken_behind_the_balancer(w: World) -> None:
    w.break_endpoint(f"{NET}.31:8080", EndpointSample(3.0, 500))
    w.break_endpoint("https://shop.staging.lab", EndpointSample(3.0, 503))


Fault = Callable[[World], None]
FAULTS: list[tuple[Fault, str, str, Status]] = [
    (stopped_web, "critical_unit", "prod-web-1:shop.service", Status.CRITICAL),
    (failed_web, "critical_unit", "prod-web-1:shop.service", Status.CRITICAL),
    (both_web_and_so_the_balancer, "critical_unit", "prod-web-1:shop.service", Status.CRITICAL),
    (stopped_balancer, "critical_unit", "prod-lb-1:haproxy.service", Status.CRITICAL),
    (failed_unit, "failed_units", "prod-spare-1", Status.WARNING),
    (full_disk, "disk_space", "prod-spare-1:/srv/data", Status.CRITICAL),
    (full_disk_that_kills_a_unit, "disk_space", "prod-db-1:/", Status.CRITICAL),
    (no_inodes, "disk_inodes", "prod-spare-1:/srv/data", Status.CRITICAL),
    (no_space_and_no_inodes, "disk_space", "prod-spare-1:/srv/data", Status.CRITICAL),
    (cut_off_web, "reachability", "prod-web-1", Status.CRITICAL),
    (cut_off_balancer, "reachability", "prod-lb-1", Status.CRITICAL),
    (cut_off_database, "reachability", "prod-db-1", Status.CRITICAL),
    (cut_off_support, "reachability", "support-1", Status.CRITICAL),
    (stopped_resolver, "critical_unit", "support-1:lab-resolver-2.service", Status.CRITICAL),
    (slow_pair, "network_latency_between", "prod-web-1 -> prod-db-1", Status.CRITICAL),
    (slow_host, "network_latency", "prod-web-1", Status.CRITICAL),
    (slow_resolvers_host, "network_latency", "support-1", Status.CRITICAL),
    (expired, "tls_certificate", "shop.production.lab:443", Status.CRITICAL),
    (soon_expiring, "tls_certificate", "shop.production.lab:443", Status.WARNING),
    (wrong_name, "dns_answer", "shop.production.lab A", Status.CRITICAL),
    (missing_name, "dns_answer", "shop.production.lab A", Status.CRITICAL),
    (resolvers_disagree, "dns_answer", "shop.production.lab A", Status.CRITICAL),
    (pending_reboot, "pending_reboot", "prod-db-1", Status.WARNING),
    (busy_disk, "disk_io", "prod-db-1", Status.CRITICAL),
    (load, "load", "prod-web-1", Status.CRITICAL),
    (seen_from_two_vantages, "endpoint", f"tcp://{NET}.13:6432", Status.CRITICAL),
    (broken_behind_the_balancer, "endpoint", f"http://{NET}.31:8080/healthz", Status.CRITICAL),
]


@pytest.mark.parametrize(
    ("fault", "check", "subject", "status"), FAULTS, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_fault_is_one_finding(world: World, fault: Fault, check: str, subject: str, status: Status) -> None:
    fault(world)
    assert world.counted() == [(check, subject, status)]


@pytest.mark.parametrize("fault", [fault for fault, *_ in FAULTS], ids=lambda v: v.__name__)
def test_the_one_finding_of_a_fault_says_what_to_do(world: World, fault: Fault) -> None:
    fault(world)
    (finding,) = [f for f in world.findings() if f.counts and f.status is not Status.OK]
    assert len(finding.summary) > 20
    assert finding.advice


@pytest.mark.parametrize("first", [fault for fault, *_ in FAULTS], ids=lambda v: v.__name__)
def test_two_faults_in_different_places_are_two_findings(world: World, first: Fault) -> None:
    first(world)
    world.change("stage-lb-1", failed_units=("logrotate.service",))
    counted = {(check, subject) for check, subject, _ in world.counted()}
    assert len(counted) == 2
    assert ("failed_units", "stage-lb-1") in counted


def test_the_effects_stay_and_name_the_root(world: World) -> None:
    cut_off_database(world)
    effects = {f.subject: f.caused_by for f in world.findings() if f.caused_by}
    assert set(effects.values()) == {"reachability:production:prod-db-1"}
    assert f"http://{NET}.11:8080/healthz" in effects
    assert f"{SHOP} at {NET}.10" in effects


def test_two_hosts_that_are_down_are_two_findings_and_effects_have_one_of_them(world: World) -> None:
    cut_off_web(world)
    cut_off_database(world)
    assert [subject for _, subject, _ in world.counted()] == ["prod-db-1", "prod-web-1"]


def test_staging_is_not_explained_by_production(world: World) -> None:
    cut_off_database(world)
    world.refuse(f"{NET}.33:5432")
    assert ("endpoint", f"tcp://{NET}.33:5432", Status.CRITICAL) in world.counted()


def test_a_full_disk_elsewhere_does_not_explain_a_unit(world: World) -> None:
    full_disk(world)
    stopped_web(world)
    assert len(world.counted()) == 2


def test_a_disk_that_is_merely_critical_does_not_explain_a_unit(world: World) -> None:
    world.change("prod-web-1", filesystems=(filesystem("/", used=0.95),))
    stopped_web(world)
    assert len(world.counted()) == 2


def test_a_vantage_that_is_down_explains_only_what_it_could_not_measure(world: World) -> None:
    cut_off_web(world)
    lost = [f for f in world.findings() if f.subject.endswith("from prod-web-1")]
    assert [(f.status, f.caused_by) for f in lost] == [(Status.UNKNOWN, "reachability:production:prod-web-1")]


def test_one_vantage_without_tools_is_unknown_and_is_not_hidden_by_the_other(world: World) -> None:
    no_tool = EndpointSample(None, failure=Failure.VANTAGE, error="curl must be installed")
    world.break_endpoint(f"{NET}.13:6432", no_tool, vantage="prod-web-1")
    assert world.counted() == [("endpoint", f"tcp://{NET}.13:6432 from prod-web-1", Status.UNKNOWN)]


def test_a_warning_is_as_bad_as_the_worst_that_it_causes(world: World) -> None:
    world.slow_down("prod-web-1", 100)  # a warning ...
    world.slow["prod-web-1", "prod-db-1"] = 400  # ... that one of its pairs feels as critical
    (finding,) = [f for f in world.findings() if f.counts and f.status is not Status.OK]
    assert (finding.check, finding.status) == ("network_latency", Status.CRITICAL)
    assert "critical because" in finding.summary


def test_a_host_behind_a_jump_host_that_is_down_is_explained(world: World) -> None:
    production = world.inventory.environments["production"]
    behind = production.hosts["prod-spare-1"].model_copy(update={"jump": "prod-lb-1"})
    hosts = {**production.hosts, "prod-spare-1": behind}
    environments = {
        **world.inventory.environments,
        "production": production.model_copy(update={"hosts": hosts}),
    }
    inventory = world.inventory.model_copy(update={"environments": environments})
    world.down("prod-lb-1")
    world.down("prod-spare-1")
    folded = fold_causes(world.findings(), inventory)
    spare = next(f for f in folded if f.key == "reachability:production:prod-spare-1")
    assert spare.caused_by == "reachability:production:prod-lb-1"


def test_of_findings_with_one_key_the_worst_is_kept(world: World) -> None:
    ok = Finding("dns_resolver", SubjectKind.NAME, f"resolver {NET}.51", "production", Status.OK, "fine")
    bad = replace(ok, status=Status.CRITICAL, summary="silent")
    assert fold_causes([ok, bad, ok], world.inventory) == (bad,)


def test_a_database_that_is_critical_explains_the_services_that_use_it(world: World) -> None:
    database = Finding(
        "replication", SubjectKind.DATABASE, "shop", "production", Status.CRITICAL, "the primary is read-only"
    )
    world.break_endpoint(SHOP, UNAVAILABLE)
    folded = fold_causes([*world.findings(), database], world.inventory)
    counted = [f.key for f in folded if f.counts and f.status is not Status.OK]
    assert counted == ["replication:production:shop"]


WORLD = World(Path("/nonexistent"))


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from([fault for fault, *_ in FAULTS]), max_size=5), st.randoms())
def test_folding_depends_on_no_order_and_never_changes_the_verdict(
    faults: set[Fault], shuffle: random.Random
) -> None:
    world = World(Path("/nonexistent"))
    for fault in sorted(faults, key=lambda f: f.__name__):
        if all(not isinstance(answer, Exception) for answer in world.answers.values()):
            fault(world)
    findings = list(world.findings())
    shuffled = findings.copy()
    shuffle.shuffle(shuffled)
    folded = fold_causes(shuffled, world.inventory)
    assert folded == fold_causes(findings, world.inventory)
    keys = {f.key: f for f in folded}
    assert len(keys) == len(folded)
    for finding in folded:
        if finding.caused_by is not None:
            assert keys[finding.caused_by].counts, "a cause is a root"
            assert keys[finding.caused_by].status.rank >= finding.status.rank
    assert worst(f.status for f in folded if f.counts) is worst(f.status for f in findings)


def random_findings() -> st.SearchStrategy[list[Finding]]:
    """Arbitrary statuses for everything that the lab has: also what no fault would bring about."""
    known = [replace(f, caused_by=None) for f in WORLD.findings() if f.status is not Status.SKIPPED]
    statuses = st.lists(st.sampled_from(list(Status)[1:]), min_size=len(known), max_size=len(known))
    return statuses.map(lambda s: [replace(f, status=x) for f, x in zip(known, s, strict=True)])


@settings(max_examples=60, deadline=None)
@given(random_findings(), st.randoms())
def test_whatever_is_broken_folding_ends_and_keeps_the_verdict(
    findings: list[Finding], shuffle: random.Random
) -> None:
    folded = fold_causes(findings, WORLD.inventory)
    shuffle.shuffle(findings)
    assert fold_causes(findings, WORLD.inventory) == folded
    assert worst(f.status for f in folded if f.counts) is worst(f.status for f in findings)
    roots = {f.key for f in folded if f.counts}
    assert all(f.caused_by in roots for f in folded if f.caused_by)
