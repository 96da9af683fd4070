"""Commands over a real connection: what comes back, and what happens when it breaks."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from infra import ssh
from infra.errors import CommandFailed, PermanentError, Unreachable, UpkeepError
from infra.inventory import Host
from infra.ssh.session import CommandResult, Session, as_root, judge_result
from tests.infra.sshd import Sshd

HERE = Host(name="here", environment="test", address="127.0.0.1", connection="local")


@pytest.fixture(params=["ssh", "local"])
def session(request: pytest.FixtureRequest) -> Session:
    """Both kinds of door: they must behave alike."""
    if request.param == "local":
        return ssh.session(HERE)
    return ssh.session(request.getfixturevalue("trusted").host())


def test_a_command_returns_both_streams_and_its_exit_code(session: Session) -> None:
    result = session.run("echo out; echo err >&2; exit 3", check=False)
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    assert 0 < result.elapsed_s < 5


def test_a_failed_command_raises_with_its_last_words(session: Session) -> None:
    with pytest.raises(CommandFailed, match="`echo no >&2; exit 4` ended with 4: no") as failure:
        session.run("echo no >&2; exit 4")
    assert failure.value.host == session.host.name


def test_a_command_that_a_signal_ends_has_the_exit_code_minus_one(session: Session) -> None:
    assert session.run("kill -9 $$", check=False).exit_code == -1


def test_ten_megabytes_go_through_a_command_without_a_deadlock(session: Session) -> None:
    text = "0123456789" * 1_000_000
    assert session.run("cat", stdin=text).stdout == text


def test_input_that_the_command_does_not_read_is_no_error(session: Session) -> None:
    assert session.run("exec 0<&-; echo done", stdin="x" * 5_000_000).stdout == "done\n"


def test_bytes_that_are_no_utf_8_are_replaced(session: Session) -> None:
    assert session.run(r"printf 'a\377b'").stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_a_command_out_of_time_is_unreachable_and_the_session_goes_on(session: Session) -> None:
    start = time.monotonic()
    with pytest.raises(Unreachable, match=r"`sleep 30` did not end within 0.3 s"):
        session.run("sleep 30", timeout=timedelta(seconds=0.3))
    assert time.monotonic() - start < 5
    assert session.run("echo on").stdout == "on\n"


def test_forty_threads_on_one_connection_each_get_their_own_answer(trusted: Sshd) -> None:
    session = ssh.session(trusted.host())
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda n: session.run(f"echo {n}; echo {n} >&2"), range(1200)))
    assert [(a.stdout, a.stderr) for a in answers] == [(f"{n}\n", f"{n}\n") for n in range(1200)]
    clients = {session.run("echo $SSH_CONNECTION").stdout for _ in range(5)}
    assert len(clients) == 1, "all of it went over one connection"


def test_a_connection_that_died_between_commands_is_replaced_unseen(trusted: Sshd) -> None:
    session = ssh.session(trusted.host())
    first = session.run("echo $SSH_CONNECTION; echo $PPID").stdout.split()
    subprocess.run(["kill", "-9", first[-1]], check=True)
    second = session.run("echo $SSH_CONNECTION; echo $PPID").stdout.split()
    assert first != second


def test_a_command_on_a_dying_connection_runs_only_once(trusted: Sshd, tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    session = ssh.session(trusted.host())
    with pytest.raises(Unreachable, match=r"died while .* ran; it may have run"):
        session.run(f"echo ran >> {traces}; kill -9 $PPID; sleep 5")
    assert session.run("echo back").stdout == "back\n"
    assert traces.read_text() == "ran\n"


def test_a_frozen_host_is_reported_and_not_waited_for(trusted: Sshd) -> None:
    session = ssh.session(trusted.host())
    child = session.run("echo $PPID").stdout.strip()
    subprocess.run(["kill", "-STOP", child], check=True)
    trusted.freeze()
    try:
        start = time.monotonic()
        with pytest.raises(Unreachable, match=r"127.0.0.1:\d+ accepts TCP but sends no SSH banner"):
            session.run("true")
        assert time.monotonic() - start < 7
    finally:
        trusted.thaw()
        subprocess.run(["kill", "-KILL", child], check=True)
    assert session.run("echo thawed").stdout == "thawed\n"


def test_a_fan_out_answers_in_order_and_turns_failures_into_values(trusted: Sshd) -> None:
    hosts = [trusted.host("a"), trusted.host("b", port=1), HERE, trusted.host("c", "127.0.0.2")]
    answers = ssh.fan_out(hosts, lambda host: ssh.session(host).run(f"echo {host.name}").stdout)
    assert answers[0], answers[2:] == ("a\n", ("here\n", "c\n"))
    assert isinstance(answers[1], Unreachable)
    assert answers[1].host == "b"


def test_a_fan_out_of_nothing_is_nothing() -> None:
    assert ssh.fan_out([], str) == ()


def test_a_bug_in_a_fan_out_is_not_hidden() -> None:
    def buggy(host: Host) -> int:
        return len(host.name) // 0

    with pytest.raises(ZeroDivisionError):
        ssh.fan_out([HERE], buggy)


def test_many_fan_outs_over_few_addresses_do_not_tread_on_each_other(trusted: Sshd) -> None:
    hosts = [trusted.host(f"h{n}", f"127.0.0.{1 + n % 3}") for n in range(60)]
    for _ in range(3):
        answers = ssh.fan_out(hosts, lambda host: ssh.session(host).run(f"echo {host.name}").stdout)
        assert answers == tuple(f"{host.name}\n" for host in hosts)
        ssh.close_all()


def test_closing_many_connections_takes_no_time(trusted: Sshd) -> None:
    ssh.fan_out(
        [trusted.host(a, a) for a in ("127.0.0.1", "127.0.0.2")], lambda h: ssh.session(h).run("true")
    )
    start = time.monotonic()
    ssh.close_all()
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("exit_code", "stderr", "said"),
    [
        (1, "sudo: a password is required\n", "sudo refused .a password is required.*NOPASSWD"),
        (1, "motd\nsudo: ops is not in the sudoers file\n", "not in the sudoers file"),
        (127, "sh: 1: sudo: not found\n", "sudo is not installed"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_a_sudo_that_refuses_is_permanent_and_says_what_to_do(
    exit_code: int, stderr: str, said: str, check: bool
) -> None:
    result = CommandResult("apt-get update", "", stderr, exit_code, 0.1)
    with pytest.raises(PermanentError, match=said) as refusal:
        judge_result(result, HERE, sudo=True, check=check)
    assert not isinstance(refusal.value, CommandFailed)


def test_a_command_of_root_that_fails_by_itself_is_no_fault_of_sudo() -> None:
    failed = CommandResult("false", "", "apt: broken\n", 1, 0.1)
    assert judge_result(failed, HERE, sudo=True, check=False) is failed
    with pytest.raises(CommandFailed):
        judge_result(failed, HERE, sudo=True, check=True)


def test_a_command_for_root_keeps_its_quotes() -> None:
    assert as_root("echo 'a b' $X") == """sudo -n -- sh -c 'echo '"'"'a b'"'"' $X'"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_local_command_out_of_time_leaves_no_process_behind() -> None:
    with pytest.raises(UpkeepError):
        ssh.session(HERE).run("sleep 31.4159 & sleep 31.4159", timeout=timedelta(seconds=0.2))
    time.sleep(0.1)
    commands = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not [c for c in commands if c.startswith(b"sleep\x0031.4159")]
