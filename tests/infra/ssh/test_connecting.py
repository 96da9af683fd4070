"""Every way in which a host cannot be reached or entered has its own sentence."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra import ssh
from infra.errors import AuthenticationRefused, HostKeyRefused, PermanentError, Unreachable
from infra.settings import settings
from tests.infra.sshd import Sshd, free_port, make_key, running_sshd


def run_true(sshd: Sshd, **fields: object) -> str:
    return ssh.session(sshd.host(**fields)).run("echo in").stdout  # type: ignore[arg-type]


@contextmanager
def listener(*, answer: bytes | None) -> Iterator[int]:
    """A port that says `answer` to every client; None: whose queue is full, so that nobody gets through."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0 if answer is None else 5)
        port = server.getsockname()[1]
        clients = []
        if answer is None:
            for _ in range(3):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
                clients.append(client)
            time.sleep(0.05)
        else:
            threading.Thread(target=_greet, args=(server, answer), daemon=True).start()
        try:
            yield port
        finally:
            for client in clients:
                client.close()


def _greet(server: socket.socket, answer: bytes) -> None:
    try:
        while True:
            client, _ = server.accept()
            client.sendall(answer)
            client.close()
    except OSError:
        return  # the test is over


def test_a_port_without_listener_is_connection_refused(sshd: Sshd) -> None:
    port = free_port()
    with pytest.raises(Unreachable) as failure:
        run_true(sshd, port=port)
    assert failure.value.what_happened.startswith(f"one: connection refused on 127.0.0.1:{port}: the machine")


def test_a_host_that_drops_packets_gives_no_answer(sshd: Sshd) -> None:
    with listener(answer=None) as port, pytest.raises(Unreachable) as failure:
        run_true(sshd, port=port)
    assert str(failure.value) == f"one: no answer on 127.0.0.1:{port} within 2 s"


def test_a_name_that_does_not_resolve_says_so(sshd: Sshd) -> None:
    with pytest.raises(Unreachable, match=r"the name 'a\.\.b' does not resolve"):
        run_true(sshd, address="a..b")


def test_a_server_that_is_no_ssh_server_says_so(sshd: Sshd) -> None:
    with listener(answer=b"HTTP/1.0 400 Bad Request\r\n\r\n") as port, pytest.raises(Unreachable) as failure:
        run_true(sshd, port=port)
    assert f"127.0.0.1:{port}" in str(failure.value)
    assert "banner" in str(failure.value)


