"""The one process that owns a lab: its namespaces, mounts, loop devices, bridge and hosts end with it.

Started by `infra.lab.life` under ``unshare --mount --net --pid --ipc --fork --kill-child --mount-proc`` as
``python -m infra.lab.holder DIRECTORY``. As PID 1 of its namespace it forks once: the parent only reaps, the
child works. It serves ``control.sock``: one JSON object a line, ``{"do": "cut", "host": "prod-web-1", ...}``,
answered by ``{"ok": ...}`` or ``{"error": "a sentence"}``.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socketserver
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from infra.errors import GateClosed, UpkeepError
from infra.lab import network
from infra.lab.directory import LabDirectory
from infra.lab.faults import Faults
from infra.lab.host import REBOOT, RunningHost, State
from infra.lab.machine import sh
from infra.lab.plan import HOSTS, LabHost

logger = logging.getLogger(__name__)

#: Hosts that are prepared at once.
AT_ONCE = 4


class Member:
    """A host, its faults, and the lock under which one thing at a time is done to it."""

    def __init__(self, plan: LabHost, directory: LabDirectory) -> None:
        self.host = RunningHost(plan, directory.lab(), directory)
        self.faults = Faults(self.host)
        self.lock = threading.Lock()

    def start(self) -> None:
        """First boot, or the first one again: disks, addresses and cable as at `up`."""
        with self.lock:
            self.faults.mend_outside()
            self.host.kill()
            self.host.renew()
            self.host.boot()

    def first_start(self) -> None:
        """`start` with nobody to tell of a failure but the log and the host's state."""
        try:
            self.start()
        except UpkeepError:
            logger.exception("%s: cannot be started", self.host.plan.name)
            self.host.state = State.CRASHED

    def do(self, verb: str, arguments: dict[str, Any]) -> None:
        """One request about this host.

        Raises:
            GateClosed: there is no such verb.
        """
        host, faults = self.host, self.faults
        verbs: dict[str, Callable[..., None]] = {
            "boot": host.boot, "reboot": lambda: host.signal(REBOOT),
            "stop": host.power_off, "kill": self._kill,
            "cut": faults.cut, "uncut": faults.uncut, "freeze": faults.freeze, "thaw": faults.thaw,
            "fill": faults.fill, "fill_inodes": faults.fill_inodes, "unfill": faults.unfill,
            "latency": faults.latency, "io_load": faults.io_load, "io_calm": faults.io_calm,
        }  # fmt: skip
        if verb == "reset":
            self.start()
            return
        if verb not in verbs:
            raise GateClosed(f"the lab cannot do {verb!r}; it can: reset, {', '.join(verbs)}")
        with self.lock:
            verbs[verb](**arguments)

    def status(self) -> dict[str, Any]:
        """What `LabClient.status` returns for the host."""
        if not self.faults.active & {"frozen"}:
            self.host.refresh()
        return {
            "name": self.host.plan.name, "state": self.host.state, "booted_at": self.host.booted_at,
            "boots": self.host.boots, "faults": sorted(self.faults.active),
        }  # fmt: skip

    def _kill(self) -> None:
        self.faults.thaw()
        self.host.kill()


class Holder:
    """A lab that is up."""

    def __init__(self, directory: LabDirectory) -> None:
        self.directory = directory
        self.members = {plan.name: Member(plan, directory) for plan in HOSTS}
        self._pool = ThreadPoolExecutor(AT_ONCE)

    def prepare(self) -> None:
        """Everything that the hosts stand on."""
        sh("mount", "-t", "tmpfs", "tmpfs", "/run")
        self.directory.mounts.mkdir(exist_ok=True)
        pool = self.directory.mounts / "pool"
        pool.mkdir(exist_ok=True)
        sh("mount", "-o", "loop,noatime,nobarrier", self.directory.pool, pool)
        (pool / "hosts").mkdir(exist_ok=True)
        network.make_bridge()
        for plan in HOSTS:
            network.connect(plan)
            (self.directory.mounts / plan.name).mkdir(exist_ok=True)

    def start_hosts(self) -> None:
        """Begin to boot every host; a failure stands in the log and in the host's state."""
        for member in self.members.values():
            self._pool.submit(member.first_start)

    def answer(self, request: dict[str, Any]) -> Any:
        """Do what one line of the control socket asks for."""
        verb, name = request.pop("do"), request.pop("host", None)
        if verb == "status":
            return list(self._pool.map(Member.status, self.members.values()))
        if name not in self.members:
            raise GateClosed(f"no lab host is called {name!r}; there are: {', '.join(self.members)}")
        logger.info("%s: %s %s", name, verb, request or "")
        return self.members[name].do(verb, request)


def serve(holder: Holder, socket: Path) -> None:
    """Answer requests until the process is ended."""

    class Line(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                try:
                    answer = {"ok": holder.answer(json.loads(line))}
                except UpkeepError as error:
                    answer = {"error": str(error)}
                except (OSError, TypeError, ValueError, KeyError) as error:
                    logger.exception("request failed")
                    answer = {"error": f"{type(error).__name__}: {error}"}
                self.wfile.write(json.dumps(answer).encode() + b"\n")

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        request_queue_size = 64

    os.umask(0o077)
    with Server(str(socket), Line) as server:
        os.umask(0o022)
        server.serve_forever()


def restore_signals() -> None:
    """Be as a process that a shell started: whoever ran `lab up` may have ignored or blocked signals."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def reap_until_end(child: int) -> None:
    """As PID 1: collect orphans, and end when the worker does."""
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def main() -> None:
    """Own the lab whose directory is the first argument."""
    restore_signals()
    if child := os.fork():
        reap_until_end(child)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    directory = LabDirectory(Path(sys.argv[1]))
    holder = Holder(directory)
    try:
        holder.prepare()
    except UpkeepError as problem:
        sys.exit(str(problem))
    holder.start_hosts()
    serve(holder, directory.socket)


if __name__ == "__main__":
    main()
