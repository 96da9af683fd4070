"""What a finding is about, so that a check names only what it found."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from infra.findings import Finding, Status, SubjectKind
from infra.inventory import Host


@dataclass(frozen=True, slots=True)
class About:
    """The subject that findings share; `host` is the host that it belongs to, if it is one host's."""

    kind: SubjectKind
    subject: str
    environment: str
    host: str | None = None

    def found(
        self,
        check: str,
        status: Status,
        summary: str,
        *,
        part: str = "",
        value: float | None = None,
        unit: str = "",
        threshold: str = "",
        advice: str = "",
    ) -> Finding:
        """A finding about this subject, or a part of it (``web-1:/var``); advice is for what is not ok."""
        return Finding(
            check=check,
            kind=self.kind,
            subject=f"{self.subject}:{part}" if part else self.subject,
            environment=self.environment,
            host=self.host,
            status=status,
            summary=summary,
            value=None if value is None else round(value, 3),
            unit=unit,
            threshold=threshold,
            advice=advice if status.rank > Status.OK.rank else "",
        )


def about_host(host: Host, kind: SubjectKind = SubjectKind.HOST) -> About:
    """Findings about one host, or about the units on it."""
    return About(kind, host.name, host.environment, host.name)


def on_host(host: Host, command: str) -> str:
    """How a person runs a command there: as typed in a shell of the control machine."""
    if host.connection == "local":
        return command
    key = f"-i {shlex.quote(host.identity_file)} " if host.identity_file else ""
    port = f"-p {host.port} " if host.port != 22 else ""
    login = f"{host.user}@{host.address}" if host.user else host.address
    return f"ssh {key}{port}{login} {shlex.quote(command)}"
