from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import func, select

from infra.facts import Counters, DiskCounters, InterfaceCounters
from infra.findings import Finding, Sample, Scope, Status, SubjectKind
from infra.report import RunReport
from infra.store import runs
from infra.store.counters import read_previous_counters, remember_counters
from infra.store.runs import read_latest_report, read_report, read_samples, record_run
from infra.store.session import reading
from infra.store.tables import FindingRow, SampleRow
from tests.facts import facts_of

NOW = datetime(2026, 3, 29, 0, 59, 59, 123456, tzinfo=UTC)  # a second before a change of the clocks in Europe
DISK = Finding(
    check="disk_space",
    kind=SubjectKind.HOST,
    subject="web-1:/",
    environment="production",
    status=Status.WARNING,
    summary="/ is 83 % full",
    host="web-1",
    value=83.0,
    unit="%",
    threshold="warning at 80 %, critical at 90 %",
    advice="du -xh /",
)
DOWN = Finding(
    "endpoint",
    SubjectKind.ENDPOINT,
    "https://ä/",
    "production",
    Status.CRITICAL,
    "no answer",
    caused_by=DISK.key,
)
REPORT = RunReport("run-1", 1, "health", Scope.ALL, None, NOW, NOW + timedelta(seconds=2), (DISK, DOWN))
SAMPLES = (Sample("production", "web-1:/", "disk_space_percent", 83.0),)


def rows(url: str, table: type[FindingRow] | type[SampleRow]) -> int:
    with reading(url) as session:
        return session.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_report_comes_back_as_it_was_recorded(url: str) -> None:
    record_run(REPORT, SAMPLES, url=url)
    assert read_report("run-1", url=url) == REPORT


def test_an_instant_comes_back_in_utc_whatever_zone_it_was_given_in(url: str) -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    record_run(replace(REPORT, started_at=NOW.astimezone(kathmandu)), (), url=url)
    report = read_report("run-1", url=url)
    assert report is not None
    assert (report.started_at, report.started_at.tzinfo) == (NOW, UTC)


def test_an_instant_without_a_zone_is_refused(url: str) -> None:
    with pytest.raises(Exception, match="no time zone"):
        record_run(replace(REPORT, started_at=datetime(2026, 1, 1)), (), url=url)  # noqa: DTZ001


def test_a_run_that_recorded_nothing_has_no_report(url: str) -> None:
    assert read_report("run-1", url=url) is None
    assert read_latest_report("health", url=url) is None


def test_recording_the_same_attempt_twice_leaves_one(url: str) -> None:
    for _ in range(2):
        record_run(REPORT, SAMPLES, url=url)
    assert (rows(url, FindingRow), rows(url, SampleRow)) == (2, 1)


def test_a_retry_is_an_attempt_of_its_own_and_its_report_is_the_runs(url: str) -> None:
    record_run(REPORT, SAMPLES, url=url)
    mended = replace(REPORT, attempt=2, findings=(), started_at=NOW + timedelta(hours=1))
    record_run(mended, (), url=url)
    assert read_report("run-1", url=url) == mended
    assert rows(url, FindingRow) == 2


def test_the_latest_report_is_chosen_by_scope_and_environment(url: str) -> None:
    other = replace(REPORT, run_id="run-2", environment="staging", started_at=NOW - timedelta(days=1))
    record_run(REPORT, (), url=url)
    record_run(other, (), url=url)
    assert read_latest_report("health", url=url) == REPORT
    assert read_latest_report("health", environment="staging", url=url) == other
    assert read_latest_report("health", scope=Scope.DATABASE, url=url) is None


def test_a_series_of_samples_is_read_back_in_order(url: str) -> None:
    for n in (2, 0, 1):
        at = NOW + timedelta(hours=n)
        record_run(
            replace(REPORT, run_id=f"run-{n}", started_at=at), [replace(SAMPLES[0], value=80.0 + n)], url=url
        )
    series = read_samples("production", "web-1:/", "disk_space_percent", NOW + timedelta(hours=1), url=url)
    assert series == ((NOW + timedelta(hours=1), 81.0), (NOW + timedelta(hours=2), 82.0))


def test_what_is_past_its_retention_goes_and_problems_stay_longer_than_good_news(url: str) -> None:
    fine = replace(DISK, status=Status.OK)
    for age in (timedelta(days=500), timedelta(days=100)):
        old = replace(
            REPORT, run_id=f"{age}", started_at=NOW - age, finished_at=NOW - age, findings=(DISK, fine)
        )
        record_run(old, SAMPLES, url=url)
    record_run(replace(REPORT, findings=(fine,)), SAMPLES, url=url)
    hundred_days = read_report(str(timedelta(days=100)), url=url)
    assert hundred_days is not None
    assert hundred_days.findings == (DISK,)
    assert (rows(url, FindingRow), rows(url, SampleRow)) == (2, 2)


def test_expiry_is_bounded_so_that_one_run_never_pays_for_years(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = NOW - timedelta(days=500)
    record_run(replace(REPORT, started_at=past, finished_at=past), SAMPLES * 5, url=url)
    monkeypatch.setattr(runs, "EXPIRE_AT_ONCE", 2)
    record_run(replace(REPORT, run_id="run-2", findings=()), (), url=url)
    assert rows(url, SampleRow) == 3


def test_writers_at_once_wait_for_each_other(url: str) -> None:
    errors: list[BaseException] = []

    def write(n: int) -> None:
        try:
            record_run(replace(REPORT, run_id=f"run-{n}"), SAMPLES * 200, url=url)
            remember_counters([facts_of(name) for name in ("web-1", "web-2")], url=url)
        except BaseException as error:  # noqa: BLE001 (a thread's error would be lost)
            errors.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert rows(url, SampleRow) == 1600


def test_counters_come_back_for_the_next_run_until_the_host_is_booted(url: str) -> None:
    counters = Counters(
        at_s=10.5, cpu_busy_s=1.0, cpu_iowait_s=0.5, cpu_total_s=21.0,
        disks=(DiskCounters("vda", 1, 2, 3),),
        interfaces=(InterfaceCounters("eth0", True, 1, 2, 3, 4, 5, 6, 7, 2**63),),
    )  # fmt: skip
    remember_counters([facts_of("web-1", counters=counters, boot_id="one"), facts_of("web-2")], url=url)
    assert read_previous_counters({"web-1": "one", "web-3": "x"}, url=url) == {"web-1": counters}
    assert read_previous_counters({"web-1": "two"}, url=url) == {}


def test_the_newest_counters_replace_the_older_ones(url: str) -> None:
    for at_s in (1.0, 2.0):
        facts = facts_of("web-1")
        remember_counters([replace(facts, counters=replace(facts.counters, at_s=at_s))], url=url)
    assert read_previous_counters({"web-1": facts_of("web-1").boot_id}, url=url)["web-1"].at_s == 2.0
