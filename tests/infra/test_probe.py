"""The probe under every shell and awk that a host may have, against psutil on the same machine."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra import metrics, probe, ssh
from infra.errors import PermanentError, TransientError
from infra.facts import HostFacts, rates_between
from infra.inventory import Host
from infra.settings import settings
from tests.infra.sshd import SSHD, Sshd, running_sshd

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the probe reads /proc"),
    pytest.mark.skipif(not SSHD, reason="no sshd on this machine: apt install openssh-server"),
]

LOCAL = Host(name="here", environment="test", address="127.0.0.1", connection="local")
BUSYBOX = shutil.which("busybox")
TOOLS = ("awk", "cat", "stat", "date", "uname")
# name -> (sh, awk); None for what busybox brings itself
KINDS = {
    "dash": ("dash", "mawk"),
    "bash": ("bash", "mawk"),
    "gawk": ("dash", "gawk"),
    "busybox": (None, None),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = tmp_path / "upkeep"
    directory.mkdir()
    monkeypatch.setenv("UPKEEP_HOME", str(directory))
    monkeypatch.setenv("UPKEEP_SSH_CONFIG", "/dev/null")
    monkeypatch.delenv("UPKEEP_KNOWN_HOSTS", raising=False)
    settings.cache_clear()
    yield directory
    ssh.close_all()
    settings.cache_clear()


def trusted_host(daemon: Sshd, home: Path) -> Host:
    (home / "known_hosts").write_text(daemon.known_hosts_line())
    return daemon.host()


@pytest.fixture(scope="session", params=KINDS)
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd whose logins find this shell and this awk first."""
    shell, awk = KINDS[request.param]
    tools = tmp_path_factory.mktemp("tools")
    for name, program in (("sh", shell), ("awk", awk)):
        found = shutil.which(program) if program else BUSYBOX
        if not found:
            pytest.skip(f"{program or 'busybox'} is not installed")
        (tools / name).symlink_to(found)
    if shell is None and BUSYBOX:
        for name in TOOLS:
            (tools / name).unlink(missing_ok=True)
            (tools / name).symlink_to(BUSYBOX)
    path = f"{tools}:/usr/bin:/bin"
    with running_sshd(tmp_path_factory.mktemp("sshd"), extra=f'SetEnv SHLVL=2 PATH="{path}"') as running:
        yield running


@pytest.fixture
def facts(daemon: Sshd, home: Path) -> HostFacts:
    return probe.read_facts(trusted_host(daemon, home))


def test_identity_agrees_with_the_machine(facts: HostFacts) -> None:
    assert facts.hostname == platform.node()
    assert facts.kernel == platform.release()
    assert facts.architecture == platform.machine()
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts.os.id == platform.freedesktop_os_release()["ID"]
    assert facts.os.name == platform.freedesktop_os_release()["PRETTY_NAME"]


def test_memory_load_and_uptime_agree_with_psutil(facts: HostFacts) -> None:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    assert facts.cpus == psutil.cpu_count()
    assert facts.memory.total_bytes == memory.total
    assert facts.memory.available_bytes == pytest.approx(memory.available, rel=0.1)
    assert facts.swap.total_bytes == swap.total
    assert facts.swap.available_bytes == pytest.approx(swap.free, abs=50e6)
    assert facts.load == pytest.approx(psutil.getloadavg(), abs=3)
    if facts.container is None:
        assert facts.uptime_s == pytest.approx(time.time() - psutil.boot_time(), abs=10)


def test_filesystems_agree_with_psutil(facts: HostFacts) -> None:
    known = {f.mount: f for f in metrics.read_numbers()["filesystems"]}
    assert facts.filesystems, "this machine has at least a root"
    assert {f.mount for f in facts.filesystems} >= known.keys()
    for filesystem in facts.filesystems:
        oracle = psutil.disk_usage(filesystem.mount)
        assert filesystem.size_bytes == pytest.approx(oracle.total, rel=0.001)
        assert filesystem.used_bytes == pytest.approx(oracle.used, rel=0.05)
        assert filesystem.available_bytes == pytest.approx(oracle.free, rel=0.05)
    assert len({f.device for f in facts.filesystems}) == len(facts.filesystems)


