"""A real sshd and a home of its own for every test of the door."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import ssh
from infra.settings import settings
from tests.infra.sshd import SSHD, Sshd, running_sshd

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One daemon for all tests that do not freeze or change it."""
    if not SSHD:
        pytest.skip("no sshd on this machine: apt install openssh-server")
    with running_sshd(tmp_path_factory.mktemp("sshd"), extra="SetEnv SHLVL=2") as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty UPKEEP_HOME and HOME, short timeouts, and no connection left afterwards."""
    directory = tmp_path / "home"
    directory.mkdir()
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("UPKEEP_HOME", str(directory))
    monkeypatch.setenv("UPKEEP_CONNECT_TIMEOUT_S", "2")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for name in ("UPKEEP_KNOWN_HOSTS", "UPKEEP_SSH_CONFIG", "UPKEEP_INVENTORY"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    yield directory
    ssh.close_all()
    settings.cache_clear()


@pytest.fixture
def trusted(sshd: Sshd, home: Path) -> Sshd:
    """The daemon, its key recorded for three of its addresses."""
    (home / "known_hosts").write_text("".join(map(sshd.known_hosts_line, ADDRESSES)))
    return sshd
