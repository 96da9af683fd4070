"""The only door to a host: pooled, bounded, with strict host keys; local hosts pass through the same door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar

from infra.errors import UpkeepError
from infra.inventory import Host

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command left: text decoded as UTF-8 with replacement, exit code, seconds on the wall."""

    command: str
    stdout: str
    stderr: str
    exit_code: int
    elapsed_s: float


class Session(Protocol):
    """A way to act on one host; the same for SSH and for this machine."""

    @property
    def host(self) -> Host: ...

    def run(
        self,
        command: str,
        *,
        stdin: str = "",
        sudo: bool = False,
        check: bool = True,
        timeout: timedelta | None = None,
    ) -> CommandResult:
        """Run one shell command (the login shell's -c; no profile, no pty).

        Raises:
            CommandFailed: a non-zero exit code and `check`.
            Unreachable: the connection could not be made, or died twice, or the command ran out of time.
            HostKeyRefused, AuthenticationRefused: see infra.errors.
        """
        ...


def session(host: Host) -> Session:
    """The pooled session of a host; connects on first use, thread-safe."""
    raise NotImplementedError


def fan_out(hosts: Sequence[Host], act: Callable[[Host], T]) -> tuple[T | UpkeepError, ...]:
    """Run `act` for every host at once, bounded by UPKEEP_FANOUT; an UpkeepError becomes that host's value."""
    raise NotImplementedError


def close_all() -> None:
    """Close every pooled connection (end of process, tests)."""
    raise NotImplementedError
