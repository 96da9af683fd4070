from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from infra.findings import Finding, Scope, Status, SubjectKind
from infra.report import RunReport, arrange

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def finding(name: str, status: Status, caused_by: str | None = None) -> Finding:
    cause = f"check:production:{caused_by}" if caused_by else None
    return Finding(
        "check", SubjectKind.HOST, name, "production", status, f"{name} is {status}", caused_by=cause
    )


def report(*findings: Finding) -> RunReport:
    return RunReport("run-1", 1, "health", Scope.ALL, None, NOW, NOW + timedelta(seconds=1), findings)


def test_the_worst_stands_first_and_effects_stand_under_their_cause() -> None:
    lines = arrange(
        [
            finding("fine", Status.OK),
            finding("endpoint", Status.CRITICAL, caused_by="host"),
            finding("full", Status.WARNING),
            finding("host", Status.CRITICAL),
            finding("page", Status.CRITICAL, caused_by="endpoint"),
            finding("odd", Status.UNKNOWN),
        ]
    )
    assert [(line.finding.subject, line.depth) for line in lines] == [
        ("host", 0),
        ("endpoint", 1),
        ("page", 2),
        ("odd", 0),
        ("full", 0),
        ("fine", 0),
    ]


def test_an_effect_whose_cause_is_not_there_stands_by_itself() -> None:
    assert [line.depth for line in arrange([finding("a", Status.OK, caused_by="gone")])] == [0]


def test_causes_in_a_circle_still_show_every_finding_once() -> None:
    circle = [
        finding("a", Status.CRITICAL, "b"),
        finding("b", Status.CRITICAL, "a"),
        finding("c", Status.OK, "c"),
    ]
    assert sorted(line.finding.subject for line in arrange(circle)) == ["a", "b", "c"]


names = st.sampled_from("abcdefgh")


@given(st.lists(st.builds(finding, names, st.sampled_from(Status), st.none() | names), max_size=12))
def test_every_finding_is_shown_exactly_once_whatever_explains_what(findings: list[Finding]) -> None:
    shown = [line.finding for line in arrange(findings)]
    assert sorted(map(repr, shown)) == sorted(map(repr, findings))


def test_what_another_finding_explains_is_neither_in_the_verdict_nor_in_the_counts() -> None:
    told = report(
        finding("a", Status.WARNING), finding("b", Status.CRITICAL, "a"), finding("c", Status.SKIPPED)
    )
    assert told.status is Status.WARNING
    assert dict(told.counts) == {Status.WARNING: 1, Status.SKIPPED: 1}
    assert told.folded == 1


def test_nothing_checked_is_skipped_and_not_ok() -> None:
    assert report().status is Status.SKIPPED
    assert report(replace(finding("a", Status.SKIPPED), kind=SubjectKind.SCOPE)).status is Status.SKIPPED
