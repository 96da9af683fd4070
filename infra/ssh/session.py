"""What a door looks like: the protocol that SSH and this machine both keep, and the words they share."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from infra.errors import CommandFailed, PermanentError
from infra.inventory import Host


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command left.

    Attributes:
        command: as it was asked for, without sudo.
        stdout, stderr: decoded as UTF-8, with replacement.
        exit_code: -1 when a signal ended it.
        elapsed_s: from sending the command to its end; connecting is not part of it.
    """

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

        Args:
            command: one line of shell.
            stdin: what the command reads; end of file follows.
            sudo: run it as root; never asks for a password, and is not used where we are root already.
            check: raise on a non-zero exit code.
            timeout: default UPKEEP_COMMAND_TIMEOUT_S.

        Raises:
            CommandFailed: a non-zero exit code and `check`.
            PermanentError: sudo is missing, or wants a password; with or without `check`.
            Unreachable: the connection could not be made, or died, or the command ran out of time. The
                reason says so when the command may have run: it is never sent twice.
            HostKeyRefused, AuthenticationRefused: see infra.errors.
        """
        ...


def as_root(command: str) -> str:
    """The line that runs `command` as root and fails at once where a password would be needed."""
    return f"sudo -n -- sh -c {shlex.quote(command)}"


def judge_result(result: CommandResult, host: Host, *, sudo: bool, check: bool) -> CommandResult:
    """Pass a result on, or raise what it means.

    Raises:
        PermanentError: sudo itself refused.
        CommandFailed: a non-zero exit code and `check`.
    """
    if result.exit_code == 0:
        return result
    lines = result.stderr.strip().splitlines()
    complaint = lines[-1] if lines else ""
    if sudo and result.exit_code == 1 and complaint.startswith("sudo: "):
        raise PermanentError(
            f"`{result.command}` needs root, and sudo refused ({complaint.removeprefix('sudo: ')}): "
            f"allow the login user NOPASSWD in sudoers(5)",
            host=host.name,
        )
    if sudo and result.exit_code == 127 and "sudo" in complaint:
        raise PermanentError(f"`{result.command}` needs root, and sudo is not installed", host=host.name)
    if check:
        raise CommandFailed(result.command, result.exit_code, result.stderr, host=host.name)
    return result
