"""Where a lab keeps its state, ``$UPKEEP_LAB_HOME/NAME``, and who holds it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import GateClosed, LockHeld, ServiceUnavailable
from infra.lab.plan import Lab
from infra.settings import settings

DEFAULT_HOME = Path("/var/lib/upkeep-lab")
DEFAULT_CACHE = Path("/var/cache/upkeep-lab")
LOCKS = Path("/run/lock")


@dataclass(frozen=True, slots=True)
class LabDirectory:
    """Paths of one lab; nothing is created by naming them."""

    path: Path

    @classmethod
    def of(cls, name: str) -> LabDirectory:
        """The directory of the lab of that name.

        Raises:
            GateClosed: the name could not be a directory, a cgroup and a lock file.
        """
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", name):
            accepted = "1 to 32 of a-z, 0-9 and -, not starting with -"
            raise GateClosed(f"a lab cannot be called {name!r}: {accepted}")
        return cls(home() / name)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def group(self) -> str:
        """What its control group and its lock are called: unique on the machine, also among homes."""
        return f"{self.name}-{hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:8]}"

    @property
    def pool(self) -> Path:
        """The lab's own copy of the cached images: one btrfs filesystem in a file."""
        return self.path / "pool.img"

    @property
    def mounts(self) -> Path:
        """Mount points; something is mounted on them in the holder's mount namespace only."""
        return self.path / "mounts"

    @property
    def socket(self) -> Path:
        return self.path / "control.sock"

    @property
    def holder(self) -> Path:
        """``PID START_TIME`` of the holder, as the kernel counts them outside the lab."""
        return self.path / "holder.pid"

    @property
    def log(self) -> Path:
        return self.path / "holder.log"

    def lab(self) -> Lab:
        """The lab as it was claimed.

        Raises:
            ServiceUnavailable: there is none.
        """
        return Lab(self.name, int(self.claim()["octet"]))

    def claim(self) -> dict[str, Any]:
        """What `infra.lab.claims` wrote down.

        Raises:
            ServiceUnavailable: there is nothing, or nothing legible.
        """
        try:
            claim: dict[str, Any] = json.loads((self.path / "lab.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError) as error:
            start = f"start it: upkeep lab up --name {self.name}"
            raise ServiceUnavailable(f"there is no lab called {self.name!r}; {start}") from error
        return claim

    def holder_pid(self) -> int | None:
        """The holder's pid while it lives; a pid that was given to another process since does not count."""
        try:
            pid, started = self.holder.read_text(encoding="utf-8").split()
            stat = Path("/proc", pid, "stat").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None
        fields = stat.rpartition(")")[2].split()
        return int(pid) if fields[19] == started and fields[0] not in "ZX" else None


def home() -> Path:
    """Where labs keep their state."""
    return settings().lab_home or DEFAULT_HOME


def cache() -> Path:
    """Where images are cached; may be removed at any time when no lab is starting."""
    return settings().lab_cache or DEFAULT_CACHE


@contextmanager
def locked(name: str, what: str, *, wait: bool) -> Iterator[None]:
    """Hold a lock of the machine; the kernel lets go of it when the process dies, however it dies.

    Raises:
        LockHeld: another process holds it and we were not to wait.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / f"{name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise LockHeld(
                f"{what} is being brought up or down by another process; try again later"
            ) from error
        yield
