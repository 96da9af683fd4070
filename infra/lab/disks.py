"""A host's disk: btrfs in a file, whose default subvolume is the root.

Logs and database files lie on subvolumes of their own, so that a rollback of the root takes neither back.
"""

from __future__ import annotations

import time
from pathlib import Path

from infra.errors import PermanentError
from infra.lab.machine import sh

#: Subvolume -> where it is mounted.
SUBVOLUMES = {"@log": "var/log", "@postgresql": "var/lib/postgresql", "@redis": "var/lib/redis"}


def format_disk(image: Path, size: str) -> None:
    """Make an empty btrfs filesystem in a sparse file."""
    image.touch(mode=0o600)
    sh("truncate", "-s", size, image)
    sh("mkfs.btrfs", "-q", "-m", "single", "-d", "single", image)


def mount_disk(image: Path, top: Path) -> str:
    """Mount a disk's top level and return its loop device, which lives as long as the mount does."""
    top.mkdir(parents=True, exist_ok=True)
    sh("mount", "-o", "loop,noatime,subvolid=5", image, top)
    return sh("findmnt", "--noheadings", "--nofsroot", "--output", "SOURCE", "--mountpoint", top).strip()


def mount_root(device: str, top: Path, root: Path) -> None:
    """Mount a disk's default subvolume, and the others where they belong, for work on it from outside."""
    root.mkdir(parents=True, exist_ok=True)
    sh("mount", "-o", "noatime", device, root)
    for subvolume, place in SUBVOLUMES.items():
        (root / place).mkdir(parents=True, exist_ok=True)
        sh("mount", "--bind", top / subvolume, root / place)


def clone(source: Path, target: Path) -> None:
    """Copy an image without copying its blocks."""
    target.unlink(missing_ok=True)
    sh("cp", "--reflink=always", source, target)


def unmount(place: Path, timeout_s: float = 10) -> None:
    """Unmount; namespaces of processes that just died may keep it busy for a moment."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            sh("umount", place)
        except PermanentError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
