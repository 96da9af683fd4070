"""Bring a lab up and take it down; both may be repeated, and both begin by clearing up after a crash."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infra.errors import NotYetHealthy, PermanentError
from infra.lab import cgroups, images, network, roles
from infra.lab.claims import claim, release
from infra.lab.client import LabClient
from infra.lab.directory import LabDirectory, cache, locked
from infra.lab.machine import ENVIRONMENT, require_machine, sh
from infra.lab.plan import HOSTS, Lab

START_TIMEOUT_S = 20

Progress = Callable[[str], None]


def up(name: str, progress: Progress = lambda _: None) -> LabClient:
    """Bring a lab up, building images that are not cached; one that is up stays as it is.

    Args:
        name: of the lab.
        progress: told of every step in a few words.

    Raises:
        GateClosed: this machine cannot have a lab.
        LockHeld: another process brings this lab up or down.
        PermanentError: the build or the start failed; the sentence names the log.
        NotYetHealthy: a host did not come up in time.
    """
    directory = LabDirectory.of(name)
    require_machine()
    with locked(f"upkeep-lab-{directory.group}", f"the lab {name!r}", wait=False):
        client = LabClient(name)
        complete = directory.socket.exists() and (directory.path / "env").exists()
        if directory.holder_pid() is None or not complete:
            _clear(directory)
            built = images.images_directory(cache())
            _build(built, progress)
            progress("starting the hosts")
            _start(directory, built)
        _await_hosts(client, progress)
    return client


def down(name: str) -> bool:
    """Take a lab down and remove everything of it from the machine.

    Returns:
        Whether there was anything of it.

    Raises:
        LockHeld: another process brings this lab up or down.
        PermanentError: something could not be removed.
    """
    directory = LabDirectory.of(name)
    with locked(f"upkeep-lab-{directory.group}", f"the lab {name!r}", wait=False):
        was_there = directory.path.exists()
        _clear(directory)
    return was_there


def _build(directory: Path, progress: Progress) -> None:
    """Build the images in a process whose mounts and children end with it, and which ends with us."""
    if directory.is_dir():
        return
    argv = ["setpriv", "--pdeathsig", "KILL"]
    argv += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += [sys.executable, "-m", "infra.lab.images", str(directory)]
    environment = {**os.environ, **ENVIRONMENT}
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env=environment) as build:  # fmt: skip
        assert build.stdout is not None  # noqa: S101 - it is a pipe
        assert build.stderr is not None  # noqa: S101 - it is a pipe
        for line in build.stdout:
            progress(line.strip())
        problem = build.stderr.read().strip()
    if build.returncode != 0:
        problem = problem or f"exit code {build.returncode}"
        raise PermanentError(f"the lab's images could not be built: {problem}")


def _start(directory: LabDirectory, built: Path) -> None:
    """Claim a network, write down what belongs to this very lab, start the holder and plug in the leg."""
    lab = claim(directory)
    _hand_over(lab, built / "shared", directory)
    # In the lab's own group, so that `down` ends it should we be killed in the middle.
    script = f'{cgroups.enter_script(directory.group, "copy")}; exec "$@"'
    copy = ("cp", "--sparse=always", "--reflink=auto", built / "pool.img", directory.pool)
    sh("sh", "-c", script, "copy", *copy, timeout_s=300)
    sh("btrfstune", "-m", "-f", directory.pool)
    _start_holder(directory)
    client = LabClient(directory.name)
    network.add_leg(lab, _await_holder(client))
    (directory.path / "env").write_text(environment_text(directory), encoding="utf-8")


def _start_holder(directory: LabDirectory) -> None:
    """Start the holder, detached; the shell notes its own pid and start time, then becomes `unshare`."""
    enter = cgroups.enter_script(directory.group, "holder")
    script = f'{enter}; cut -d" " -f1,22 "/proc/$$/stat" > "$0"; exec "$@"'
    argv = ["unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "--mount-proc"]
    argv += ["--kill-child=SIGKILL", sys.executable, "-m", "infra.lab.holder", str(directory.path)]
    with directory.log.open("ab") as log:
        subprocess.Popen(
            ["sh", "-c", script, str(directory.holder), *argv],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd="/", env=dict(ENVIRONMENT),
        )  # fmt: skip


def _await_holder(client: LabClient) -> int:
    """Wait until the holder answers; its pid."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if client.directory.socket.exists():
            return client.holder_pid()
        time.sleep(0.05)
    log = client.directory.log
    last = (log.read_text(encoding="utf-8").strip().splitlines() or ["no message"])[-1]
    raise PermanentError(f"the lab's holder does not start: {last} (log {log})")


