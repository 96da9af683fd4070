"""`upkeep hosts` as a person types it, against a real sshd."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli.hosts import hosts
from infra import ssh
from infra.settings import settings
from tests.infra.sshd import SSHD, Sshd, make_key, running_sshd

pytestmark = pytest.mark.skipif(not SSHD, reason="no sshd on this machine: apt install openssh-server")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def home(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An inventory of one live host, one dead one and this machine."""
    (tmp_path / "inventory.toml").write_text(
        "version = 1\n"
        f'[environments.test.hosts.web-1]\naddress = "127.0.0.2"\nport = {sshd.port}\nuser = "ops"\n'
        '[environments.test.hosts.dead-1]\naddress = "127.0.0.2"\nport = 1\n'
        '[environments.lab.hosts.here]\naddress = "127.0.0.1"\nconnection = "local"\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UPKEEP_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("UPKEEP_INVENTORY", str(tmp_path / "inventory.toml"))
    monkeypatch.delenv("UPKEEP_KNOWN_HOSTS", raising=False)
    monkeypatch.delenv("UPKEEP_SSH_CONFIG", raising=False)
    settings.cache_clear()
    yield tmp_path
    ssh.close_all()
    settings.cache_clear()


def upkeep(*arguments: str, answer: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(hosts, arguments, input=answer)
    return result.exit_code, result.output


def test_a_key_is_recorded_after_a_yes_durably_and_for_us_alone(sshd: Sshd, home: Path) -> None:
    code, said = upkeep("trust", "web-1", answer="y\n")
    known = home / "state/known_hosts"
    assert code == 0
    assert "shows ssh-ed25519 SHA256:" in said
    assert known.read_text() == sshd.known_hosts_line("127.0.0.2")
    assert stat.S_IMODE(known.stat().st_mode) == 0o600
    assert upkeep("trust", "web-1")[1].startswith("web-1: trusted already")


def test_a_no_records_nothing(home: Path) -> None:
    code, said = upkeep("trust", "web-1", answer="n\n")
    assert (code, "web-1: not trusted" in said) == (0, True)
    assert not (home / "state/known_hosts").exists()


def test_a_changed_key_is_replaced_only_when_asked(sshd: Sshd, home: Path) -> None:
    known = home / "state/known_hosts"
    known.parent.mkdir()
    stranger = make_key(home / "stranger").with_suffix(".pub").read_text().split()
    other = f"elsewhere {stranger[0]} {stranger[1]}\n"
    known.write_text(f"# kept\n[127.0.0.2]:{sshd.port} {stranger[0]} {stranger[1]}\n{other}")
    before = known.read_text()
    code, said = upkeep("trust", "web-1", "--yes")
    assert code == 20
    assert f"recorded at {known}:2" in said
    assert known.read_text() == before
    code, said = upkeep("trust", "web-1", "--yes", "--replace")
    assert code == 0
    assert known.read_text() == "# kept\n" + other + sshd.known_hosts_line("127.0.0.2")


def test_all_goes_on_past_a_dead_host_and_says_so(sshd: Sshd, home: Path) -> None:
    code, said = upkeep("trust", "--all", "--yes")
    assert code == 20
    assert "dead-1: connection refused on 127.0.0.2:1" in said
    assert "here: this machine, which shows no key" in said
    assert (home / "state/known_hosts").read_text() == sshd.known_hosts_line("127.0.0.2")


def test_nobody_named_is_a_usage_error() -> None:
    assert upkeep("trust")[0] == 2


def test_the_list_says_where_a_key_is_recorded(sshd: Sshd, home: Path) -> None:
    upkeep("trust", "web-1", "--yes")
    code, said = upkeep("list", "--json")
    rows = {row["host"]: row for row in json.loads(said)}
    assert code == 0
    assert rows["web-1"] == {
        "host": "web-1",
        "environment": "test",
        "address": f"127.0.0.2:{sshd.port}",
        "user": "ops",
        "through": None,
        "key": f"{home}/state/known_hosts:1",
    }
    assert rows["dead-1"]["key"] is None
    assert rows["here"]["address"] == "this machine"