def test_counters_agree_with_psutil_and_turn_into_rates(daemon: Sshd, facts: HostFacts) -> None:
    oracle = metrics.read_counters()
    after = probe.read_counters(daemon.host())
    assert facts.counters.cpu_total_s <= after.cpu_total_s
    assert after.cpu_total_s == pytest.approx(oracle.cpu_total_s, abs=5 * (psutil.cpu_count() or 1))
    assert after.cpu_busy_s == pytest.approx(oracle.cpu_busy_s, abs=5 * (psutil.cpu_count() or 1))
    by_name = {disk.device: disk for disk in after.disks}
    for disk in oracle.disks:
        assert by_name[disk.device].read_bytes == pytest.approx(disk.read_bytes, rel=0.05, abs=50e6)
        assert by_name[disk.device].busy_ms == pytest.approx(disk.busy_ms, rel=0.05, abs=2000)
    links, expected = ({i.name: i.up for i in c.interfaces} for c in (after, oracle))
    assert links == expected
    rates = rates_between(facts.counters, after)
    assert rates is None or 0 <= rates.cpu_percent <= 100


@pytest.fixture(scope="module")
def eater() -> Iterator[int]:
    """The pid of a process that holds 400 MB, old enough to have a rate."""
    script = "x = bytearray(b'x') * 400_000_000; print(1, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout
        process.stdout.readline()
        time.sleep(2.1)  # younger ones have no rate
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_a_process_that_eats_memory_is_among_the_top(daemon: Sshd, home: Path, eater: int) -> None:
    top = {p.pid: p for p in probe.read_facts(trusted_host(daemon, home)).top_processes}
    resident = psutil.Process(eater).memory_info().rss
    assert top[eater].memory_bytes == pytest.approx(resident, rel=0.1)
    assert top[eater].command.startswith("python")


def test_a_process_with_a_hostile_name_harms_nothing(daemon: Sshd, home: Path, tmp_path: Path) -> None:
    name = 'x) "R\\\t1 (y'
    sleeper = tmp_path / name
    shutil.copy("/bin/sleep", sleeper)
    process = subprocess.Popen([sleeper, "30"])
    try:
        assert len(probe.read_facts(trusted_host(daemon, home)).top_processes) > 2
    finally:
        process.kill()
        process.wait()


def test_the_clock_is_measured_against_the_round_trip(facts: HostFacts) -> None:
    assert facts.clock.offset_s is not None
    assert facts.clock.uncertainty_s is not None
    assert abs(facts.clock.offset_s) <= facts.clock.uncertainty_s + 0.01, "it is the same clock"
    assert facts.clock.uncertainty_s < 5


def test_without_systemd_its_facts_are_refused_with_a_reason(daemon: Sshd, home: Path) -> None:
    facts = probe.read_facts(trusted_host(daemon, home), ["ssh.service"])
    if Path("/run/systemd/system").exists():
        assert facts.failed_units is not None
        assert facts.units.keys() == {"ssh.service"}
    else:
        assert facts.failed_units is None
        assert facts.units == {}
        assert facts.refused["failed_units"] == "systemd does not run here"


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_nothing_is_left_behind_because_nothing_is_opened_for_writing(tmp_path: Path, shell: str) -> None:
    calls = "trace=open,openat,creat,mkdir,mkdirat,rename,renameat,link,symlink,unlink,unlinkat,truncate"
    strace = ["strace", "-f", "-qq", "-o", tmp_path / "calls", "-e", calls]
    command = [*strace, shell, "-s", "--", "M", "facts", "-"]
    subprocess.run(command, input=probe._script(), text=True, check=True, capture_output=True)
    seen = (tmp_path / "calls").read_text().splitlines()
    opened = [call for call in seen if "open" in call]
    assert len(opened) > 50
    writing = [call for call in opened if "O_WRONLY" in call or "O_RDWR" in call or "O_CREAT" in call]
    assert [call for call in writing if '"/dev/null"' not in call and '"/dev/tty"' not in call] == []
    assert [call for call in seen if "open" not in call and "+++" not in call and "---" not in call] == []


