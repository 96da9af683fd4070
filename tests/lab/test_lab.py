"""The lab itself: its hosts are real, every fault takes hold and ends, and nothing of it stays behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.errors import CommandFailed, GateClosed, LockHeld, PermanentError, ServiceUnavailable, Unreachable
from infra.lab import life
from infra.lab.client import LabClient
from infra.lab.directory import LabDirectory, locked
from infra.lab.machine import sh
from infra.lab.plan import HOSTS
from tests.lab.traces import inotify_limit, traces

pytestmark = pytest.mark.lab
WEB, SPARE = "stage-web-1", "prod-spare-1"


def ssh(lab: LabClient, host: str, *command: str) -> str:
    """As a user would, with the lab's own key and known hosts; gives up after some seconds."""
    options = ("-F", "none", "-i", lab.path / "id_ed25519", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes")
    checks = ("-o", f"UserKnownHostsFile={lab.path / 'known_hosts'}", "-o", "StrictHostKeyChecking=yes")
    limits = ("-o", "ConnectTimeout=2")
    return sh("ssh", *options, *checks, *limits, f"ops@{lab.address(host)}", *command, timeout_s=20)


def round_trip_ms(lab: LabClient, source: str, target: str, pings: int = 10) -> float:
    """Shortest round trip; none must be lost."""
    answer = lab.exec(source, "ping", "-q", "-c", str(pings), "-i", "0.2", "-W", "2", lab.address(target))
    assert " 0% packet loss" in answer
    assert "duplicates" not in answer
    found = re.search(r"= ([\d.]+)/", answer)
    assert found is not None, answer
    return float(found[1])


def boot_id(lab: LabClient, host: str) -> str:
    return lab.exec(host, "cat", "/proc/sys/kernel/random/boot_id")


def used_percent(lab: LabClient, host: str, place: str, what: str) -> int:
    return int(lab.exec(host, "df", f"--output={what}", place).split()[-1].rstrip("%"))


@pytest.fixture
def undone(lab: LabClient) -> Iterator[list[Callable[[], None]]]:
    """Undo faults also when an assertion fails."""
    undoings: list[Callable[[], None]] = []
    yield undoings
    for undo in undoings:
        undo()


def test_every_host_has_booted_a_systemd_of_its_own_without_a_failed_unit(lab: LabClient) -> None:
    assert [(s.name, s.state) for s in lab.status()] == [(h.name, "running") for h in HOSTS]
    assert len({boot_id(lab, host.name) for host in HOSTS}) == len(HOSTS)
    for host in HOSTS:
        assert lab.exec(host.name, "hostname").strip() == host.name
        assert lab.exec(host.name, "systemctl", "--failed", "--no-legend") == ""


def test_the_user_ops_gets_in_with_the_labs_key_and_becomes_root_without_a_password(lab: LabClient) -> None:
    for host in HOSTS:
        assert ssh(lab, host.name, "sudo", "-n", "id", "-un").strip() == "root"


def test_hosts_know_each_other_by_name_and_have_no_way_out(lab: LabClient) -> None:
    answer = lab.exec(WEB, "getent", "hosts", "support-1", "shop.production.lab", "resolver-1.lab", "control")
    addresses = [line.split()[0] for line in answer.splitlines()]
    assert addresses[:2] == [lab.address("support-1"), lab.address("prod-lb-1")]
    assert addresses[3] == lab.lab.gateway
    assert "default" not in lab.exec(WEB, "ip", "route")


def test_up_again_changes_nothing(lab: LabClient) -> None:
    before = {host: boot_id(lab, host) for host in (WEB, SPARE)}
    life.up(lab.path.name)
    assert {host: boot_id(lab, host) for host in before} == before


def test_exec_gives_output_and_refuses_what_failed(lab: LabClient) -> None:
    assert lab.exec(WEB, "cat", stdin="a mug") == "a mug"
    with pytest.raises(CommandFailed, match="ended with 3: too bad"):
        lab.exec(WEB, "sh", "-c", "echo too bad >&2; exit 3")
    with pytest.raises(Unreachable, match=r"did not end within 0\.2 s"):
        lab.exec(WEB, "sleep", "5", timeout_s=0.2)


def test_a_host_that_is_cut_off_is_silent_until_it_is_plugged_in_again(
    lab: LabClient, undone: list[Callable[[], None]]
) -> None:
    undone.append(lambda: lab.uncut(WEB))
    lab.cut(WEB)
    with pytest.raises(CommandFailed, match=r"timed out|No route"):
        ssh(lab, WEB, "true")
    assert lab.host(WEB).faults == ("cut",)
    lab.uncut(WEB)
    ssh(lab, WEB, "true")
    assert lab.host(WEB).faults == ()


def test_a_frozen_host_takes_connections_and_says_nothing(
    lab: LabClient, undone: list[Callable[[], None]]
) -> None:
    undone.append(lambda: lab.thaw(WEB))
    lab.freeze(WEB)
    connection = socket.create_connection((lab.address(WEB), 22), timeout=2)
    with connection, pytest.raises(TimeoutError):
        connection.recv(1)
    lab.thaw(WEB)
    ssh(lab, WEB, "true")


def test_latency_lengthens_every_round_trip_or_those_with_one_peer(
    lab: LabClient, undone: list[Callable[[], None]]
) -> None:
    undone.append(lambda: lab.latency(WEB, 0))
    lab.latency(WEB, 60)
    assert 60 <= round_trip_ms(lab, SPARE, WEB) < 90
    assert ssh(lab, WEB, "head -c 1000000 /dev/zero | wc -c").strip() == "1000000"
    lab.latency(WEB, 60, peer="prod-db-1")
    assert round_trip_ms(lab, SPARE, WEB) < 30
    assert 60 <= round_trip_ms(lab, "prod-db-1", WEB) < 90
    lab.latency(WEB, 0)
    assert round_trip_ms(lab, "prod-db-1", WEB) < 30


def test_latency_is_in_force_and_the_host_within_reach_as_soon_as_it_was_asked_for(
    lab: LabClient, undone: list[Callable[[], None]]
) -> None:
    undone.append(lambda: lab.latency(WEB, 0))
    for _ in range(5):
        lab.latency(WEB, 60)
        assert 60 <= round_trip_ms(lab, SPARE, WEB, pings=1) < 200  # ARP may come first
        lab.latency(WEB, 0)
        assert round_trip_ms(lab, SPARE, WEB, pings=1) < 60


def test_a_full_disk_refuses_writes_and_has_room_again_afterwards(
    lab: LabClient, undone: list[Callable[[], None]]
) -> None:
    undone.append(lambda: lab.unfill(SPARE))
    lab.fill(SPARE)
    assert used_percent(lab, SPARE, "/", "pcent") >= 97
    script = "head -c 600M /dev/urandom > /root/more; code=$?; rm /root/more; exit $code"
    with pytest.raises(CommandFailed, match="No space left"):
        lab.exec(SPARE, "sh", "-c", script)
    lab.unfill(SPARE)
    assert used_percent(lab, SPARE, "/", "pcent") < 50


def test_exhausted_inodes_leave_space_but_no_room_for_a_file(
    lab: LabClient, undone: list[Callable[[], None]]
) -> None:
    undone.append(lambda: lab.unfill(SPARE))
    lab.fill_inodes(SPARE)
    assert used_percent(lab, SPARE, "/srv/data", "ipcent") == 100
    assert used_percent(lab, SPARE, "/srv/data", "pcent") < 50
    with pytest.raises(CommandFailed, match="No space left"):
        lab.exec(SPARE, "touch", "/srv/data/one-more")
    lab.unfill(SPARE)
    lab.exec(SPARE, "sh", "-c", "touch /srv/data/one-more && rm /srv/data/one-more")
    with pytest.raises(PermanentError, match="no data disk"):
        lab.fill_inodes(WEB)


def test_disk_load_keeps_the_hosts_own_device_busy_all_of_the_time_and_ends(
    lab: LabClient, undone: list[Callable[[], None]]
) -> None:
    undone.append(lambda: lab.io_calm(SPARE))
    device = lab.exec(SPARE, "findmnt", "-nvo", "SOURCE", "/").strip().removeprefix("/dev/")

    def busy_percent(seconds: float) -> float:
        def busy_ms() -> int:
            lines = (line.split() for line in Path("/proc/diskstats").read_text().splitlines())
            return next(int(fields[12]) for fields in lines if fields[2] == device)

        before, began = busy_ms(), time.monotonic()
        time.sleep(seconds)
        return (busy_ms() - before) / (time.monotonic() - began) / 10

    lab.io_load(SPARE)
    time.sleep(0.5)
    assert busy_percent(2) > 95
    lab.io_calm(SPARE)
    time.sleep(0.5)
    assert busy_percent(1) < 50


def test_a_reboot_gives_a_new_boot_id_and_a_power_loss_a_crashed_host(
    lab: LabClient, undone: list[Callable[[], None]]
) -> None:
    undone.append(lambda: lab.boot(WEB))
    before = boot_id(lab, WEB)
    lab.reboot(WEB)
    assert boot_id(lab, WEB) != before
    lab.kill(WEB)
    assert lab.host(WEB).state == "crashed"
    with pytest.raises(Unreachable, match="the host is off"):
        lab.exec(WEB, "true")
    lab.boot(WEB)
    lab.stop(WEB)
    assert lab.host(WEB).state == "off"
    lab.boot(WEB)
    assert lab.host(WEB).state == "running"


def test_a_reset_takes_back_files_addresses_and_faults(lab: LabClient) -> None:
    script = "touch /etc/mark /var/log/mark /srv/data/mark; ip addr add 198.18.255.9/32 dev host0"
    lab.exec(SPARE, "sh", "-c", script)
    lab.latency(SPARE, 20)
    lab.freeze(SPARE)
    lab.reset(SPARE)
    for place in ("/etc", "/var/log", "/srv/data"):
        assert "mark" not in lab.exec(SPARE, "ls", place).split()
    assert "198.18.255.9" not in lab.exec(SPARE, "ip", "addr")
    assert lab.host(SPARE).faults == ()
    assert round_trip_ms(lab, WEB, SPARE) < 15


def test_a_root_that_the_host_set_as_default_is_booted_and_logs_survive_it(
    lab: LabClient, mended: list[str]
) -> None:
    mended.append(SPARE)
    script = """
        btrfs subvolume snapshot / /.btrfs/@old && touch /etc/newer /var/log/newer &&
        btrfs subvolume set-default /.btrfs/@old
    """
    lab.exec(SPARE, "sh", "-c", script)
    lab.reboot(SPARE)
    assert "newer" not in lab.exec(SPARE, "ls", "/etc").split()
    assert "newer" in lab.exec(SPARE, "ls", "/var/log").split()


def test_what_the_lab_cannot_do_is_refused_with_what_it_can(lab: LabClient) -> None:
    with pytest.raises(PermanentError, match="no lab host is called 'web-9'; there are: prod-lb-1"):
        lab.cut("web-9")
    with pytest.raises(PermanentError, match="percent = 150: accepted are 1 to 100"):
        lab.fill(SPARE, percent=150)
    with pytest.raises(ServiceUnavailable, match="upkeep lab up --name never-started"):
        LabClient("never-started").status()
    with pytest.raises(GateClosed, match="cannot be called 'No/Path'"):
        LabClient("No/Path")


def test_two_processes_do_not_bring_one_lab_up_at_once() -> None:
    group = LabDirectory.of("contested").group
    with locked(f"upkeep-lab-{group}", "it", wait=False), pytest.raises(LockHeld, match="another process"):
        life.up("contested")


@pytest.mark.parametrize("moment", ["claimed", "booting", "up, and its holder is killed"])
def test_a_crash_leaves_nothing_after_the_next_down(lab: LabClient, moment: str) -> None:
    name = f"crash-{os.getpid()}"
    directory, limit = LabDirectory.of(name), inotify_limit()
    start = subprocess.Popen([sys.executable, "-c", f"from infra.lab import life; life.up({name!r})"])
    try:
        reached = {"claimed": directory.path / "lab.json", "booting": directory.holder}.get(moment)
        while start.poll() is None and (reached is None or not reached.exists()):
            time.sleep(0.01)
    finally:
        start.kill()
        start.wait()
    claimed = directory.lab()
    if moment.startswith("up") and (holder := directory.holder_pid()):
        os.kill(holder, signal.SIGKILL)
    assert life.down(name) is True
    assert traces(directory, claimed) == []
    assert inotify_limit() == limit
    assert lab.host(WEB).state == "running"
