"""Background processes that are ours to start and to stop, and no others.

The law: a process is recognised by the token that we put into its environment and, where it is the one that
we started, by its command line; a process id alone is never believed (it may have been reused). The token is
inherited, so that the flow runs of a worker are found too, also when the worker was killed.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deployments.home import write_private

TOKEN = "UPKEEP_PROCESS"  # noqa: S105 - a variable's name
LOG_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a started process.

    Attributes:
        token: value of `TOKEN` in its environment.
        argv: its command line.
        fingerprint: of the configuration that it was started with.
        pid: 0 between the intention and the start.
    """

    token: str
    argv: list[str]
    fingerprint: str
    pid: int = 0


class Background:
    """One background process of this installation: `server` or `worker`.

    Args:
        name: its name; its record is ``run/NAME.json`` and its log ``log/NAME.log`` under `home`.
    """

    def __init__(self, home: Path, name: str) -> None:
        self.name = name
        self.path = home / "run" / f"{name}.json"
        self.log = home / "log" / f"{name}.log"

    def record(self) -> Record | None:
        """What was started last; None when nothing was, or the file is damaged."""
        try:
            return Record(**json.loads(self.path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def leader(self) -> psutil.Process | None:
        """The process that we started, if it is alive."""
        record = self.record()
        if record is None:
            return None
        return next((p for p in members(record.token) if command_line(p) == record.argv), None)

    def start(self, argv: Sequence[str], environment: Mapping[str, str], fingerprint: str) -> psutil.Process:
        """Start it in a session of its own, with default signals, and remember it.

        The record is written before the start: a crash in between leaves nothing that cannot be found.
        """
        self.log.parent.mkdir(mode=0o700, exist_ok=True)
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        self.log.touch(mode=0o600)
        record = Record(f"{self.name}-{secrets.token_hex(8)}", list(argv), fingerprint)
        write_private(self.path, json.dumps(asdict(record)))
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                record.argv,
                env={**environment, TOKEN: record.token},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.path.parent,
                umask=0o077,
                start_new_session=True,
                preexec_fn=restore_signals,
            )
        write_private(self.path, json.dumps({**asdict(record), "pid": process.pid}))
        return psutil.Process(process.pid)

    def stop(self, patience_s: float = 20) -> list[int]:
        """End it and everything that it started: SIGTERM, and SIGKILL to what is left after `patience_s`.

        Returns:
            The ids of the processes that were ended.
        """
        record = self.record()
        if record is None:
            return []
        found = members(record.token)
        leader = self.leader()
        if leader is not None:
            deliver(leader.terminate)
            psutil.wait_procs([leader], timeout=patience_s)
        rest = members(record.token)
        for process in rest:
            deliver(process.terminate)
        _, alive = psutil.wait_procs(rest, timeout=min(patience_s, 5))
        for process in alive:
            deliver(process.kill)
        psutil.wait_procs(alive, timeout=5)
        self.path.unlink(missing_ok=True)
        return sorted({process.pid for process in (*found, *rest)})

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def restore_signals() -> None:
    """Undo what a shell does to background jobs: with SIGINT ignored, a worker hangs on SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def members(token: str) -> list[psutil.Process]:
    """Every live process that carries the token, in the order of their ids."""
    return [p for p in psutil.process_iter() if p.pid != os.getpid() and carries(p, token)]


def carries(process: psutil.Process, token: str) -> bool:
    """Whether a process is alive and was started under the token."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(TOKEN) == token
    except (psutil.Error, OSError):
        return False


def command_line(process: psutil.Process) -> list[str]:
    """Its arguments; empty when it is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def deliver(signal_: Callable[[], None]) -> None:
    """Send a signal to a process that may just have ended."""
    try:
        signal_()
    except psutil.NoSuchProcess:
        return
