"""What can be done to a running host; undoing a fault that was not done does nothing."""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import subprocess
import sys
import threading
from pathlib import Path

from infra.errors import GateClosed, PermanentError, UpkeepError
from infra.lab import cgroups, network
from infra.lab.host import RunningHost
from infra.lab.machine import ENVIRONMENT, sh
from infra.lab.plan import host_named

FILL = "var/tmp/upkeep-lab-fill"
INODES = "upkeep-lab-inodes"
FILL_STEP_BYTES = 256 * 1024 * 1024
LOAD = "upkeep-lab-load"
LOAD_WRITERS = 4
LOAD_BYTES = 32 * 1024 * 1024
#: So large that the device is never idle: it is between small writes, and after each one with O_DSYNC.
LOAD_BLOCK_BYTES = 4 * 1024 * 1024


class Faults:
    """The faults of one host that are in force, by name."""

    def __init__(self, host: RunningHost) -> None:
        self._host = host
        self.active: set[str] = set()
        self._relay: subprocess.Popen[bytes] | None = None
        self._load: threading.Event | None = None

    def cut(self) -> None:
        """Pull the network cable."""
        network.set_cable(self._host.plan, plugged=False)
        self.active.add("cut")

    def uncut(self) -> None:
        """Plug it in again."""
        network.set_cable(self._host.plan, plugged=True)
        self.active.discard("cut")

    def freeze(self) -> None:
        """Stop all of its processes where they are; its kernel still takes connections."""
        cgroups.freeze(self._host.group, self._host.plan.name, frozen=True)
        self.active.add("frozen")

    def thaw(self) -> None:
        """Let them go on."""
        if "frozen" in self.active:
            cgroups.freeze(self._host.group, self._host.plan.name, frozen=False)
            self.active.discard("frozen")

    def fill(self, percent: float) -> None:
        """Fill the root filesystem until df would say `percent`, for real: writing more ends in ENOSPC.

        Raises:
            GateClosed: `percent` is not between 1 and 100.
        """
        if not 1 <= percent <= 100:
            raise GateClosed(f"percent = {percent:g}: accepted are 1 to 100", host=self._host.plan.name)
        with (self._host.root / FILL).open("ab") as file:
            while (missing := _bytes_until(self._host.root, percent)) > 0:
                try:
                    end = file.seek(0, os.SEEK_END)
                    os.posix_fallocate(file.fileno(), end, min(missing, FILL_STEP_BYTES))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
                _commit(self._host.root)
        self.active.add("filled")

    def fill_inodes(self) -> None:
        """Use up every inode of the data disk, which keeps nearly all of its space."""
        if not self._host.plan.data_image:
            name = self._host.plan.name
            raise GateClosed("the host has no data disk whose inodes could be used up", host=name)
        directory = self._host.data / INODES
        directory.mkdir(exist_ok=True)
        number = 0
        while os.statvfs(self._host.data).f_ffree:
            (directory / str(number)).touch()
            number += 1
        self.active.add("inodes")

    def unfill(self) -> None:
        """Undo `fill` and `fill_inodes`."""
        (self._host.root / FILL).unlink(missing_ok=True)
        for file in (self._host.data / INODES).glob("*"):
            file.unlink()
        if self._host.root.is_mount():
            _commit(self._host.root)
        self.active -= {"filled", "inodes"}

    def latency(self, delay_ms: float, peer: str | None) -> None:
        """Lengthen the round trip between the host and everybody else, or one other host; 0 ends it."""
        self._end_relay()
        if delay_ms <= 0:
            return
        lab = self._host.lab
        address = []
        if peer is not None:
            address = [lab.gateway if peer == "control" else lab.address(host_named(peer))]
        self.active.add("latency")
        try:
            sides = network.add_detour(self._host.plan)
            self._relay = _start_relay(*sides, str(delay_ms), *address)
            network.take_detour(self._host.plan)
            _let_carry(self._relay)
        except (UpkeepError, OSError):
            self._end_relay()
            raise

    def io_load(self) -> None:
        """Keep the host's disk busy all of the time until `io_calm`."""
        if self._load is None:
            self._load = threading.Event()
            for number in range(LOAD_WRITERS):
                path = self._host.top / f"{LOAD}-{number}"
                threading.Thread(target=_hammer, args=(path, self._load), daemon=True).start()
            self.active.add("io")

    def io_calm(self) -> None:
        """Undo `io_load`."""
        if self._load is not None:
            self._load.set()
            self._load = None
            self.active.discard("io")

    def mend_outside(self) -> None:
        """Undo whatever does not lie on the host's own disks."""
        self.io_calm()
        self.thaw()
        self._end_relay()
        self.uncut()
        self.active.clear()

    def _end_relay(self) -> None:
        if "latency" in self.active:
            network.remove_detour(self._host.plan)
            if self._relay is not None:
                self._relay.kill()
                self._relay.communicate()
                self._relay = None
            self.active.discard("latency")


def _start_relay(*arguments: str) -> subprocess.Popen[bytes]:
    """Start a relay; it is ready when this returns, and listens once it is told that the cable is moved."""
    command = [sys.executable, "-m", "infra.lab.relay", *arguments]
    pipe = subprocess.PIPE
    relay = subprocess.Popen(command, env=dict(ENVIRONMENT), stdin=pipe, stdout=pipe, bufsize=0)
    _expect(relay, b"ready\n")
    return relay


def _let_carry(relay: subprocess.Popen[bytes]) -> None:
    """Tell a relay that the cable is moved; frames pass when this returns."""
    assert relay.stdin is not None  # noqa: S101 - it is a pipe
    relay.stdin.write(b"moved\n")
    _expect(relay, b"carrying\n")


def _expect(relay: subprocess.Popen[bytes], line: bytes) -> None:
    assert relay.stdout is not None  # noqa: S101 - it is a pipe
    if (said := relay.stdout.readline()) != line:
        relay.kill()
        raise PermanentError(f"the relay for latency said {said!r}, not {line!r}; see the holder's log")


def _bytes_until(place: Path, percent: float) -> int:
    """How much more must be used so that df (which counts against used + available) shows `percent`."""
    stat = os.statvfs(place)
    used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    available = stat.f_bavail * stat.f_frsize
    return min(int((used + available) * percent / 100) - used, available)


def _commit(place: Path) -> None:
    """Let the filesystem settle: btrfs counts space that was given or freed only then."""
    sh("sync", "--file-system", place)


def _hammer(path: Path, ended: threading.Event) -> None:
    """Write the same few megabytes again and again, past the page cache and in place."""
    path.touch(mode=0o600)
    sh("chattr", "+C", path)
    with mmap.mmap(-1, LOAD_BLOCK_BYTES) as block:  # O_DIRECT wants memory that begins at a page
        file = os.open(path, os.O_WRONLY | os.O_DIRECT)
        try:
            for offset in itertools.cycle(range(0, LOAD_BYTES, LOAD_BLOCK_BYTES)):
                if ended.is_set():
                    break
                os.pwrite(file, block, offset)
        finally:
            os.close(file)
            path.unlink(missing_ok=True)
