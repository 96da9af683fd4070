"""How a run's report looks on a terminal, and as JSON for scripts."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.findings import Finding, Status
from infra.report import Line, RunReport, arrange
from tasks.health import summary

STYLES = {
    Status.CRITICAL: "bold red",
    Status.UNKNOWN: "magenta",
    Status.WARNING: "yellow",
    Status.OK: "green",
    Status.SKIPPED: "dim",
}
FITS = 40  # lines: a report that is no longer is shown whole unless problems alone are asked for
PIPED_WIDTH = 160


def page_of(run_id: str) -> str | None:
    """The run's page in Prefect's UI; None when no server is configured."""
    ui = os.environ.get("PREFECT_UI_URL") or os.environ.get("PREFECT_API_URL", "").removesuffix("/api")
    return f"{ui.rstrip('/')}/runs/flow-run/{run_id}" if ui else None


def console_for_output() -> Console:
    """Standard output; wide enough for whole sentences when it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH)


def view(report: RunReport, *, everything: bool | None = None) -> RenderableType:
    """The table, worst first, effects under their causes; below it the verdict and where to read on.

    Args:
        everything: False for problems only; None for everything as long as it fits a screen.
    """
    lines = arrange(report.findings)
    wanted = everything if everything is not None else len(lines) <= FITS
    shown = lines if wanted else tuple(line for line in lines if is_problem(line.finding))
    parts: list[RenderableType] = [_table(shown)] if shown else []
    if len(shown) < len(lines):
        parts.append(Text(f"{len(lines) - len(shown)} that are ok or skipped: --all shows them", style="dim"))
    return Group(*parts, _verdict(report))


def is_problem(finding: Finding) -> bool:
    """Neither ok nor skipped, whether it counts or is explained by another."""
    return finding.status.rank > Status.OK.rank


def _table(lines: tuple[Line, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("status", no_wrap=True)
    table.add_column("subject", overflow="fold", ratio=2)
    table.add_column("check", no_wrap=True)
    table.add_column("finding", overflow="fold", ratio=5)
    for line in lines:
        finding = line.finding
        indent = "  " * (line.depth - 1) + "└ " if line.depth else ""
        style = "dim" if line.depth else STYLES[finding.status]
        status = Text(finding.status.value, style=style)
        table.add_row(status, Text(indent + summary.place(finding)), Text(finding.check), _sentence(line))
    return table


def _sentence(line: Line) -> Text:
    finding = line.finding
    text = Text(finding.summary)
    if finding.counts and is_problem(finding):
        if finding.threshold:
            text.append(f" ({finding.threshold})", style="dim")
        if finding.advice:
            text.append(f"\n→ {finding.advice}", style="cyan")
    return text


def _verdict(report: RunReport) -> Text:
    where = f"environment {report.environment}" if report.environment else "all environments"
    text = Text("\n")
    text.append(f"{report.status}", style=STYLES[report.status])
    text.append(f"  {summary.count_words(report)}  (scope {report.scope}, {where}, ")
    text.append(
        f"{report.started_at.astimezone():%Y-%m-%d %H:%M:%S %Z}, {report.duration.total_seconds():.1f} s)"
    )
    text.append(f"\nrun {report.run_id}")
    if page := page_of(report.run_id):
        text.append(f"  {page}")
    return text


def as_json(report: RunReport) -> dict[str, Any]:
    """The report for scripts; keys are added in later versions, never renamed or removed.

    ``version`` 1; ``run_id``, ``attempt``, ``procedure``, ``scope``, ``environment`` (null: all); ``status``
    (the verdict: ok, warning, unknown, critical, or skipped) and the ``exit_code`` that goes with it;
    ``started_at``, ``finished_at`` (ISO 8601, UTC), ``duration_s``; ``counts`` (status -> number; explained
    findings are not in it) and ``folded`` (their number); ``page`` (address in Prefect's UI, or null);
    ``findings``, worst first and effects after their cause, each with the fields of `infra.findings.Finding`
    (``value`` is in ``unit``), its ``key`` and its ``depth`` (0, or more under the one in ``caused_by``).
    """
    return {
        "version": 1,
        "run_id": report.run_id,
        "attempt": report.attempt,
        "procedure": report.procedure,
        "scope": report.scope.value,
        "environment": report.environment,
        "status": report.status.value,
        "exit_code": report.status.exit_code,
        "started_at": report.started_at.isoformat(),
        "finished_at": report.finished_at.isoformat(),
        "duration_s": round(report.duration.total_seconds(), 3),
        "counts": {status.value: number for status, number in report.counts.items()},
        "folded": report.folded,
        "page": page_of(report.run_id),
        "findings": [_finding_as_json(line) for line in arrange(report.findings)],
    }


def _finding_as_json(line: Line) -> dict[str, Any]:
    finding = line.finding
    return {
        "key": finding.key,
        "depth": line.depth,
        "status": finding.status.value,
        "check": finding.check,
        "kind": finding.kind.value,
        "subject": finding.subject,
        "environment": finding.environment,
        "host": finding.host,
        "scope": finding.scope.value,
        "summary": finding.summary,
        "value": finding.value,
        "unit": finding.unit,
        "threshold": finding.threshold,
        "advice": finding.advice,
        "caused_by": finding.caused_by,
    }
