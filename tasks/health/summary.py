"""What a run's findings look like to a reader: one sentence, rows, markdown, and the numbers to remember."""

from __future__ import annotations

from collections.abc import Sequence

from infra.findings import Finding, Sample, Status
from infra.report import RunReport, arrange

ROWS_AT_MOST = 500  # what Prefect's table still shows without effort; problems come first
UNIT_WORDS = {"%": "percent", "": "count", "°C": "celsius"}


def place(finding: Finding) -> str:
    """The subject, with its host where the subject does not name it."""
    if finding.host and finding.host not in finding.subject:
        return f"{finding.subject} ({finding.host})"
    return finding.subject


def sentence(finding: Finding) -> str:
    """The summary, with its subject where the summary does not name it."""
    return finding.summary if finding.subject in finding.summary else f"{finding.subject}: {finding.summary}"


def count_words(report: RunReport) -> str:
    """``1 critical, 2 warning, 30 ok; 4 explained by others``; ``nothing was checked`` without findings."""
    counts = ", ".join(f"{n} {status}" for status, n in report.counts.items())
    folded = f"; {report.folded} explained by others" if report.folded else ""
    return (counts or "nothing was checked") + folded


def verdict_sentence(report: RunReport) -> str:
    """The sentence that the run ends with: the worst finding that counts, and how many more there are."""
    if report.status in {Status.SKIPPED, Status.OK}:
        skipped = [f.summary for f in report.findings if f.status is Status.SKIPPED]
        if report.status is Status.SKIPPED and len(skipped) == 1:
            return f"skipped: {skipped[0]}"
        return f"{report.status}: {count_words(report)}"
    problems = problems_of(report)
    more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"{report.status}: {sentence(problems[0])}{more}"


def problems_of(report: RunReport) -> tuple[Finding, ...]:
    """The findings that count and are not ok, worst first."""
    lines = (line.finding for line in arrange(report.findings))
    return tuple(f for f in lines if f.counts and f.status is not Status.OK)


def fails_at(report: RunReport, fail_on: str) -> bool:
    """Whether the verdict is at or above `fail_on`, a status or ``never``."""
    return fail_on != "never" and report.status.rank >= Status(fail_on).rank


def table_rows(findings: Sequence[Finding], at_most: int = ROWS_AT_MOST) -> list[dict[str, str]]:
    """Rows of the table artifact, worst first, effects under their cause; the last says what was cut."""
    lines = arrange(findings)
    rows = [
        {
            "status": line.finding.status.value,
            "subject": "  " * line.depth + ("└ " if line.depth else "") + place(line.finding),
            "check": line.finding.check,
            "limit": line.finding.threshold,  # the table does not fold: what is short comes first
            "finding": line.finding.summary,
            "next": line.finding.advice,
        }
        for line in lines[:at_most]
    ]
    if len(lines) > at_most:
        cut = f"{len(lines) - at_most} more findings: `upkeep health --all` shows them"
        rows.append(dict.fromkeys(rows[0], "") | {"finding": cut})
    return rows


def markdown(report: RunReport) -> str:
    """The summary artifact: the verdict, the counts, and each problem with what to do next."""
    what = f"scope {report.scope}, environment {report.environment or 'all'}"
    head = [
        f"# Health: {report.status}",
        f"{count_words(report)} ({what}, {report.duration.total_seconds():.1f} s)",
    ]
    return "\n\n".join([*head, "\n".join(_bullet(f, report) for f in problems_of(report))]).rstrip() + "\n"


def _bullet(finding: Finding, report: RunReport) -> str:
    effects = [f for f in report.findings if f.caused_by == finding.key]
    parts = [f"- **{finding.status}** {sentence(finding)}"]
    if finding.threshold:
        parts.append(f" ({finding.threshold})")
    if finding.advice:
        parts.append(f"\n  - next: {finding.advice}")
    if effects:
        parts.append("\n  - explains: " + ", ".join(sorted(f"{place(f)} ({f.check})" for f in effects)))
    return "".join(parts)


def samples_of(findings: Sequence[Finding]) -> tuple[Sample, ...]:
    """The measured numbers to remember, one per finding that has one; the metric carries the unit's name."""
    return tuple(
        Sample(f.environment, f.subject, f"{f.check}_{UNIT_WORDS.get(f.unit, f.unit)}", f.value)
        for f in findings
        if f.value is not None
    )
