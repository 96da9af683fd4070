"""The machine that a lab runs on: whether it can, what it lacks, and how its tools are called."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from infra.errors import CommandFailed, GateClosed, PermanentError, Unreachable

#: Command -> the Debian package that brings it.
NEEDED: Mapping[str, str] = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
    "gpg": "gnupg",
    "dpkg-scanpackages": "dpkg-dev",
    "zstd": "zstd",
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT: Mapping[str, str] = {
    "PATH": PATH,
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}


def sh(*argv: str | Path, stdin: str = "", check: bool = True, timeout_s: float = 60) -> str:
    """Run a local tool and return what it wrote on stdout.

    Raises:
        CommandFailed: a non-zero exit code and `check`, or the tool is not there.
        Unreachable: it ran longer than `timeout_s`.
    """
    command = " ".join(str(a) for a in argv)
    try:
        done = subprocess.run(
            [str(a) for a in argv], input=stdin, text=True, errors="replace", capture_output=True,
            timeout=timeout_s, env={**_proxies(), **ENVIRONMENT}, check=False,
        )
    except FileNotFoundError as error:
        raise CommandFailed(command, 127, str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"`{command}` did not end within {timeout_s:g} s") from error
    if check and done.returncode != 0:
        raise CommandFailed(command, done.returncode, done.stderr or done.stdout)
    return done.stdout


def why_not() -> str | None:
    """The sentence that says why no lab can run here, or None when one can."""
    if os.geteuid() != 0:
        return "the lab needs root: it boots hosts with namespaces, mounts and bridges of their own"
    if not _is_debian():
        return "the lab needs Debian or Ubuntu: it builds its hosts from the machine's own apt configuration"
    if _cgroup2() is None:
        return "the lab needs cgroup v2 (alone or beside v1) mounted at /sys/fs/cgroup"
    if not Path("/dev/loop-control").exists():
        return "the lab needs loop devices: /dev/loop-control does not exist"
    if not _knows_btrfs():
        return "the lab needs btrfs: this kernel does not offer it"
    try:
        sh("unshare", "--mount", "--net", "--pid", "--fork", "true")
    except PermanentError as error:
        return f"the lab may not make namespaces here: {error}"
    return None


def missing_packages() -> tuple[str, ...]:
    """Debian packages that the lab's tools come from and that are not installed, sorted."""
    missing = {package for tool, package in NEEDED.items() if shutil.which(tool, path=PATH) is None}
    return tuple(sorted(missing))


def require_machine() -> None:
    """Make sure that a lab can run here, installing the Debian packages that are missing.

    Raises:
        GateClosed: it cannot; the sentence says why.
        PermanentError: a package could not be installed.
    """
    if reason := why_not():
        raise GateClosed(reason)
    if missing := missing_packages():
        try:
            sh("apt-get", "update", "-qq", timeout_s=300)
            sh("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, timeout_s=600)
        except (CommandFailed, Unreachable) as error:
            names = " ".join(missing)
            raise PermanentError(
                f"the lab needs the Debian packages {names}, and installing them failed: {error}"
            ) from error


def cgroup_roots() -> tuple[Path, ...]:
    """The hierarchies that a host gets a group of its own in; the cgroup v2 one is first."""
    unified = _cgroup2()
    if unified is None:
        raise GateClosed("the lab needs cgroup v2 (alone or beside v1) mounted at /sys/fs/cgroup")
    others = (Path("/sys/fs/cgroup") / name for name in ("systemd", "memory", "pids", "freezer", "cpuacct"))
    return (unified, *(p for p in others if unified.name == "unified" and (p / "cgroup.procs").exists()))


def _cgroup2() -> Path | None:
    """Where cgroup v2 is mounted: alone, or beside v1 as systemd's hybrid layout has it."""
    candidates = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
    return next((p for p in candidates if (p / "cgroup.controllers").exists()), None)


def _is_debian() -> bool:
    try:
        words = Path("/etc/os-release").read_text(encoding="utf-8").replace('"', "").split()
    except OSError:
        return False
    return any(w in {"ID=debian", "ID=ubuntu"} for w in words)


def _knows_btrfs() -> bool:
    if "btrfs" not in Path("/proc/filesystems").read_text(encoding="utf-8"):
        if shutil.which("modprobe", path=PATH) is None:
            return False
        sh("modprobe", "btrfs", check=False)
    return "btrfs" in Path("/proc/filesystems").read_text(encoding="utf-8")


def _proxies() -> dict[str, str]:
    """apt and mmdebstrap reach their mirror as the caller would."""
    names = ("http_proxy", "https_proxy", "no_proxy")
    return {n: os.environ[n] for n in names if n in os.environ}
