"""One host's unpacked root directory, before its first boot: files, units and commands inside it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from infra.errors import CommandFailed

# Namespaces of its own: nothing that a command starts outlives it, or meets the machine's ports.
_ENTER = """
mount -t proc proc "$0/proc"; mount -t tmpfs tmpfs "$0/dev/shm"; mount -t tmpfs tmpfs "$0/run"
exec chroot "$0" "$@"
"""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_SUSPEND": "1",
}
_COMMAND_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Root:
    """A root directory that is not running; names are as the host will see them, with a leading slash."""

    path: Path

    def at(self, name: str) -> Path:
        """Where a file of the host lies on this machine."""
        return self.path / name.lstrip("/")

    def write(self, name: str, content: str | bytes, *, mode: int = 0o644, owner: str = "root") -> None:
        """Write a file, its directories included; `owner` is one of the host's own users."""
        file = self.at(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(mode)
        self.run("chown", f"{owner}:", name) if owner != "root" else None

    def copy(self, source: Path, name: str, *, mode: int = 0o644) -> None:
        """Copy a file of this machine."""
        file = self.at(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, file)
        file.chmod(mode)

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a command inside, without network and with /run empty; returns its output.

        Raises:
            CommandFailed: it ended with another code than 0.
        """
        return run(
            *("unshare", "--mount", "--pid", "--ipc", "--net", "--fork", "--kill-child"),
            *("sh", "-ec", _ENTER, str(self.path), *command),
            stdin=stdin,
            shown=" ".join(command),
        )

    def enable(self, *units: str) -> None:
        """Start these units at boot."""
        run("systemctl", f"--root={self.path}", "--quiet", "enable", *units)

    def mask(self, *units: str) -> None:
        """Make these units impossible to start; units that are not installed are allowed."""
        run("systemctl", f"--root={self.path}", "--quiet", "mask", *units)

    def install(self, *packages: Path) -> None:
        """Install package files without starting a service of theirs."""
        names = [f"/tmp/{package.name}" for package in packages]  # noqa: S108 (inside the host, alone)
        for package, name in zip(packages, names, strict=True):
            self.copy(package, name)
        self.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)
        try:
            self.run("dpkg", "--install", *names)
        finally:
            for name in ("/usr/sbin/policy-rc.d", *names):
                self.at(name).unlink()


def run(*command: str, stdin: str = "", shown: str | None = None) -> str:
    """Run a command of this machine with a clean environment; returns its output.

    Raises:
        CommandFailed: it ended with another code than 0; the error names `shown`, or the command.
    """
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        env=_ENVIRONMENT,
        timeout=_COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise CommandFailed(shown or " ".join(command), done.returncode, done.stderr or done.stdout)
    return done.stdout
