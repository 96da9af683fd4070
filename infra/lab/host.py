"""One running host as the holder sees it: its disk, its cable, its PID 1 and the loop that boots it again.

A host's disk is cloned from its golden image; its loop device lives as long as the mount of the disk's top
level. The root is mounted anew at every boot, so that a host that set another default subvolume comes up on
that one.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from enum import StrEnum
from pathlib import Path

from infra.errors import NotYetHealthy, PermanentError, UpkeepError
from infra.lab import cgroups, network
from infra.lab.directory import LabDirectory
from infra.lab.disks import SUBVOLUMES, clone, mount_disk, unmount
from infra.lab.machine import ENVIRONMENT, sh
from infra.lab.plan import Lab, LabHost

logger = logging.getLogger(__name__)

#: Files of the lab's directory that say addresses; images know names only.
ADDRESS_FILES = ("hosts", "resolv.conf")
#: What systemd-nspawn ends with when the host asked for a reboot (with --keep-unit).
ASKED_FOR_REBOOT = 133
POWEROFF = signal.SIGRTMIN + 4  # systemd(1), SIGNALS
REBOOT = signal.SIGRTMIN + 5


class State(StrEnum):
    """What a host is doing; `running` and `degraded` are systemd's own words."""

    OFF = "off"
    BOOTING = "booting"
    RUNNING = "running"
    DEGRADED = "degraded"
    CRASHED = "crashed"


class RunningHost:
    """A host of a lab that is up. Methods may be called from any thread, one at a time for one host."""

    def __init__(self, plan: LabHost, lab: Lab, directory: LabDirectory) -> None:
        self.plan = plan
        self.lab = lab
        self.state = State.BOOTING
        self.booted_at = 0.0
        self.boots = 0
        self._directory = directory.path
        self.group = directory.group
        self.image = directory.mounts / "pool/hosts" / f"{plan.name}.img"
        self.golden = directory.mounts / "pool/golden" / f"{plan.name}.img"
        self.mounts = directory.mounts / plan.name
        self.console = directory.path / f"{plan.name}.console"
        self._supervisor: threading.Thread | None = None

    @property
    def root(self) -> Path:
        """The host's root directory, while it is on."""
        return self.mounts / "root"

    @property
    def top(self) -> Path:
        """The top level of the host's disk."""
        return self.mounts / "top"

    @property
    def data(self) -> Path:
        """Its data disk, where it has one."""
        return self.mounts / "data"

    def leader(self) -> int | None:
        """The pid of its PID 1 in the caller's pid namespace."""
        return cgroups.leader(self.group, self.plan.name)

    def renew(self) -> None:
        """Give a host that is off its disks as they were when it was built, and its first addresses."""
        self._unmount()
        clone(self.golden, self.image)
        sh("btrfstune", "-m", "-f", self.image)
        self._device = mount_disk(self.image, self.top)
        self.root.mkdir(exist_ok=True)
        if self.plan.data_image:
            clone(self.golden.with_suffix(".data.img"), self.image.with_suffix(".data.img"))
            self.data.mkdir(exist_ok=True)
            sh("mount", "-o", "loop,noatime", self.image.with_suffix(".data.img"), self.data)
        for name in ADDRESS_FILES:
            shutil.copy(self._directory / name, self.top / "@root/etc" / name)
        network.set_addresses(self.lab, self.plan)

    def boot(self) -> None:
        """Switch the host on; does nothing when it is on."""
        if self._supervisor is None or not self._supervisor.is_alive():
            self._supervisor = threading.Thread(target=self._supervise, name=self.plan.name, daemon=True)
            self._supervisor.start()

    def signal(self, number: int) -> None:
        """Send its PID 1 a signal; SIGKILL is what a power loss looks like from inside."""
        if pid := self.leader():
            os.kill(pid, number)

    def power_off(self, timeout_s: float = 30) -> None:
        """Shut the host down in order, and wait."""
        self.signal(POWEROFF)
        self._join(timeout_s)

    def kill(self, timeout_s: float = 10) -> None:
        """Cut the power, and wait; does nothing when it is off."""
        deadline = time.monotonic() + timeout_s
        while self._supervisor is not None and self._supervisor.is_alive():
            self.signal(signal.SIGKILL)
            self._supervisor.join(0.05)
            if time.monotonic() > deadline:
                raise PermanentError("the host does not die", host=self.plan.name)

    def refresh(self) -> None:
        """Ask systemd how the host is doing now."""
        if self.state in {State.RUNNING, State.DEGRADED} and (word := self._system_state()):
            self.state = word

    def _join(self, timeout_s: float) -> None:
        if self._supervisor is not None:
            self._supervisor.join(timeout_s)
            if self._supervisor.is_alive():
                raise NotYetHealthy(f"the host has not shut down within {timeout_s:g} s", host=self.plan.name)

    def _supervise(self) -> None:
        """Boot the host for as long as it asks for it."""
        code = ASKED_FOR_REBOOT
        try:
            while code == ASKED_FOR_REBOOT:
                code = self._run_once()
        except UpkeepError:
            logger.exception("%s: cannot be booted", self.plan.name)
        self.state = State.OFF if code == 0 else State.CRASHED

    def _run_once(self) -> int:
        """From power on to power off; what systemd-nspawn ended with."""
        sh("mount", "-o", "noatime", self._device, self.root)
        self.state, self.booted_at, self.boots = State.BOOTING, time.time(), self.boots + 1
        script = f'{cgroups.enter_script(self.group, self.plan.name)}; exec "$@"'
        settings = {
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
        }
        with self.console.open("ab") as console:
            process = subprocess.Popen(
                ["sh", "-c", script, "boot", *self._nspawn()], env={**ENVIRONMENT, **settings},
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            )
        threading.Thread(target=self._watch_boot, args=(process,), daemon=True).start()
        code = process.wait()
        logger.info("%s: systemd-nspawn ended with %s", self.plan.name, code)
        unmount(self.root)
        return code

    def _watch_boot(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until systemd has started everything that it will start."""
        while process.poll() is None:
            if word := self._system_state("--wait"):
                self.state = word
                return
            time.sleep(0.1)

    def _system_state(self, *options: str) -> State | None:
        """systemd's own word for how it is, once it has booted; None before, and when it does not answer."""
        pid = self.leader()
        if pid is None:
            return None
        inside = ("nsenter", "-t", str(pid), "-m", "-p", "-n", "-i", "-u")
        word = sh(*inside, "timeout", "30", "systemctl", "is-system-running", *options, check=False).strip()
        return State(word) if word in {State.RUNNING, State.DEGRADED} else None

    def _nspawn(self) -> list[str]:
        binds = {self.top: "/.btrfs", **{self.top / s: f"/{place}" for s, place in SUBVOLUMES.items()}}
        if self.plan.data_image:
            binds[self.data] = "/srv/data"
        return [
            *("systemd-nspawn", "--quiet", "--boot"),
            *(f"--directory={self.root}", f"--machine={self.plan.name}"),
            *("--register=no", "--keep-unit", "--capability=CAP_NET_ADMIN", "--link-journal=no"),
            *("--resolv-conf=off", "--timezone=off", "--console=read-only"),
            f"--network-namespace-path=/run/netns/{self.plan.name}",
            *(f"--bind={source}:{place}" for source, place in binds.items()),
        ]

    def _unmount(self) -> None:
        for place in (self.root, self.data, self.top):
            if place.is_mount():
                unmount(place)
