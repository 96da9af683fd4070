"""What a check found: the words that the procedures, the store and the command line share.

The order of `Status` is the law of A14: ok < warning < unknown < critical, everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How bad it is. `SKIPPED`: nothing is configured, or it does not apply; neither good nor bad."""

    SKIPPED = "skipped"
    OK = "ok"
    WARNING = "warning"
    UNKNOWN = "unknown"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for skipped up to 4 for critical."""
        return _RANKS[self]

    @property
    def exit_code(self) -> int:
        """0 ok or skipped, 1 warning, 2 critical, 3 unknown (the monitoring plugins' convention)."""
        return {Status.WARNING: 1, Status.CRITICAL: 2, Status.UNKNOWN: 3}.get(self, 0)


_RANKS = {status: rank for rank, status in enumerate(Status)}  # asked some hundred thousand times a run


def worst(statuses: Iterable[Status]) -> Status:
    """The highest-ranking status; `SKIPPED` when there is none."""
    return max(statuses, key=lambda s: s.rank, default=Status.SKIPPED)


class Scope(StrEnum):
    """What `health` looks at."""

    ALL = "all"
    INFRASTRUCTURE = "infrastructure"
    APPLICATION = "application"
    DATABASE = "database"


class SubjectKind(StrEnum):
    """The kinds of things a finding can be about, causes before effects."""

    HOST = "host"
    UNIT = "unit"
    DATABASE = "database"
    SERVICE = "service"
    ENDPOINT = "endpoint"
    NAME = "name"  # a DNS or TLS name
    SCOPE = "scope"  # a whole scope: "nothing configured"


@dataclass(frozen=True, slots=True)
class Finding:
    """One judged fact.

    Attributes:
        check: what was looked at, snake_case, e.g. ``disk_space``.
        kind: kind of the subject.
        subject: its name, e.g. ``web-1``, ``web-1:/var``, ``https://shop.example/healthz``.
        environment: the environment that it belongs to.
        host: the host it was measured on or belongs to, if there is one.
        status: the judgement.
        summary: one sentence with the measured value, e.g. "/var is 93 % full (1.2 GB left)".
        value: the measured value, in `unit`; None when it has no number.
        unit: ``%``, ``ms``, ``days``, ``bytes`` ...; empty without a number.
        threshold: the limit that it was held against, in words, e.g. "warning at 80 %, critical at 90 %".
        advice: what to do next; empty when ok.
        caused_by: `key` of the finding that explains this one; then it is shown folded and not counted.
    """

    check: str
    kind: SubjectKind
    subject: str
    environment: str
    status: Status
    summary: str
    host: str | None = None
    value: float | None = None
    unit: str = ""
    threshold: str = ""
    advice: str = ""
    caused_by: str | None = None
    scope: Scope = Scope.INFRASTRUCTURE

    @property
    def key(self) -> str:
        """Identity within one run: ``check:environment:subject``."""
        return f"{self.check}:{self.environment}:{self.subject}"

    @property
    def counts(self) -> bool:
        """Whether it counts towards the verdict: neither explained by another finding nor skipped."""
        return self.caused_by is None and self.status is not Status.SKIPPED


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured number to remember.

    Attributes:
        subject: as in `Finding`.
        metric: snake_case name with its unit, e.g. ``disk_used_percent``.
        value: the number.
    """

    environment: str
    subject: str
    metric: str
    value: float