def _await_hosts(client: LabClient, progress: Progress, timeout_s: float = 120) -> None:
    """Wait until every host has booted, telling how many have."""
    deadline = time.monotonic() + timeout_s
    while late := [row for row in client.status() if not row.up]:
        progress(f"booting: {len(HOSTS) - len(late)} of {len(HOSTS)} hosts are up")
        what = ", ".join(f"{row.name} is {row.state}" for row in late)
        if any(row.state == "crashed" for row in late) or time.monotonic() > deadline:
            raise NotYetHealthy(f"the lab is not up: {what}; see {client.directory.log}")
        time.sleep(0.2)


def _hand_over(lab: Lab, shared: Path, directory: LabDirectory) -> None:
    """Write what the control machine and the hosts need to know of this very lab."""
    path = directory.path
    shutil.copy(shared / "id_ed25519", path / "id_ed25519")
    shutil.copy(shared / "id_ed25519.pub", path / "id_ed25519.pub")
    keys = {host: (shared / "hostkeys" / host.name).read_text(encoding="ascii").split()[:2] for host in HOSTS}
    lines = [f"{','.join((*lab.addresses(host), host.name))} {' '.join(key)}\n" for host, key in keys.items()]
    (path / "known_hosts").write_text("".join(lines), encoding="ascii")
    names = {"localhost": "127.0.0.1", "control": lab.gateway, **roles.addresses(lab)}
    entries = "".join(f"{address} {name}\n" for name, address in names.items())
    (path / "hosts").write_text(entries, encoding="ascii")
    resolvers = [f"nameserver {address}\n" for host in HOSTS for address in lab.addresses(host)[1:]]
    (path / "resolv.conf").write_text("".join(resolvers), encoding="ascii")
    roles.hand_over(lab, shared, path)
    (path / "inventory.toml").write_text(roles.inventory_toml(lab, path), encoding="utf-8")


def environment_text(directory: LabDirectory) -> str:
    """Shell text that points Upkeep at the lab."""
    variables = {
        "UPKEEP_INVENTORY": directory.path / "inventory.toml",
        "UPKEEP_KNOWN_HOSTS": directory.path / "known_hosts",
        "UPKEEP_SECRETS_DIR": directory.path / "secrets",
    }
    return "".join(f"export {name}={value}\n" for name, value in variables.items())


def _clear(directory: LabDirectory) -> None:
    """End every process of a lab and remove its traces; the directory goes last, it knows what there is."""
    if pid := directory.holder_pid():
        os.kill(pid, signal.SIGKILL)
    release(directory)
    _await_loops(directory.path)
    if directory.path.exists():
        shutil.rmtree(directory.path)


def _await_loops(path: Path, timeout_s: float = 20) -> None:
    """Wait until the kernel has let go of the images; it does so some time after the last process."""
    deadline = time.monotonic() + timeout_s
    while devices := _loops_of(path):
        if time.monotonic() > deadline:
            raise PermanentError(f"loop devices of the lab are still in use: {', '.join(devices)}")
        time.sleep(0.05)


def _loops_of(path: Path) -> list[str]:
    lines = sh("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines)
    return [pair[0] for pair in pairs if len(pair) == 2 and pair[1].startswith(f"{path}/")]
