"""The state directory (`UPKEEP_HOME`): who may read it, and the environment that leads to the local server.

The law: the directory is 0700 and every file in it that holds a secret is 0600. `env` is read by every client
(`upkeep`, `upkeep env`), `server.env` by the local server and worker only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from infra.errors import LockHeld, ServiceUnavailable
from infra.settings import Settings

CLIENT_FILE = "env"
SERVER_FILE = "server.env"
ROOM_BYTES = 50_000_000  # two databases, and logs for the time until somebody looks


def prepare_home(home: Path) -> None:
    """Create the state directory, or close it to others.

    Raises:
        ServiceUnavailable: it cannot be created or written; the reason names the way out.
    """
    way_out = "set UPKEEP_HOME to a directory that you may write"
    if "\n" in str(home):
        raise ServiceUnavailable(f"UPKEEP_HOME {str(home)!r} has a line break in its name", advice=way_out)
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
    except OSError as error:
        raise ServiceUnavailable(
            f"UPKEEP_HOME {home} is not usable ({error.strerror})", advice=way_out
        ) from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise ServiceUnavailable(f"UPKEEP_HOME {home} is not writable", advice=way_out)


def require_room(home: Path) -> None:
    """Refuse to start what would die of a full disk.

    Raises:
        ServiceUnavailable: less than `ROOM_BYTES` are free.
    """
    free = shutil.disk_usage(home).free
    if free < ROOM_BYTES:
        raise ServiceUnavailable(
            f"UPKEEP_HOME {home} has {free / 1e6:.1f} MB free, {ROOM_BYTES / 1e6:.0f} MB are needed to start",
            advice=f"free some (`df -h {home}`), or set UPKEEP_HOME to a directory on another disk",
        )


def write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner only.

    Raises:
        ServiceUnavailable: it cannot be written; what was there before still is.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink()
        raise ServiceUnavailable(
            f"{path} cannot be written ({error.strerror})",
            advice=f"`df -h {path.parent}; ls -ld {path.parent}`",
        ) from error


def write_variables(path: Path, variables: Mapping[str, str]) -> None:
    """Write ``NAME=value`` lines; a value is everything up to the end of its line."""
    write_private(path, "".join(f"{name}={value}\n" for name, value in variables.items()))


def read_variables(path: Path) -> dict[str, str]:
    """Read what `write_variables` wrote; empty when there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ServiceUnavailable(
            f"{path} is not readable ({error.strerror})",
            advice=f"see whose it is with `ls -l {path}`; be that user, or set UPKEEP_HOME",
        ) from error
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def load_local_environment() -> None:
    """Make the local server known to this process, unless the caller's environment names another one.

    Variables that are set are kept. When `PREFECT_API_URL` is set and is not the local server's, nothing of
    Prefect's is taken over: the local auth string must not be sent elsewhere.
    """
    local = read_variables(Settings().home / CLIENT_FILE)  # not settings(): what is loaded here counts there
    url = local.get("PREFECT_API_URL")
    elsewhere = os.environ.get("PREFECT_API_URL", url) != url
    for name, value in local.items():
        if not (elsewhere and name.startswith("PREFECT_")):
            os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")


@contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Hold the installation's lock, so that two `upkeep up` or `upkeep down` do not race.

    Raises:
        LockHeld: another process holds it; the reason names its pid.
    """
    try:
        descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServiceUnavailable(
            f"{home / 'lock'} cannot be used ({error.strerror})",
            advice=f"`ls -l {home}`: own it, or set UPKEEP_HOME",
        ) from error
    with os.fdopen(descriptor, "r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = file.read().strip() or "unknown"
            raise LockHeld(
                f"another `upkeep up` or `upkeep down` is at work (pid {holder}): wait for it"
            ) from error
        file.truncate(0)
        with suppress(OSError):  # only a courtesy, and `upkeep down` must work on a full disk too
            os.write(descriptor, str(os.getpid()).encode())
        yield
