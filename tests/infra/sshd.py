"""A real sshd on loopback addresses, with keys of its own, for tests and benchmarks.

One daemon listens on all of 127.0.0.0/8, so any of its addresses is a host.
"""

from __future__ import annotations

import getpass
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.inventory import Host

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")

# SHLVL: bash, started by sshd at level 0, would read the account's ~/.bashrc, which is not what is tested
_CONFIG = """
Port {port}
ListenAddress 0.0.0.0
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/login_key.pub
PidFile none
StrictModes no
UsePAM no
UseDNS no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
MaxStartups 1000
Subsystem sftp internal-sftp
{extra}
"""


@dataclass
class Sshd:
    """A running daemon.

    Attributes:
        directory: holds its keys: host_key, login_key.
        port: on every loopback address.
    """

    directory: Path
    port: int
    process: subprocess.Popen[bytes]

    def host(self, name: str = "one", address: str = "127.0.0.1", **fields: object) -> Host:
        """An inventory host that is this daemon."""
        given: dict[str, object] = {
            "name": name,
            "environment": "test",
            "address": address,
            "port": self.port,
            "user": getpass.getuser(),
            "identity_file": str(self.directory / "login_key"),
        }
        return Host.model_validate(given | fields)

    def known_hosts_line(self, address: str = "127.0.0.1") -> str:
        """The line that trusts it."""
        type_, blob, *_ = (self.directory / "host_key.pub").read_text().split()
        return f"[{address}]:{self.port} {type_} {blob}\n"

    def freeze(self) -> None:
        """Stop the listener: TCP still connects, and no banner comes."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self.process.send_signal(signal.SIGCONT)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        return int(sock.getsockname()[1])


def make_key(path: Path, type_: str = "ed25519", passphrase: str = "") -> Path:
    """Make a key pair with ssh-keygen."""
    subprocess.run(["ssh-keygen", "-q", "-t", type_, "-N", passphrase, "-f", path], check=True)
    return path


@contextmanager
def running_sshd(directory: Path, *, extra: str = "", host_key_type: str = "ed25519") -> Iterator[Sshd]:
    """Start a daemon and stop it at the end."""
    assert SSHD, "no sshd on this machine"
    if Path("/run").is_dir():
        Path("/run/sshd").mkdir(exist_ok=True)  # its privilege separation directory, sshd(8)
    make_key(directory / "host_key", host_key_type)
    make_key(directory / "login_key")
    port = free_port()
    config = directory / "sshd_config"
    config.write_text(_CONFIG.format(port=port, directory=directory, extra=extra))
    with (directory / "sshd.log").open("w") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=log, stdout=log)
    try:
        _await_listening(port, directory / "sshd.log")
        yield Sshd(directory, port, process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


def _await_listening(port: int, log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"sshd does not listen: {log.read_text()}")
