"""Talk to a lab that is up: read its state, and do to its hosts what happens to hosts."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import CommandFailed, NotYetHealthy, PermanentError, ServiceUnavailable, Unreachable
from infra.lab import cgroups
from infra.lab.directory import LabDirectory
from infra.lab.machine import ENVIRONMENT
from infra.lab.plan import Lab, host_named

#: Longest time for one request; a reset of all hosts on a busy machine stays well below.
REQUEST_TIMEOUT_S = 120
BOOT_TIMEOUT_S = 90


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host as the holder sees it.

    Attributes:
        state: off, booting, running, degraded or crashed; systemd's word while it is on.
        booted_at: when its last boot began, seconds since the epoch; 0 before the first.
        boots: how often it was switched on or rebooted since `up`.
        faults: what was done to it and not undone: cut, frozen, filled, inodes, latency, io.
    """

    name: str
    state: str
    booted_at: float
    boots: int
    faults: tuple[str, ...]

    @property
    def up(self) -> bool:
        """systemd has started everything that it will start."""
        return self.state in {"running", "degraded"}


class LabClient:
    """One lab, by name; every method may be called from any thread.

    Methods that switch a host on return when systemd says that it is up (``wait=False``: at once). A host's
name is     one of `infra.lab.plan.HOSTS`; an unknown one is refused with the list.

    Raises:
        ServiceUnavailable: (any method) the lab is not up.
    """

    def __init__(self, name: str = "lab") -> None:
        self.directory = LabDirectory.of(name)

    @property
    def lab(self) -> Lab:
        """Its name and network."""
        return self.directory.lab()

    @property
    def path(self) -> Path:
        """Where inventory.toml, known_hosts, id_ed25519, ca.pem and secrets/ lie."""
        return self.directory.path

    def address(self, host: str) -> str:
        """The first address of a host."""
        return self.lab.address(host_named(host))

    def status(self) -> tuple[HostStatus, ...]:
        """Every host, in the plan's order."""
        rows = self._ask({"do": "status"})
        return tuple(HostStatus(**{**row, "faults": tuple(row["faults"])}) for row in rows)

    def host(self, name: str) -> HostStatus:
        """One host's status."""
        host_named(name)
        return next(status for status in self.status() if status.name == name)

    def boot(self, host: str, *, wait: bool = True) -> None:
        """Switch a host on; does nothing to one that is on."""
        self._do("boot", host)
        if wait:
            self.wait_up(host)

    def reboot(self, host: str, *, wait: bool = True) -> None:
        """Let a host reboot in order, as `systemctl reboot` does."""
        self._and_wait((host,), lambda: self._do("reboot", host), wait=wait)

    def stop(self, host: str) -> None:
        """Shut a host down in order; it is off when this returns."""
        self._do("stop", host)

    def kill(self, host: str) -> None:
        """Cut a host's power; `cut` it first for a death without a farewell on the network."""
        self._do("kill", host)

    def reset(self, *hosts: str, wait: bool = True) -> None:
        """Put hosts back as they were at `up`, disks included, and end every fault; all of them at once."""

        def act() -> None:
            with ThreadPoolExecutor(max(1, len(hosts))) as pool:
                list(pool.map(lambda host: self._do("reset", host), hosts))

        self._and_wait(hosts, act, wait=wait)

    def cut(self, host: str) -> None:
        """Pull a host's network cable."""
        self._do("cut", host)

    def uncut(self, host: str) -> None:
        """Plug it in again."""
        self._do("uncut", host)

    def freeze(self, host: str) -> None:
        """Hang a host: TCP connects, nobody answers."""
        self._do("freeze", host)

    def thaw(self, host: str) -> None:
        """Let a hung host go on."""
        self._do("thaw", host)

    def fill(self, host: str, percent: float = 97) -> None:
        """Fill a host's root filesystem until df says `percent`."""
        self._do("fill", host, percent=percent)

    def fill_inodes(self, host: str) -> None:
        """Use up all inodes of /srv/data on a host that has a data disk."""
        self._do("fill_inodes", host)

    def unfill(self, host: str) -> None:
        """Undo `fill` and `fill_inodes`."""
        self._do("unfill", host)

    def latency(self, host: str, delay_ms: float, *, peer: str | None = None) -> None:
        """Add `delay_ms` to every round trip of a host, or to those with one peer; 0 ends it.

        Args:
            peer: another host's name, or `control` for the machine outside.
        """
        self._do("latency", host, delay_ms=delay_ms, peer=peer)

    def io_load(self, host: str) -> None:
        """Keep a host's disk busy until `io_calm`."""
        self._do("io_load", host)

    def io_calm(self, host: str) -> None:
        """Undo `io_load`."""
        self._do("io_calm", host)

    def exec(self, host: str, *argv: str, stdin: str = "", check: bool = True, timeout_s: float = 60) -> str:
        """Run a command on a host as root, past SSH and network, and return its output.

        Raises:
            CommandFailed: a non-zero exit code and `check`.
            Unreachable: the host is off, or the command took longer than `timeout_s`.
        """
        try:
            done = subprocess.run(
                self.exec_argv(host, *argv), input=stdin, text=True, errors="replace", capture_output=True,
                timeout=timeout_s, env=dict(ENVIRONMENT), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"`{' '.join(argv)}` did not end within {timeout_s:g} s", host=host) from error
        if check and done.returncode != 0:
            raise CommandFailed(" ".join(argv), done.returncode, done.stderr or done.stdout, host=host)
        return done.stdout

    def exec_argv(self, host: str, *argv: str) -> list[str]:
        """The command line that runs `argv` on a host as root, for a caller that wants its own terminal.

        Raises:
            Unreachable: the host is off.
        """
        pid = cgroups.leader(self.directory.group, host_named(host).name)
        if pid is None:
            raise Unreachable(f"the host is off; see: upkeep lab status --name {self.lab.name}", host=host)
        return ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "--", *argv]

    def wait_up(
        self, *hosts: str, after: dict[str, int] | None = None, timeout_s: float = BOOT_TIMEOUT_S
    ) -> None:
        """Wait until hosts are up, and were booted more often than `after` says.

        Raises:
            NotYetHealthy: some are not within `timeout_s`; the message says what they do.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            rows = [s for s in self.status() if s.name in hosts]
            late = [s for s in rows if not s.up or s.boots <= (after or {}).get(s.name, 0)]
            if not late:
                return
            if time.monotonic() > deadline:
                what = ", ".join(f"{s.name} is {s.state}" for s in late)
                raise NotYetHealthy(f"not up within {timeout_s:g} s: {what}; see {self.directory.log}")
            time.sleep(0.1)

    def holder_pid(self) -> int:
        """A process inside the lab's network namespace, as seen by the caller."""
        with self._connect() as connection:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", credentials)[0])

    def _and_wait(self, hosts: tuple[str, ...], act: Callable[[], None], *, wait: bool) -> None:
        for name in hosts:
            host_named(name)
        before = {s.name: s.boots for s in self.status()}
        act()
        if wait:
            self.wait_up(*hosts, after=before)

    def _do(self, verb: str, host: str, **arguments: object) -> None:
        self._ask({"do": verb, "host": host, **arguments})

    def _ask(self, request: dict[str, Any]) -> Any:
        with self._connect() as connection, connection.makefile("rwb") as line:
            line.write(json.dumps(request).encode() + b"\n")
            line.flush()
            reply = line.readline()
        if not reply:
            name = self.directory.name
            raise ServiceUnavailable(f"the lab {name!r} went down while it was asked to {request['do']}")
        answer = json.loads(reply)
        if "error" in answer:
            raise PermanentError(answer["error"])
        return answer["ok"]

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(REQUEST_TIMEOUT_S)
        try:
            connection.connect(str(self.directory.socket))
        except OSError as error:
            connection.close()
            name = self.directory.name
            raise ServiceUnavailable(
                f"the lab {name!r} is not up ({error}); start it: upkeep lab up --name {name}"
            ) from error
        return connection
