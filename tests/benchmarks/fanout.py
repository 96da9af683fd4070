"""Gathers all facts of N hosts with Upkeep, Ansible and pyinfra, in one run, and prints the ratios.

    python -m tests.benchmarks.fanout [--hosts 50 --hosts 200] [--rounds 3] [--no-ansible]

The hosts are loopback addresses of one sshd of our own, so the cost of sshd and of what hosts run is part
of every wall time, on the same cores. Upkeep and pyinfra run in fresh processes, imports not counted;
what they use of the cpu is theirs alone, without sshd. Ansible is its command line, forks 50, pipelining,
ControlPersist, interpreter given. pyinfra gathers a comparable set, one fact after the other on each host, as
its design has it; `pyinfra, 1 command` is what it takes to ask each host for no more than the load.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.infra.sshd import Sshd, running_sshd

# What the issue promises: (figure, of which figure at most this share).
GOALS = (
    ("upkeep", "first_wall_s", "pyinfra", "first_wall_s", 0.75),
    ("upkeep", "first_wall_s", "ansible", "first_wall_s", 0.12),
    ("upkeep", "second_wall_s", "pyinfra", "first_wall_s", 0.25),
    ("upkeep", "first_cpu_s", "pyinfra", "first_cpu_s", 0.5),
)
ONE_COMMAND_GOAL_MS = 5.0


@dataclass(frozen=True)
class Figures:
    """One tool, one round, seconds; None where the tool does not do it."""

    first_wall_s: float
    first_cpu_s: float
    second_wall_s: float | None = None
    second_cpu_s: float | None = None
    one_command_ms: float | None = None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, action="append", help="number of hosts; 50 and 200")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-ansible", action="store_true", help="leave out the slowest by far")
    parser.add_argument("--child", choices=sorted(CHILDREN), help=argparse.SUPPRESS)
    parser.add_argument("--spec", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        if asked.child.startswith("pyinfra"):  # as its command line does first of all: it runs on greenlets
            from gevent import monkey

            monkey.patch_all()
        print(json.dumps(asdict(CHILDREN[asked.child](asked.spec))))
        return
    for count in asked.hosts or (50, 200):
        with tempfile.TemporaryDirectory(prefix="fanout") as scratch:
            measure(count, asked.rounds, Path(scratch), with_ansible=not asked.no_ansible)


def measure(count: int, rounds: int, scratch: Path, *, with_ansible: bool) -> None:
    """All tools, `rounds` times in turn, on `count` hosts."""
    addresses = [f"127.1.{n // 200}.{n % 200 + 1}" for n in range(count)]
    with running_sshd(scratch, extra="MaxSessions 100\nSetEnv SHLVL=2") as sshd:
        (scratch / "known_hosts").write_text("".join(map(sshd.known_hosts_line, addresses)))
        spec = {"addresses": addresses, "port": sshd.port, "directory": str(scratch)}
        taken: dict[str, list[Figures]] = {}
        for _ in range(rounds):
            for tool in ("upkeep", "pyinfra", "pyinfra, 1 command"):
                taken.setdefault(tool, []).append(run_child(tool, spec, scratch))
            if with_ansible:
                taken.setdefault("ansible", []).append(run_ansible(sshd, addresses, scratch))
    report(count, {tool: median_of(figures) for tool, figures in taken.items()})


def median_of(figures: list[Figures]) -> dict[str, float | None]:
    """Figure by figure."""
    rows = [asdict(one) for one in figures]
    return {
        key: None if rows[0][key] is None else statistics.median(row[key] for row in rows) for key in rows[0]
    }


def report(count: int, tools: dict[str, dict[str, float | None]]) -> None:
    """A line for each tool, then a line for each goal."""
    print(f"\n{count} hosts, medians")
    for tool, figures in tools.items():
        shown = (f"{key} {value:.2f}" for key, value in figures.items() if value is not None)
        print(f"  {tool:20} {'  '.join(shown)}")
    for tool, figure, peer, of, goal in GOALS:
        mine, theirs = tools[tool][figure], tools.get(peer, {}).get(of)
        if mine is not None and theirs is not None:
            verdict(f"{tool} {figure} / {peer} {of}", mine / theirs, goal)
    one = tools["upkeep"]["one_command_ms"]
    if one is not None:
        verdict("one command on an open connection, ms", one, ONE_COMMAND_GOAL_MS)


def verdict(what: str, value: float, goal: float) -> None:
    """One goal."""
    print(f"  {'met   ' if value <= goal else 'MISSED'} {what}: {value:.3f}, goal {goal}")


def run_child(tool: str, spec: dict[str, Any], scratch: Path) -> Figures:
    """Run one tool in a process of its own."""
    environment = {
        **os.environ,
        "UPKEEP_HOME": str(scratch),
        "UPKEEP_KNOWN_HOSTS": str(scratch / "known_hosts"),
        "UPKEEP_SSH_CONFIG": os.devnull,
    }
    command = [sys.executable, "-m", __spec__.name, "--child", tool, "--spec", json.dumps(spec)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{tool} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Wall and cpu seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


def sweep_with_upkeep(spec: dict[str, Any]) -> Figures:
    """All facts twice, then one command a hundred times."""
    from infra import ssh
    from infra.facts import HostFacts
    from infra.inventory import Host
    from infra.probe import read_facts

    hosts = [
        Host(
            name=address,
            environment="benchmark",
            address=address,
            port=spec["port"],
            user="root",
            identity_file=f"{spec['directory']}/login_key",
        )
        for address in spec["addresses"]
    ]

    def sweep() -> None:
        require_all(ssh.fan_out(hosts, read_facts), HostFacts)

    first, second = timed(sweep), timed(sweep)
    session = ssh.session(hosts[0])
    singles = [timed(lambda: session.run("true"))[0] for _ in range(100)]
    return Figures(*first, *second, 1000 * statistics.median(singles))


def sweep_with_pyinfra(spec: dict[str, Any]) -> Figures:
    """A comparable set of facts."""
    from pyinfra.facts import hardware, server

    facts = (
        server.LinuxDistribution,
        server.KernelVersion,
        server.Arch,
        server.Hostname,
        server.Uptime,
        server.LoadAverage,
        server.Mounts,
        server.RebootRequired,
        hardware.Cpus,
        hardware.Memory,
        hardware.BlockDevices,
        hardware.NetworkDevices,
    )
    return _pyinfra(spec, [(fact, ()) for fact in facts])


def sweep_with_one_pyinfra_command(spec: dict[str, Any]) -> Figures:
    """What pyinfra cannot go below."""
    from pyinfra.facts import server

    return _pyinfra(spec, [(server.Command, ("cat /proc/loadavg",))])


def _pyinfra(spec: dict[str, Any], facts: list[tuple[Any, tuple[Any, ...]]]) -> Figures:
    """One fact after the other on each host, the hosts side by side."""
    from pyinfra.api import Config, Inventory, State
    from pyinfra.api.connect import connect_all
    from pyinfra.api.facts import get_facts

    data = {
        "ssh_port": spec["port"],
        "ssh_user": "root",
        "ssh_key": f"{spec['directory']}/login_key",
        "ssh_known_hosts_file": f"{spec['directory']}/known_hosts",
        "ssh_allow_agent": False,
        "ssh_look_for_keys": False,
    }
    state = State(Inventory((spec["addresses"], data)), Config())

    def gather() -> None:
        for fact, arguments in facts:
            answers = get_facts(state, fact, args=arguments)
            require_all(answers.values(), object)
            assert len(answers) == len(spec["addresses"])

    def sweep() -> None:
        connect_all(state)
        gather()

    return Figures(*timed(sweep), *timed(gather))


def require_all(answers: Iterable[object], kind: type) -> None:
    """A benchmark of failures would be fast."""
    bad = [answer for answer in answers if not isinstance(answer, kind)]
    assert not bad, bad[:3]


def run_ansible(sshd: Sshd, addresses: list[str], scratch: Path) -> Figures:
    """`setup` through Ansible's command line, with no connection left from before."""
    sockets = Path(tempfile.mkdtemp(prefix="cp", dir="/tmp"))  # a UNIX socket's path is 108 bytes at most
    inventory = scratch / "ansible.ini"
    common = (
        f"ansible_port={sshd.port} ansible_user=root ansible_python_interpreter={Path('/usr/bin/python3')} "
        f"ansible_ssh_private_key_file={scratch}/login_key"
    )
    inventory.write_text("[all]\n" + "".join(f"{address} {common}\n" for address in addresses))
    environment = {
        **os.environ,
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_ARGS": (
            f"-o ControlMaster=auto -o ControlPersist=20s -o UserKnownHostsFile={scratch}/known_hosts"
        ),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ansible = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [ansible, "all", "-i", inventory, "-m", "setup", "-f", "50", "-o"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    for socket in sockets.iterdir():  # the masters are ours: end them so that the next round starts cold
        subprocess.run(["ssh", "-O", "exit", "-S", socket, "x"], capture_output=True, check=False)
    shutil.rmtree(sockets, ignore_errors=True)
    succeeded = sum(" | SUCCESS => " in line for line in done.stdout.splitlines())
    if succeeded != len(addresses):
        said = done.stdout[-500:] + done.stderr[-2000:]
        raise SystemExit(f"ansible reached {succeeded} of {len(addresses)}:\n{said}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Figures(wall, cpu)


CHILDREN: dict[str, Callable[[dict[str, Any]], Figures]] = {
    "upkeep": sweep_with_upkeep,
    "pyinfra": sweep_with_pyinfra,
    "pyinfra, 1 command": sweep_with_one_pyinfra_command,
}

if __name__ == "__main__":
    main()
