"""The verdict over findings, and what to say where there is nothing to judge."""

from __future__ import annotations

from collections.abc import Iterable

from infra.findings import Finding, Scope, Status, SubjectKind, worst


def verdict(findings: Iterable[Finding]) -> Status:
    """The worst finding that counts; skipped when none does."""
    return worst(finding.status for finding in findings if finding.counts)


def nothing_configured(scope: Scope, environment: str) -> Finding:
    """The one finding of a scope that the inventory configures nothing for: neither ok nor failed."""
    sentence = f"nothing is configured for the {scope.value} scope in the environment {environment}"
    return Finding(
        check="configured",
        kind=SubjectKind.SCOPE,
        subject=scope.value,
        environment=environment,
        status=Status.SKIPPED,
        summary=sentence,
        scope=scope,
    )