def test_this_machine_read_with_psutil_agrees_with_the_probe(facts: HostFacts) -> None:
    here = probe.read_facts(LOCAL)
    for same in ("hostname", "os", "kernel", "architecture", "boot_id", "cpus", "container", "failed_units"):
        assert getattr(here, same) == getattr(facts, same), same
    assert here.memory.total_bytes == facts.memory.total_bytes
    assert here.uptime_s == pytest.approx(facts.uptime_s, abs=10)
    assert {f.mount for f in here.filesystems} == {f.mount for f in facts.filesystems}
    assert {d.device for d in here.counters.disks} == {d.device for d in facts.counters.disks}
    assert here.shared == frozenset()


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[tuple[Sshd, Path]]:
    """A login whose profile and banner print what they like."""
    profile = tmp_path / "profile"
    banner = tmp_path / "banner"
    banner.write_text("*** AUTHORISED USE ONLY {\"cpus\": 999} ***\n" * 50)
    extra = f"SetEnv SHLVL=2 BASH_ENV={profile}\nBanner {banner}"
    with running_sshd(tmp_path, extra=extra) as daemon:
        yield daemon, profile


@pytest.mark.parametrize(
    "noise",
    [
        "echo 'Welcome! {\"cpus\": 999}'",
        "echo upkeep-0123456789abcdef01234567; echo '{}'; echo upkeep-0123456789abcdef01234567",
        "printf 'no newline at the end'",
        "trap 'echo good bye' EXIT",
        "echo noise >&2; alias awk=false; set -u; umask 777",
        "head -c 3000000 /dev/zero | tr '\\0' 'x'",
        "printf '\\377\\376\\033[2J'",
    ],
)
def test_whatever_a_profile_prints_the_facts_come_through(
    hostile: tuple[Sshd, Path], home: Path, noise: str
) -> None:
    daemon, profile = hostile
    profile.write_text(f"{noise}\n")
    if b"bash" not in subprocess.check_output(["getent", "passwd", str(psutil.Process().username())]):
        pytest.skip("the login shell is not bash")
    assert probe.read_facts(trusted_host(daemon, home)).cpus == psutil.cpu_count()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo 'This account is not available.'; echo more", "said 'This account is not available.'"),
        ("true", "said 'nothing'"),
        ("echo router: unknown command >&2; exit 1", "said 'router: unknown command'"),
    ],
)
def test_a_login_without_a_shell_is_permanent_and_quotes_it(
    tmp_path: Path, home: Path, command: str, said: str
) -> None:
    with running_sshd(tmp_path, extra=f"ForceCommand {command}") as daemon:
        host = trusted_host(daemon, home)
        with pytest.raises(PermanentError, match=f"the login runs no POSIX shell: .*{said}"):
            probe.read_facts(host)


def test_an_answer_that_breaks_off_may_be_asked_for_again(tmp_path: Path, home: Path) -> None:
    extra = """ForceCommand set -- $SSH_ORIGINAL_COMMAND; echo $5; echo '{"cpus": 1,'"""
    with running_sshd(tmp_path, extra=extra) as daemon, pytest.raises(TransientError, match="broke off"):
        probe.read_facts(trusted_host(daemon, home))


@pytest.mark.parametrize("unit", ["", "-H evil", "a b", "x;reboot", "$(reboot)", "../etc"])
def test_a_unit_name_that_is_none_never_reaches_a_host(unit: str) -> None:
    with pytest.raises(PermanentError, match="is not the name of a systemd unit"):
        probe.read_facts(LOCAL, [unit])


@pytest.mark.parametrize(
    ("began", "ended", "sent", "came_back", "offset", "uncertainty"),
    [
        ("100.000", "100.010", 100.0, 100.010, 0.0, 0.0),
        ("105.005", "105.015", 100.0, 100.020, 5.0, 0.005),
        ("99.005", "99.015", 100.0, 100.020, -1.0, 0.005),
        # all of the way lies on one side: off by no more than the uncertainty
        ("100.100", "100.110", 100.0, 100.110, 0.05, 0.05),
        # date(1) without fractions
        ("100.%N", "100.%N", 100.2, 100.4, 0.2, 0.6),
        ("100", "100", 100.2, 100.4, 0.2, 0.6),
    ],
)
def test_the_offset_of_a_clock_lies_between_its_bounds(
    began: str, ended: str, sent: float, came_back: float, offset: float, uncertainty: float
) -> None:
    clock = probe.judge_clock({"began": began, "ended": ended, "synchronised": True}, sent, came_back)
    assert clock.offset_s == pytest.approx(offset, abs=1e-6)
    assert clock.uncertainty_s == pytest.approx(uncertainty, abs=1e-6)


def test_a_host_without_a_clock_has_no_offset() -> None:
    clock = probe.judge_clock({"began": "", "ended": "", "synchronised": None}, 1.0, 2.0)
    assert (clock.offset_s, clock.uncertainty_s) == (None, None)
