"""What a lab claims of the machine that all labs share: a network, a control group, and inotify instances.

Claims are made and given back under one lock of the machine, also for labs with different homes. A claim is
good for one boot of the machine: after another one, nothing but the directory can be left of the lab.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from infra.errors import GateClosed, ServiceUnavailable
from infra.lab import cgroups, network
from infra.lab.directory import LabDirectory, locked
from infra.lab.machine import sh
from infra.lab.plan import Lab

#: Where the search for a free network starts.
FIRST_OCTET = 77
#: A dozen systemds need more inotify instances than Linux gives root by default (128).
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_WANTED = 2048
#: What the limit was before the first lab; lives as long as the limit does.
INOTIFY_BEFORE = Path("/run/upkeep-lab-inotify")
_MACHINE = "upkeep-lab"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def claim(directory: LabDirectory) -> Lab:
    """Create a lab's directory and claim what it needs; its addresses lead nowhere from now on.

    Raises:
        GateClosed: all networks are taken.
    """
    with locked(_MACHINE, "a lab", wait=True):
        taken = set(re.findall(r"\b198\.18\.(\d+)\.", sh("ip", "route", "show", "table", "all")))
        free = (k for k in ((FIRST_OCTET + i) % 256 for i in range(256)) if str(k) not in taken)
        octet = next(free, None)
        if octet is None:
            raise GateClosed("every network of 198.18.0.0/16 has a route already: take a lab down first")
        directory.path.mkdir(parents=True)
        kept = {"octet": octet, "boot_id": _BOOT_ID.read_text(encoding="ascii")}
        (directory.path / "lab.json").write_text(json.dumps(kept), encoding="utf-8")
        lab = directory.lab()
        cgroups.create(directory.group)
        _raise_inotify()
        network.add_blackhole(lab)
    return lab


def release(directory: LabDirectory) -> None:
    """End every process of a lab and give back what it claimed; may be repeated."""
    with locked(_MACHINE, "a lab", wait=True):
        cgroups.clear(directory.group)
        try:
            kept = directory.claim()
        except ServiceUnavailable:
            kept = {}
        if kept.get("boot_id") == _BOOT_ID.read_text(encoding="ascii"):
            network.remove_leg(directory.lab())
            network.remove_blackhole(directory.lab())
        if not cgroups.any_lab():
            _restore_inotify()


def _raise_inotify() -> None:
    before = int(INOTIFY.read_text(encoding="ascii"))
    if before < INOTIFY_WANTED:
        INOTIFY_BEFORE.write_text(str(before), encoding="ascii")
        INOTIFY.write_text(str(INOTIFY_WANTED), encoding="ascii")


def _restore_inotify() -> None:
    if INOTIFY_BEFORE.exists():
        INOTIFY.write_text(INOTIFY_BEFORE.read_text(encoding="ascii"), encoding="ascii")
        INOTIFY_BEFORE.unlink()
