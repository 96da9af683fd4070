"""The lab's inventory is valid, complete, and about the hosts of the plan."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.inventory import Inventory, load_inventory
from infra.lab.plan import HOSTS, Lab
from infra.lab.roles import NAMES, addresses
from infra.lab.roles.balancer import haproxy_configuration
from infra.lab.roles.credentials import create_credentials, secrets_of
from infra.lab.roles.estate import render

LAB = Lab("test", 77)


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    directory = tmp_path_factory.mktemp("lab")
    for name in ("id_ed25519", "ca.pem"):
        (directory / name).touch(mode=0o600)
    file = directory / "inventory.toml"
    file.write_text(render(LAB, directory, "postgresql@15-main.service"))
    return load_inventory(file)


def test_it_has_every_host_of_the_plan_where_the_plan_has_it(inventory: Inventory) -> None:
    listed = {(h.environment, h.name, h.address, h.role) for h in inventory.fleet() if h.connection == "ssh"}
    assert listed == {(h.environment, h.name, LAB.address(h), h.role) for h in HOSTS}


def test_hosts_belong_to_the_service_that_the_plan_says(inventory: Inventory) -> None:
    services = {h.name: h.service for h in inventory.fleet()}
    assert all(services[h.name] == h.service for h in HOSTS if h.service)


def test_the_control_machine_is_reached_locally(inventory: Inventory) -> None:
    (control,) = inventory.fleet("control")
    assert (control.name, control.connection) == ("control", "local")


def test_every_host_but_the_spare_one_has_something_that_must_run(inventory: Inventory) -> None:
    idle = {h.name for h in inventory.fleet() if h.connection == "ssh" and not inventory.critical_units(h)}
    assert idle == {"prod-spare-1"}


def test_names_are_expected_at_the_addresses_that_the_hosts_files_give_them(inventory: Inventory) -> None:
    known = addresses(LAB)
    resolvers = (known["resolver-1.lab"], known["resolver-2.lab"])
    for environment in inventory.environments.values():
        for service in environment.services.values():
            for name in service.dns:
                assert name.expect == (known[name.name],)
                assert name.resolvers == resolvers
            for tls in service.tls:
                assert tls.addresses == (known[tls.name],)


def test_every_endpoint_is_at_an_address_of_the_lab(inventory: Inventory) -> None:
    services = [s for env in inventory.environments.values() for s in env.services.values()]
    endpoints = [e for s in services for e in s.endpoints]
    ours = {address for host in HOSTS for address in LAB.addresses(host)}
    assert {e.address or urlsplit(e.url).hostname for e in endpoints} <= ours
    assert len({e.url for e in endpoints}) == len(endpoints)


def test_every_secret_that_it_names_is_handed_over(inventory: Inventory, tmp_path: Path) -> None:
    create_credentials(tmp_path)
    databases = [d for env in inventory.environments.values() for d in env.databases.values()]
    named = {m.dsn_secret for d in databases for m in d.members}
    named |= {p.dsn_secret for d in databases for p in d.pools}
    named |= {s for n in inventory.notifications.values() for s in n.url_secrets}
    assert named <= set(secrets_of(LAB, tmp_path))


def test_two_builds_have_different_passwords(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        create_credentials(tmp_path / name)
    one, two = (secrets_of(LAB, tmp_path / name) for name in ("one", "two"))
    assert one["postgres-prod-db-1"] != two["postgres-prod-db-1"]


def test_every_dns_name_leads_to_a_host_of_the_plan() -> None:
    assert set(NAMES.values()) <= {h.name for h in HOSTS}
    assert len(set(addresses(LAB).values())) == sum(1 + len(h.extra_numbers) for h in HOSTS)


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_the_balancer_carries_the_web_hosts_of_its_own_environment(environment: str) -> None:
    text = haproxy_configuration(environment)
    for host in HOSTS:
        assert (f"server {host.name} {host.name}:8080" in text) == (
            host.environment == environment and host.role == "web"
        )
    assert text.count(" disabled") == (1 if environment == "production" else 0)
