"""`upkeep inventory` as typed: output, exit codes, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

Run = Callable[..., subprocess.CompletedProcess[str]]
EXAMPLE = str(Path(__file__).parents[2] / "deployments/inventory.example.toml")
UPKEEP = Path(sys.executable).parent / "upkeep"
BAD = '[environments.production.hosts.web-1]\naddress = "192.0.2.1"\nport = 99999\nservice = "shop"\n'


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `upkeep inventory` in a directory and with a state of its own."""

    def act(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("UPKEEP_", "PREFECT_"))}
        environment = {**own, "UPKEEP_HOME": str(tmp_path / "home"), **variables}
        command = [str(UPKEEP), "inventory", *arguments]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return act


def test_check_counts_what_a_valid_file_has(run: Run) -> None:
    done = run("check", EXAMPLE)
    assert done.returncode == 0
    assert "valid: 2 environments, 9 hosts, 2 services, 2 databases, 1 approver" in done.stdout
    assert "note: staging: any answer counts" in done.stdout


def test_check_without_a_file_takes_the_variable_and_then_this_machine(run: Run) -> None:
    assert "embedded inventory: valid: 1 environment, 1 host" in run("check").stdout
    assert f"{EXAMPLE}: valid" in run("check", UPKEEP_INVENTORY=EXAMPLE).stdout


def test_check_of_a_bad_file_ends_with_65_and_every_mistake_on_its_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "estate.toml").write_text(BAD, encoding="utf-8")
    done = run("check", "estate.toml")
    assert (done.returncode, done.stdout) == (65, "")
    host = "  estate.toml: environments.production.hosts.web-1"
    assert done.stderr.splitlines() == [
        "the inventory has 2 mistakes:",
        f"{host}.port = 99999: accepted: a whole number, 1 to 65535",
        f'{host}.service = "shop": accepted: a name in environments.production.services: (none is there)',
    ]


def test_check_of_secrets_names_those_that_are_nowhere(run: Run, tmp_path: Path) -> None:
    secrets = {
        f"UPKEEP_SECRET_SHOP_{name}": "x" for name in ("DSN", "STANDBY_DSN", "POOL_DSN", "STAGING_DSN")
    }
    done = run("check", EXAMPLE, "--secrets", UPKEEP_SECRET_KIM_NOTIFY="x", **secrets)
    assert done.returncode == 65
    assert "secrets: 5 of 7 found" in done.stdout
    assert "secret 'on-call-pager' is nowhere; looked at: UPKEEP_SECRET_ON_CALL_PAGER" in done.stderr
    every = {"UPKEEP_SECRET_ON_CALL_PAGER": "x", "UPKEEP_SECRET_OPERATIONS_CHAT": "x"}
    assert (
        run("check", EXAMPLE, "--secrets", UPKEEP_SECRET_KIM_NOTIFY="x", **secrets, **every).returncode == 0
    )


def test_a_wrong_setting_ends_with_64(run: Run) -> None:
    done = run("check", UPKEEP_FANOUT="many")
    assert done.returncode == 64
    assert "UPKEEP_FANOUT = 'many': accepted: a whole number, 1 to 1024" in done.stderr


def test_show_lists_the_hosts_of_an_environment(run: Run) -> None:
    lines = run("show", EXAMPLE, "--environment", "staging").stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["stage-web-1", "staging", "10.0.1.11", "web", "shop", "bastion-1", "linux"],
        ["stage-db-1", "staging", "10.0.1.13", "primary", "bastion-1", "linux"],
    ]
    assert run("show", EXAMPLE, "--environment", "moon").returncode == 65


def test_the_printed_schema_accepts_the_example(run: Run) -> None:
    schema = json.loads(run("schema").stdout)
    Draft202012Validator(schema).validate(tomllib.loads(Path(EXAMPLE).read_text(encoding="utf-8")))


def test_an_imported_inventory_passes_the_check(run: Run, tmp_path: Path) -> None:
    hostvars = {"a": {"ansible_host": "192.0.2.1", "ansible_password": "hunter2"}}
    listing = json.dumps({"_meta": {"hostvars": hostvars}, "blue": {"hosts": ["a"]}})
    arguments = ("import-ansible", "-", "--environment-group", "blue=staging", "--output", "estate.toml")
    done = run(*arguments, stdin=listing)
    assert (done.returncode, done.stdout) == (0, "")
    assert "note: a: ansible_password is a secret and was left out" in done.stderr
    assert "hunter2" not in done.stderr + (tmp_path / "estate.toml").read_text(encoding="utf-8")
    assert run("check", "estate.toml").returncode == 0
    again = run(*arguments, stdin=listing)
    assert again.returncode == 64
    assert "--force" in again.stderr
    assert run(*arguments, "--force", stdin=listing).returncode == 0
    assert run(*arguments[:4], stdin=listing).stdout == (tmp_path / "estate.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        (("-",), "not json", 65, "accepted: the JSON of `ansible-inventory --list`"),
        (("-",), "[]", 65, "accepted: the JSON of `ansible-inventory --list`"),
        (("gone.json",), "", 64, "No such file or directory"),
        (("-", "--environment-group", "blue"), "{}", 64, "GROUP=ENVIRONMENT"),
    ],
)
def test_an_import_that_cannot_be_says_why(
    run: Run, arguments: tuple[str, ...], stdin: str, code: int, words: str
) -> None:
    done = run("import-ansible", *arguments, stdin=stdin)
    assert done.returncode == code
    assert words in " ".join(done.stderr.replace("│", " ").split())
