"""What a lab keeps on the machine: its directory, its claim on a network, and who holds it.

Everything of a lab lies under ``$UPKEEP_LAB_HOME/NAME``; beside the labs lie one lock file per lab and the number of
inotify instances that the machine had before the first lab raised it.
"""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.errors import GateClosed, LockHeld, ServiceUnavailable
from infra.lab.machine import sh
from infra.lab.plan import Lab
from infra.settings import settings

DEFAULT_HOME = Path("/var/lib/upkeep-lab")
DEFAULT_CACHE = Path("/var/cache/upkeep-lab")
#: Where the search for a free network starts.
FIRST_OCTET = 77


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
            raise GateClosed(f"a lab cannot be called {name!r}: 1 to 32 of a-z, 0-9 and -, not starting with -")
        return cls(home() / name)

    @property
    def name(self) -> str:
        return self.path.name

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
        try:
            return Lab(self.name, int(json.loads((self.path / "lab.json").read_text(encoding="utf-8"))["octet"]))
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise ServiceUnavailable(f"there is no lab called {self.name!r}; start it: upkeep lab up --name {self.name}") from error

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
def locked(path: Path, what: str, *, wait: bool) -> Iterator[None]:
    """Hold a lock file; the kernel lets go of it when the process dies, however it dies.

    Raises:
        LockHeld: another process holds it and we were not to wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise LockHeld(f"{what} is being worked on by another process (lock {path}); try again when it is done") from error
        yield


def lab_lock(name: str) -> Path:
    """The lock that `up` and `down` of one lab take."""
    return home() / f".{name}.lock"


def claim(directory: LabDirectory) -> Lab:
    """Create the lab's directory and claim a network for it that no other lab and no route has.

    Raises:
        GateClosed: all networks are taken.
    """
    with locked(home() / ".claims.lock", "the list of labs", wait=True):
        taken = {other.lab().octet for other in all_labs()}
        taken |= {int(k) for k in re.findall(r"\b198\.18\.(\d+)\.", sh("ip", "route", "show", "table", "all"))}
        free = (k for k in ((FIRST_OCTET + i) % 256 for i in range(256)) if k not in taken)
        octet = next(free, None)
        if octet is None:
            raise GateClosed("all 256 networks of 198.18.0.0/16 are taken by labs or routes: take a lab down first")
        directory.path.mkdir(parents=True, mode=0o755)
        (directory.path / "lab.json").write_text(json.dumps({"octet": octet}), encoding="utf-8")
    return Lab(directory.name, octet)


def all_labs() -> tuple[LabDirectory, ...]:
    """Labs that have state here, running or not, by name."""
    return tuple(LabDirectory(p.parent) for p in sorted(home().glob("*/lab.json")))
