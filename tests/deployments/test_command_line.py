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
