"""What a lab leaves on the machine; nothing, once it is down."""

from __future__ import annotations

from pathlib import Path

from infra.lab import cgroups, network
from infra.lab.claims import INOTIFY, INOTIFY_BEFORE
from infra.lab.directory import LabDirectory
from infra.lab.machine import sh
from infra.lab.plan import Lab


def traces(directory: LabDirectory, claimed: Lab) -> list[str]:
    """Where something of a lab is still found; `claimed` is what it had claimed when it was up."""
    path = str(directory.path)
    groups = Path("/sys/fs/cgroup").rglob(f"{cgroups.TOP}/{directory.group}")
    found = {
        "directory": directory.path.exists(),
        "control group": any(groups),
        "loop device": path in sh("losetup", "--list", "--output", "BACK-FILE"),
        "mount": path in Path("/proc/mounts").read_text(),
        "route": network.subnet(claimed) in sh("ip", "route", "show", "table", "all"),
        "interface": network.leg_name(claimed) in sh("ip", "-brief", "link"),
        "process": path in sh("ps", "-eo", "args"),
    }
    return [what for what, there in found.items() if there]


def inotify_limit() -> int:
    """The machine's limit of inotify instances as it was before the first lab that is up.

    What it was is kept while a lab is up, and only then.
    """
    if cgroups.any_lab():
        return int(INOTIFY_BEFORE.read_text()) if INOTIFY_BEFORE.exists() else int(INOTIFY.read_text())
    assert not INOTIFY_BEFORE.exists()
    return int(INOTIFY.read_text())
