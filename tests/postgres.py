"""A real PostgreSQL for a test: its own cluster in a directory, on a port of loopback, gone afterwards."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def binaries() -> Path:
    """Where initdb and postgres are; skips the test, loudly, where they are not."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(shutil.which("initdb") or "/none")
    ]
    if not found[-1].exists():
        pytest.skip("NO POSTGRESQL ON THIS MACHINE: apt-get install postgresql")
    return found[-1].parent


def unprivileged() -> list[str]:
    """PostgreSQL refuses to run as root: the prefix that makes it run as postgres."""
    if os.geteuid() != 0:
        return []
    account = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]


@contextmanager
def running_postgres(superuser: str = "upkeep") -> Iterator[str]:
    """Start a cluster.

    Yields:
        The URL of its database ``postgres``, for a superuser with a password.
    """
    tools, password = binaries(), secrets.token_hex(8)
    directory = Path(tempfile.mkdtemp(prefix="upkeep-pg-"))
    try:
        (directory / "password").write_text(password)
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres")
            shutil.chown(directory / "password", "postgres")
        data = directory / "data"
        initdb = [
            tools / "initdb",
            "--auth=scram-sha-256",
            f"--username={superuser}",
            "--no-sync",
            "--pgdata",
            data,
        ]
        run = [*unprivileged(), *map(str, initdb), f"--pwfile={directory / 'password'}"]
        subprocess.run(run, check=True, capture_output=True, cwd="/")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {directory}"
        control = [*unprivileged(), str(tools / "pg_ctl"), "--pgdata", str(data), "--wait"]
        log = str(directory / "log")
        subprocess.run(
            [*control, "start", "-o", options, "-l", log], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )
        try:
            yield f"postgresql://{superuser}:{password}@127.0.0.1:{port}/postgres"
        finally:
            stop = [*control, "stop", "--mode=immediate"]
            subprocess.run(stop, check=True, stdout=subprocess.DEVNULL, cwd="/")
    finally:
        shutil.rmtree(directory)
