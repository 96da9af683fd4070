"""What one run of a procedure found, as the store, the artifacts and the command line show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.findings import Finding, Scope, Status, worst


@dataclass(frozen=True, slots=True)
class RunReport:
    """One attempt of one run.

    Attributes:
        run_id: Prefect's flow run id.
        attempt: 1, and one more for every retry of the same run.
        environment: None when the run concerned all of them.
        started_at, finished_at: aware UTC.
        findings: in no particular order; those that are explained by another one name its key.
    """

    run_id: str
    attempt: int
    procedure: str
    scope: Scope
    environment: str | None
    started_at: datetime
    finished_at: datetime
    findings: tuple[Finding, ...]

    @property
    def duration(self) -> timedelta:
        """From the start until it was recorded."""
        return self.finished_at - self.started_at

    @property
    def status(self) -> Status:
        """The verdict: the worst finding that counts; skipped when none does."""
        return worst(f.status for f in self.findings if f.counts)

    @property
    def counts(self) -> Mapping[Status, int]:
        """How many findings have each status, worst first; those explained by another one are not in it."""
        tally = Counter(f.status for f in self.findings if f.caused_by is None)
        return {status: tally[status] for status in sorted(Status, key=lambda s: -s.rank) if tally[status]}

    @property
    def folded(self) -> int:
        """How many findings are explained by another one."""
        return sum(f.caused_by is not None for f in self.findings)


@dataclass(frozen=True, slots=True)
class Line:
    """One finding in its place: `depth` is 0, or 1 and more under the finding that explains it."""

    finding: Finding
    depth: int


def arrange(findings: Sequence[Finding]) -> tuple[Line, ...]:
    """Put the worst first, and each finding that is explained by another one under that one.

    Every finding appears exactly once, also when its cause is not among them or causes form a circle.
    """
    keys = {f.key for f in findings}
    effects: dict[str | None, list[Finding]] = {}
    for finding in sorted(
        findings, key=lambda f: (-f.status.rank, f.environment, f.host or "", f.subject, f.check)
    ):
        known = finding.caused_by if finding.caused_by in keys else None
        effects.setdefault(known, []).append(finding)
    lines: list[Line] = []
    waiting = [Line(f, 0) for f in reversed(effects.pop(None, []))]
    while waiting or effects:
        if not waiting:  # a circle: show it from its first finding on
            waiting = [Line(f, 0) for f in reversed(effects.pop(next(iter(effects))))]
        line = waiting.pop()
        lines.append(line)
        under = effects.pop(line.finding.key, [])
        waiting.extend(Line(f, line.depth + 1) for f in reversed(under))
    return tuple(lines)