def test_a_frozen_host_holds_nobody_up(
    trusted: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_sshd(tmp_path) as frozen:
        frozen.freeze()
        hosts = [frozen.host(f"frozen-{n}") for n in range(8)] + [trusted.host("well")]
        done: dict[str, float] = {}
        start = time.monotonic()

        def enter(host: object) -> None:
            try:
                ssh.session(host).run("true")  # type: ignore[arg-type]
            finally:
                done[host.name] = time.monotonic() - start  # type: ignore[attr-defined]

        ssh.fan_out(hosts, enter)
    assert done["well"] < 1.5 < min(t for name, t in done.items() if name != "well")


def test_a_host_that_nobody_trusted_is_refused_with_its_fingerprint_and_the_way_out(sshd: Sshd) -> None:
    listed = subprocess.run(
        ["ssh-keygen", "-lf", sshd.directory / "host_key.pub"], capture_output=True, text=True, check=True
    )
    with pytest.raises(HostKeyRefused, match="`upkeep hosts trust one`") as refusal:
        run_true(sshd)
    assert listed.stdout.split()[1] in str(refusal.value)


def test_a_changed_key_is_refused_with_file_and_line(sshd: Sshd, home: Path, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text().split()
    line = f"[127.0.0.1]:{sshd.port} {other[0]} {other[1]}\n"
    (home / "known_hosts").write_text("# ours\n\n" + line)
    with pytest.raises(HostKeyRefused, match=r"not the one recorded at .*/home/known_hosts:3: .*--replace"):
        run_true(sshd)


def test_a_key_of_another_type_than_the_recorded_is_refused(
    sshd: Sshd, home: Path, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other", "ecdsa").with_suffix(".pub").read_text().split()
    (home / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {other[0]} {other[1]}\n")
    with pytest.raises(HostKeyRefused, match=r"known_hosts:1"):
        run_true(sshd)


def test_a_revoked_key_is_refused_though_another_line_trusts_it(trusted: Sshd, home: Path) -> None:
    with (home / "known_hosts").open("a") as file:
        file.write("@revoked " + trusted.known_hosts_line())
    with pytest.raises(HostKeyRefused, match=r"revoked at .*known_hosts:4"):
        run_true(trusted)


@pytest.mark.parametrize("form", ["hashed", "pattern", "list", "users_own"])
def test_every_form_of_a_trusting_line_is_honoured(sshd: Sshd, home: Path, form: str) -> None:
    known = home / "known_hosts"
    line = sshd.known_hosts_line()
    if form == "hashed":
        known.write_text(line)
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
        assert known.read_text().startswith("|1|")
    elif form == "pattern":
        known.write_text(line.replace("[127.0.0.1]", "[127.*]"))
    elif form == "list":
        known.write_text(line.replace("[127", "elsewhere,[127", 1))
    else:
        (home / ".ssh").mkdir()
        (home / ".ssh/known_hosts").write_text(line)
    assert run_true(sshd) == "in\n"


def test_a_negated_pattern_does_not_trust(sshd: Sshd, home: Path) -> None:
    line = sshd.known_hosts_line()
    (home / "known_hosts").write_text(line.replace("[", f"![127.0.0.1]:{sshd.port},[", 1))
    with pytest.raises(HostKeyRefused, match="nobody has trusted"):
        run_true(sshd)


def test_a_host_known_by_its_rsa_key_alone_is_asked_for_that_one(tmp_path: Path, home: Path) -> None:
    extra = f"HostKey {tmp_path}/second_key"
    make_key(tmp_path / "second_key", "rsa")
    with running_sshd(tmp_path, extra=extra) as sshd:
        rsa = (tmp_path / "second_key.pub").read_text().split()
        (home / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {rsa[0]} {rsa[1]}\n")
        assert run_true(sshd) == "in\n"


def test_a_login_key_that_the_host_does_not_know_is_refused_by_name(trusted: Sshd, tmp_path: Path) -> None:
    stranger = make_key(tmp_path / "stranger")
    with pytest.raises(AuthenticationRefused, match=rf"with none of: {stranger}"):
        run_true(trusted, identity_file=str(stranger))


def test_no_key_at_all_is_refused_and_says_what_was_tried(trusted: Sshd) -> None:
    with pytest.raises(AuthenticationRefused, match=r"the agent's keys and ~/\.ssh's"):
        run_true(trusted, identity_file=None)


def test_a_key_file_that_does_not_exist_is_permanent(trusted: Sshd) -> None:
    with pytest.raises(PermanentError, match="the private key /nowhere/key does not exist"):
        run_true(trusted, identity_file="/nowhere/key")


def test_a_key_file_that_holds_no_key_is_permanent(trusted: Sshd, tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(PermanentError, match=r"the private key .*/junk is not usable"):
        run_true(trusted, identity_file=str(tmp_path / "junk"))


def test_a_key_with_a_passphrase_and_no_agent_is_refused(trusted: Sshd, tmp_path: Path) -> None:
    locked = make_key(tmp_path / "locked", passphrase="a good one")
    with pytest.raises(AuthenticationRefused, match=str(locked)):
        run_true(trusted, identity_file=str(locked))


def test_a_key_in_the_users_own_ssh_directory_is_found(trusted: Sshd, home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/id_ed25519").write_bytes((trusted.directory / "login_key").read_bytes())
    assert run_true(trusted, identity_file=None) == "in\n"


def test_ssh_config_gives_name_port_user_and_key(trusted: Sshd, home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/config").write_text(
        f"Host web\n HostName 127.0.0.2\n Port {trusted.port}\n User {trusted.host().user}\n"
        f" IdentityFile {trusted.directory}/login_key\n"
    )
    assert run_true(trusted, address="web", port=22, user=None, identity_file=None) == "in\n"


def test_a_proxy_command_stands_in_for_the_network(trusted: Sshd, home: Path) -> None:
    relay = home / "relay.py"
    relay.write_text(
        "import os, socket, sys, threading\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while data := os.read(0, 65536): s.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(65536): os.write(1, data)\n"
    )
    (home / "config").write_text(f"Host 127.0.0.3\n ProxyCommand {sys.executable} {relay} 127.0.0.2 %p\n")
    settings.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPKEEP_SSH_CONFIG", str(home / "config"))
        host = trusted.host(address="127.0.0.3")
        assert ssh.session(host).run("set -- $SSH_CONNECTION; echo $3").stdout == "127.0.0.2\n"


def test_a_jump_host_of_ssh_config_is_gone_through(trusted: Sshd, home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/config").write_text(
        f"Host 127.0.0.3\n ProxyJump {trusted.host().user}@127.0.0.2:{trusted.port}\n"
        f"Host 127.0.0.*\n IdentityFile {trusted.directory}/login_key\n"
    )
    assert run_true(trusted, address="127.0.0.3", identity_file=None) == "in\n"


@pytest.fixture
def jumps(trusted: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch) -> Sshd:
    """An inventory where inner is reached through gate, and two hosts each through the other."""
    common = (
        f'port = {trusted.port}\nuser = "{trusted.host().user}"\n'
        f'identity_file = "{trusted.directory}/login_key"\n'
    )
    tables = {"gate": ("127.0.0.2", ""), "inner": ("127.0.0.3", 'jump = "gate"\n')}
    text = "version = 1\n"
    for name, (address, jump) in tables.items():
        text += f'[environments.test.hosts.{name}]\naddress = "{address}"\n{common}{jump}'
    (home / "inventory.toml").write_text(text)
    monkeypatch.setenv("UPKEEP_INVENTORY", str(home / "inventory.toml"))
    settings.cache_clear()
    return trusted


def test_a_jump_host_of_the_inventory_is_gone_through(jumps: Sshd) -> None:
    host = jumps.host("inner", "127.0.0.3", jump="gate")
    gate = ssh.session(jumps.host("gate", "127.0.0.2"))
    before = gate.run("echo $PPID").stdout.strip()
    port = ssh.session(host).run("set -- $SSH_CONNECTION; echo $2").stdout.strip()
    with_port = f"awk -v p=:$(printf %04X {port}) '$2 ~ p {{ print $10 }}' /proc/net/tcp"
    inodes = gate.run(with_port).stdout.split()
    held = gate.run("readlink /proc/$PPID/fd/* || true").stdout
    # other addresses may have a socket of that port too, or have had one
    ours = [inode for inode in inodes if f"socket:[{inode}]" in held]
    assert ours, "the inner connection begins in the gate's own sshd"
    assert gate.run("echo $PPID").stdout.strip() == before, "both go over the gate's one connection"


def test_a_jump_host_that_cannot_reach_the_host_is_blamed_by_name(jumps: Sshd) -> None:
    with pytest.raises(Unreachable, match=r"gate: as jump host it cannot reach 127.0.0.3:1: Connect(ion)? "):
        ssh.session(jumps.host("inner", "127.0.0.3", jump="gate", port=1)).run("true")


def test_jump_hosts_in_a_circle_are_permanent(jumps: Sshd) -> None:
    with pytest.raises(PermanentError, match="run in a circle: gate -> inner -> gate"):
        ssh.session(jumps.host("gate", "127.0.0.2", jump="inner"))


def test_a_jump_host_that_is_not_in_the_inventory_is_permanent(jumps: Sshd) -> None:
    with pytest.raises(PermanentError, match="jump = 'gone' is not a host of the inventory: gate, inner"):
        ssh.session(jumps.host("x", jump="gone"))


def test_a_dead_jump_host_is_replaced_and_the_host_behind_it_reached_again(jumps: Sshd) -> None:
    inner = ssh.session(jumps.host("inner", "127.0.0.3", jump="gate"))
    assert inner.run("echo in").stdout == "in\n"
    gate = ssh.session(jumps.host("gate", "127.0.0.2")).run("echo $PPID").stdout.strip()
    subprocess.run(["kill", "-9", gate], check=True)
    assert inner.run("echo again").stdout == "again\n"


def test_routes_that_are_equal_share_one_connection(trusted: Sshd) -> None:
    one, other = (ssh.session(trusted.host(role=role)).run("echo $SSH_CONNECTION").stdout for role in "ab")
    assert one == other


def test_a_session_is_what_its_protocol_says(trusted: Sshd) -> None:
    result = ssh.session(trusted.host()).run("true")
    assert dataclasses.is_dataclass(result)
    assert result.command == "true"
