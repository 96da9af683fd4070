"""This machine behind the same door as every other host: a subprocess instead of a connection."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from datetime import timedelta

from infra.errors import Unreachable
from infra.inventory import Host
from infra.settings import settings
from infra.ssh.session import CommandResult, as_root, judge_result


@dataclass(frozen=True, slots=True)
class LocalSession:
    """Commands run under /bin/sh in a process group of their own, so that a timeout ends all of them."""

    host: Host

    def run(
        self,
        command: str,
        *,
        stdin: str = "",
        sudo: bool = False,
        check: bool = True,
        timeout: timedelta | None = None,
    ) -> CommandResult:
        """See `Session.run`."""
        sudo = sudo and os.geteuid() != 0
        limit_s = timeout.total_seconds() if timeout else settings().command_timeout_s
        start = time.perf_counter()
        with subprocess.Popen(
            ["/bin/sh", "-c", as_root(command) if sudo else command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(stdin.encode(), timeout=limit_s)
            except subprocess.TimeoutExpired as error:
                os.killpg(process.pid, signal.SIGKILL)
                raise Unreachable(
                    f"`{command}` did not end within {limit_s:g} s and was killed", host=self.host.name
                ) from error
        result = CommandResult(
            command,
            out.decode(errors="replace"),
            err.decode(errors="replace"),
            max(process.returncode, -1),
            time.perf_counter() - start,
        )
        return judge_result(result, self.host, sudo=sudo, check=check)
