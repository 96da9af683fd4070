"""Importing an Ansible inventory: what is carried over, what is guessed, what is left out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.errors import BadInventory
from infra.inventory import Inventory
from infra.inventory.ansible import Import, import_ansible
from infra.inventory.ansible_groups import split_name
from infra.inventory.load import parse_inventory

PROGRAM = shutil.which("ansible-inventory", path=str(Path(sys.executable).parent)) or shutil.which(
    "ansible-inventory"
)

HOSTS = """\
[web]
web-1 ansible_host=10.0.0.11 ansible_port=2222 ansible_user=deploy
web-2 ansible_host=10.0.0.12

[db]
db-1 ansible_host=10.0.0.13 ansible_become_password=hunter2

[windows]
win-1 ansible_host=10.0.0.20 ansible_connection=winrm ansible_password=hunter2

[production:children]
shop

[shop:children]
web
db

[shop:vars]
ansible_ssh_common_args='-o StrictHostKeyChecking=no -o ProxyJump=ops@bastion.example:2200'
ansible_ssh_private_key_file=~/.ssh/shop

[prod_api_web]
api-1 ansible_host="{{ inventory_hostname }}.example"

[staging]
stage-1 ansible_host=10.1.0.1
localhost ansible_connection=local
"""


def listing(hostvars: dict[str, dict[str, Any]], **groups: Any) -> dict[str, Any]:
    """A listing as `ansible-inventory --list` prints it."""
    return {"_meta": {"hostvars": hostvars}, **groups}


def imported(data: Any, **environment_groups: str) -> tuple[Inventory, Import]:
    """Import, and load what came out of it: an import that does not load is none."""
    result = import_ansible(data, environment_groups)
    return parse_inventory(result.toml(), "imported.toml"), result


@pytest.mark.skipif(PROGRAM is None, reason="ansible-inventory is not installed")
@pytest.mark.parametrize("form", [[], ["--export"]])
def test_what_the_real_program_prints_becomes_a_valid_inventory(tmp_path: Path, form: list[str]) -> None:
    (tmp_path / "hosts.ini").write_text(HOSTS, encoding="utf-8")
    command = [str(PROGRAM), "-i", str(tmp_path / "hosts.ini"), "--list", *form]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    inventory, result = imported(json.loads(printed))
    hosts = {host.name: host for host in inventory.fleet()}
    web = hosts["web-1"]
    assert (web.environment, web.address, web.port, web.user) == ("production", "10.0.0.11", 2222, "deploy")
    assert (web.role, web.service, web.identity_file, web.tags) == (
        "web",
        "shop",
        "~/.ssh/shop",
        ("shop", "web"),
    )
    assert web.jump == hosts["db-1"].jump == "bastion.example"
    bastion = hosts["bastion.example"]
    assert (bastion.address, bastion.port, bastion.user, bastion.jump) == (
        "bastion.example",
        2200,
        "ops",
        None,
    )
    assert (hosts["win-1"].os, hosts["win-1"].environment) == ("windows", "production")
    assert (hosts["api-1"].role, hosts["api-1"].service, hosts["api-1"].address) == ("web", "api", "api-1")
    assert (hosts["localhost"].connection, hosts["localhost"].environment) == ("local", "staging")
    assert "hunter2" not in result.toml() + "".join(result.warnings)
    assert {w.split(":")[0] for w in result.warnings if "secret" in w} == {"db-1", "win-1"}


def test_a_named_group_goes_before_what_a_name_suggests() -> None:
    data = listing({"a": {}, "b": {}}, blue={"hosts": ["a"]}, staging={"hosts": ["a", "b"]})
    inventory, result = imported(data, blue="production")
    assert [host.name for host in inventory.fleet("production")] == ["a"]
    assert [host.name for host in inventory.fleet("staging")] == ["b"]
    assert result.warnings == []


def test_a_host_whose_groups_say_nothing_is_put_where_the_rules_are_strictest() -> None:
    inventory, result = imported(listing({"a": {}}))
    assert inventory.fleet()[0].environment == "production"
    assert "a: no group says its environment" in result.warnings[0]


def test_a_host_of_two_environments_is_put_in_one_and_mentioned() -> None:
    _, result = imported(listing({"a": {}}, prod={"hosts": ["a"]}, stage={"hosts": ["a", "b"]}))
    assert "a: its groups also say staging; production is used" in result.warnings


def test_a_group_that_was_named_must_be_there() -> None:
    with pytest.raises(BadInventory, match="--environment-group green: accepted: a group, blue"):
        import_ansible(listing({"a": {}}, blue={"hosts": ["a"]}), {"green": "production"})


@pytest.mark.parametrize(
    ("arguments", "jumps"),
    [
        ("-o ProxyJump=bastion", {"a": "bastion"}),
        ("-J ops@bastion:2200", {"a": "bastion"}),
        ("-J outer,bastion", {"a": "bastion", "bastion": "outer"}),
        ('-o ProxyCommand="ssh -W %h:%p -q -p 2200 ops@bastion"', {"a": "bastion"}),
        ("-o ProxyCommand='ssh -i ~/.ssh/k -W %h:%p bastion'", {"a": "bastion"}),
        ("-o ProxyJump=none", {}),
        ("-o ControlMaster=auto", {}),
        ("-o 'unclosed", {}),
        ("-J a", {}),
    ],
)
def test_jump_hosts_are_read_from_the_arguments_of_ssh(arguments: str, jumps: dict[str, str]) -> None:
    inventory, _ = imported(listing({"a": {"ansible_ssh_common_args": arguments}}, prod={"hosts": ["a"]}))
    assert {host.name: host.jump for host in inventory.fleet() if host.jump} == jumps


def test_a_jump_host_that_is_there_under_its_address_is_not_added_twice() -> None:
    data = listing(
        {"a": {"ansible_ssh_common_args": "-J 192.0.2.1"}, "gate": {"ansible_host": "192.0.2.1"}},
        prod={"hosts": ["a", "gate"]},
    )
    inventory, _ = imported(data)
    assert {host.name: host.jump for host in inventory.fleet()} == {"a": "gate", "gate": None}


def test_names_that_we_do_not_accept_are_changed_and_mentioned() -> None:
    inventory, result = imported(
        listing({"web 1": {"ansible_host": "192.0.2.1"}, "control": {}}, prod={"hosts": ["web 1"]})
    )
    assert {host.name for host in inventory.fleet()} == {"web-1", "host-control"}
    assert "web 1: is called web-1 here" in result.warnings


def test_values_that_make_no_sense_here_are_left_out_and_mentioned() -> None:
    variables = {
        "ansible_port": "ssh",
        "ansible_connection": "network_cli",
        "ansible_user": "x://a:hunter2@b",
    }
    inventory, result = imported(listing({"a": variables}, prod={"hosts": ["a"]}))
    (host,) = inventory.fleet()
    assert (host.port, host.user, host.connection) == (22, None, "ssh")
    assert len(result.warnings) == 3
    assert "hunter2" not in "".join(result.warnings)


def test_an_encrypted_value_is_left_out_with_its_ciphertext() -> None:
    variables = {
        "ansible_user": {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6162"},
        "ansible_host": ["x"],
    }
    inventory, result = imported(listing({"a": variables}, prod={"hosts": ["a"]}))
    assert (inventory.fleet()[0].user, inventory.fleet()[0].address) == (None, "a")
    assert result.warnings == ["a: ansible_user carries a secret and was left out"]
    assert "VAULT" not in result.toml()


@pytest.mark.parametrize(
    "data", [[], "x", {}, {"_meta": []}, {"_meta": {"hostvars": {"a": 1}}}, {"g": {"hosts": "a"}}, {"g": 1}]
)
def test_json_that_is_no_listing_is_refused(data: Any) -> None:
    with pytest.raises(BadInventory, match="accepted: "):
        import_ansible(data, {})


def test_groups_that_contain_each_other_do_no_harm() -> None:
    data = listing({}, prod={"children": ["x"]}, x={"children": ["prod"], "hosts": ["a"]})
    inventory, _ = imported(data)
    assert inventory.fleet()[0].environment == "production"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("prod_shop_web", ("production", "web", "shop")),
        ("Webservers", ("", "web", "")),
        ("stg-databases", ("staging", "db", "")),
        ("rack_a", ("", "", "rack-a")),
    ],
)
def test_a_groups_name_says_environment_role_and_service(name: str, expected: tuple[str, str, str]) -> None:
    assert split_name(name) == expected
