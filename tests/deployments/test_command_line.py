"""Exit codes, the lines for the shell, and the local environment, without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.cli.serving import Shell, export_line, path_line
from deployments.home import exclusive, load_local_environment, prepare_home, read_variables, write_variables
from deployments.prefect_api import require_server
from deployments.server import client_variables, earlier_variables, server_variables, start_server
from infra.errors import LockHeld, ServiceUnavailable

UPKEEP = Path(sys.executable).with_name("upkeep")


def run(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "UPKEEP_HOME": str(home), **variables}
    return subprocess.run(
        [UPKEEP, *arguments], env=environment, capture_output=True, text=True, check=False, cwd="/"
    )


@pytest.mark.parametrize("arguments", [("frobnicate",), ("env", "--shell", "tcsh"), ("down", "--hard")])
def test_a_mistyped_command_ends_with_64(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(*arguments, home=tmp_path).returncode == 64


def test_a_verb_without_a_server_ends_with_69_and_says_what_starts_it(tmp_path: Path) -> None:
    done = run("health", home=tmp_path / "none")
    assert done.returncode == 69
    assert "upkeep up" in done.stderr
    assert not (tmp_path / "none" / "prefect").exists()


def test_nothing_lets_prefect_start_a_server_of_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", raising=False)
    load_local_environment()
    assert os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"


def test_the_local_auth_string_is_not_sent_to_another_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_home(home)
    local = {
        "PREFECT_API_URL": "http://127.0.0.1:1/api",
        "PREFECT_API_AUTH_STRING": "a:b",
        "UPKEEP_PORT": "1",
    }
    write_variables(home / "env", local)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:2/api")
    for name in ("PREFECT_API_AUTH_STRING", "UPKEEP_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    load_local_environment()
    assert "PREFECT_API_AUTH_STRING" not in os.environ
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:2"):
        require_server()


def test_a_home_that_cannot_be_made_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("up", home=tmp_path / "file" / "home")
    assert done.returncode == 69
    assert "set UPKEEP_HOME" in done.stderr


def test_two_starts_at_once_do_not_race(home: Path) -> None:
    prepare_home(home)
    with exclusive(home):
        done = run("up", home=home)
        assert done.returncode == 75
        assert str(os.getpid()) in done.stderr
        with pytest.raises(LockHeld), exclusive(home):
            pass


def test_variables_survive_being_written_and_are_private(home: Path) -> None:
    prepare_home(home)
    values = {"A": "x=y z", "B": "'\"$(id)`#", "C": ""}
    write_variables(home / "env", values)
    assert read_variables(home / "env") == values
    assert (home / "env").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("value", ["plain", "with space", "it's", '"$HOME"', "$(id)", "`id`", "a\\b", "*"])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_shell_reads_back_what_env_exports(shell: str, value: str) -> None:
    script = export_line("UPKEEP_INVENTORY", value, Shell.SH) + 'printf %s "$UPKEEP_INVENTORY"'
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == value


def test_the_directory_is_first_in_path_and_only_once() -> None:
    line = path_line("/a dir/bin", Shell.SH)
    done = subprocess.run(
        ["sh", "-c", f'{line}{line}printf %s "$PATH"'], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("/a dir/bin:")
    assert done.stdout.count("/a dir/bin") == 1


def test_stopping_twice_or_what_never_ran_is_no_error(tmp_path: Path) -> None:
    assert "nothing was started" in run("down", home=tmp_path / "none").stderr
    (tmp_path / "home").mkdir()
    for _ in range(2):
        done = run("down", home=tmp_path / "home")
        assert (done.returncode, done.stderr.count("was not running")) == (0, 2)


def test_a_full_disk_is_refused_before_anything_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_home(home)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 1_000_000}))
    with pytest.raises(ServiceUnavailable, match=r"1\.0 MB free.*df -h"):
        start_server(home, print)
    assert not (home / "server.env").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_file_that_cannot_be_written_keeps_what_it_held(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_home(home)
    write_variables(home / "env", {"A": "1"})
    full = os.open
    monkeypatch.setattr("os.open", lambda _, flags, mode: full("/dev/full", os.O_WRONLY))
    with pytest.raises(ServiceUnavailable, match="No space left"):
        write_variables(home / "env", {"A": "2"})
    monkeypatch.undo()
    assert read_variables(home / "env") == {"A": "1"}
    assert [path.name for path in home.iterdir()] == ["env"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_home_of_somebody_else_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(ServiceUnavailable, match="set UPKEEP_HOME"):
            prepare_home(tmp_path / "home")
    finally:
        os.seteuid(0)


def test_what_the_client_file_held_is_known_from_the_servers_own(home: Path) -> None:
    prepare_home(home)
    assert earlier_variables(home) == {}
    client = client_variables(home, 4321, "upkeep:word")
    write_variables(home / "server.env", server_variables(home, client))
    known = earlier_variables(home)
    assert known == {name: client[name] for name in known}
    assert {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "UPKEEP_PORT"} == known.keys()
