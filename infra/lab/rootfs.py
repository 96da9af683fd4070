"""The one Debian root filesystem that all hosts start from: a cached archive, and what is done to it once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from infra.errors import PermanentError
from infra.lab.machine import sh

PACKAGES: tuple[str, ...] = (
    *("systemd-sysv", "dbus", "openssh-server", "sudo", "iproute2", "iputils-ping", "curl"),
    *("ca-certificates", "procps", "rsync", "python3-minimal", "needrestart", "btrfs-progs"),
    *("unattended-upgrades", "netcat-openbsd"),
)
#: Units that every host starts; what else a package enables is switched off, a role switches on its own.
ENABLED = ("ssh.service", "remote-fs.target")
#: They lock dpkg at odd times, belong to the machine outside, or have no device here.
MASKED = (
    *("apt-daily.service", "apt-daily.timer", "apt-daily-upgrade.service", "apt-daily-upgrade.timer"),
    *("unattended-upgrades.service", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer"),
    *("dpkg-db-backup.timer", "console-getty.service", "systemd-networkd.service", "systemd-networkd.socket"),
    *("systemd-timesyncd.service", "systemd-udevd.service", "systemd-udevd-control.socket"),
    *("systemd-udevd-kernel.socket", "systemd-udev-trigger.service"),
)
_EXCLUDED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")
_FILES = {
    "etc/sudoers.d/ops": ("ops ALL=(ALL) NOPASSWD: ALL\n", 0o440),
    "etc/ssh/sshd_config.d/lab.conf": (
        (
            "HostKey /etc/ssh/ssh_host_ed25519_key\nMaxStartups 500\nMaxSessions 500\nUseDNS no\n"
            "PasswordAuthentication no\nPermitRootLogin no\nPrintMotd no\n"
        ),
        0o644,
    ),
    "etc/apt/sources.list": ("", 0o644),
    "etc/fstab": ("", 0o644),
    "usr/sbin/policy-rc.d": ("#!/bin/sh\nexit 101\n", 0o755),
}


def recipe_key(packages: Iterable[str]) -> str:
    """What the archive is cached under: it changes when packages, release or this recipe change."""
    architecture = sh("dpkg", "--print-architecture").strip()
    text = "\n".join((*packages, *PACKAGES, *_EXCLUDED, machine_suite(), architecture))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def machine_suite() -> str:
    """The release that the machine runs, `bookworm` for instance."""
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if "VERSION_CODENAME" not in settings:
        raise PermanentError(
            "/etc/os-release has no VERSION_CODENAME: the lab is built of a Debian or Ubuntu release"
        )
    return settings["VERSION_CODENAME"].strip('"')


def build_archive(archive: Path, packages: Iterable[str]) -> None:
    """Make the archive with mmdebstrap from the machine's own apt sources.

    Args:
        archive: where it goes; the ending says how it is compressed.
        packages: Debian packages beside our own.
    """
    partial = archive.with_name(f"partial-{archive.name}")
    apt = Path("/etc/apt")
    sources = [p for p in (apt / "sources.list", *sorted(apt.glob("sources.list.d/*"))) if _main(p)]
    if not sources:
        raise PermanentError(
            "/etc/apt has no source (deb ... or a .sources file) that the lab's hosts could be built from"
        )
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    names = ",".join(dict.fromkeys((*PACKAGES, *packages)))
    sh(
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--components=main", *options, *_apt_options()),
        *(f"--include={names}", machine_suite(), str(partial), *map(str, sources)),
        timeout_s=1200,
    )
    partial.rename(archive)


def unpack(archive: Path, root: Path) -> None:
    """Unpack the archive into a mounted, empty root; capabilities of files are kept."""
    sh("tar", "-C", root, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xf", archive, timeout_s=300)


def finish(root: Path) -> None:
    """Turn the unpacked release into a host of no role that nobody can log in to yet."""
    for name, (text, mode) in _FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
    stales = (*root.glob("etc/ssh/ssh_host_*"), *root.glob("etc/apt/sources.list.d/*"))
    for stale in (*stales, root / "etc/resolv.conf"):
        stale.unlink(missing_ok=True)
    for wanted in (root / "etc/systemd/system").glob("*.wants/*"):
        if wanted.name not in ENABLED:
            wanted.unlink()
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    (root / "var/log/journal").mkdir(exist_ok=True)
    login = ("--create-home", "--shell", "/bin/bash", "--groups", "adm,systemd-journal")
    sh("chroot", root, "useradd", *login, "ops")


def _main(path: Path) -> bool:
    """Whether a file of apt's sources says where the release itself comes from."""
    if path.suffix not in {".list", ".sources"} or not path.is_file():
        return False
    lines = path.read_text(encoding="utf-8").splitlines()
    return any(machine_suite() in line and not line.startswith("#") for line in lines)


def _apt_options() -> list[str]:
    """The machine's own way to its mirror: proxies and checks, as apt is configured here."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check", "Acquire::Retries")
    lines = sh("apt-config", "dump").splitlines()
    kept = [line for line in lines if line.startswith(wanted) and not line.endswith(' "";')]
    return [f"--aptopt={line}" for line in kept]
