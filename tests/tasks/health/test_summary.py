from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from infra.findings import Finding, Sample, Scope, Status, SubjectKind
from infra.report import RunReport
from tasks.health import summary

NOW = datetime(2026, 11, 24, tzinfo=UTC)
DISK = Finding(
    check="disk_space",
    kind=SubjectKind.HOST,
    subject="web-1:/var",
    environment="production",
    status=Status.CRITICAL,
    summary="/var is 93 % full",
    host="web-1",
    value=93.0,
    unit="%",
    threshold="critical at 90 %",
    advice="du -xh /var",
)
PAGE = replace(
    DISK,
    check="endpoint",
    subject="https://shop/",
    host=None,
    summary="https://shop/ answers 500",
    caused_by=DISK.key,
)
FINE = replace(DISK, check="uptime", subject="web-2", host="web-2", status=Status.OK, value=None)


def report(*findings: Finding) -> RunReport:
    return RunReport("run-1", 1, "health", Scope.ALL, None, NOW, NOW + timedelta(seconds=1.5), findings)


def test_the_run_ends_with_its_worst_sentence_and_how_many_more_there_are() -> None:
    full = replace(DISK, subject="web-2:/var", status=Status.WARNING)
    assert summary.verdict_sentence(report(FINE, DISK, PAGE)) == "critical: web-1:/var: /var is 93 % full"
    more = summary.verdict_sentence(report(full, DISK, FINE))
    assert more == "critical: web-1:/var: /var is 93 % full; and 1 more"


def test_a_run_without_problems_ends_with_its_counts() -> None:
    assert summary.verdict_sentence(report(FINE)) == "ok: 1 ok"


def test_a_run_that_checked_nothing_says_why() -> None:
    nothing = replace(FINE, status=Status.SKIPPED, summary="nothing is configured")
    assert summary.verdict_sentence(report(nothing)) == "skipped: nothing is configured"
    assert summary.verdict_sentence(report()) == "skipped: nothing was checked"


@pytest.mark.parametrize(
    ("status", "fails_at"),
    [
        (Status.SKIPPED, set()),
        (Status.OK, set()),
        (Status.WARNING, {"warning"}),
        (Status.UNKNOWN, {"warning", "unknown"}),
        (Status.CRITICAL, {"warning", "unknown", "critical"}),
    ],
)
def test_unknown_lies_between_warning_and_critical(status: Status, fails_at: set[str]) -> None:
    told = report(replace(DISK, status=status))
    levels = ("warning", "unknown", "critical", "never")
    assert {level for level in levels if summary.fails_at(told, level)} == fails_at


def test_the_table_puts_effects_under_their_cause_and_says_what_it_cut() -> None:
    rows = summary.table_rows([FINE, PAGE, DISK], at_most=2)
    assert [row["subject"] for row in rows] == ["web-1:/var", "  └ https://shop/", ""]
    assert rows[2]["finding"] == "1 more findings: `upkeep health --all` shows them"
    assert {tuple(row) for row in rows} == {("status", "subject", "check", "limit", "finding", "next")}


def test_the_summary_names_each_problem_once_with_its_next_step_and_what_it_explains() -> None:
    text = summary.markdown(report(FINE, PAGE, DISK))
    assert text.splitlines()[0] == "# Health: critical"
    assert "1 critical, 1 ok; 1 explained by others (scope all, environment all, 1.5 s)" in text
    assert "- **critical** web-1:/var: /var is 93 % full (critical at 90 %)\n  - next: du -xh /var" in text
    assert "explains: https://shop/ (endpoint)" in text
    assert text.count("- **") == 1


def test_the_summary_of_a_well_estate_has_no_list() -> None:
    assert summary.markdown(report(FINE)).count("\n- ") == 0


def test_a_metric_carries_the_name_of_its_unit_and_what_has_no_number_is_left_out() -> None:
    load = replace(DISK, check="load", subject="web-1", unit="", value=0.5)
    assert summary.samples_of([DISK, FINE, load]) == (
        Sample("production", "web-1:/var", "disk_space_percent", 93.0),
        Sample("production", "web-1", "load_count", 0.5),
    )
