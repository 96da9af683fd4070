from __future__ import annotations

import tomllib
from typing import Any

import pytest

from infra.errors import BadSetting
from infra.inventory import Inventory, Level, Thresholds
from tasks.health.estate import PEERS_AT_MOST, Estate, choose_estate, choose_pairs

SHOP = """
[environments.production.hosts]
lb-1 = {role = "lb", service = "shop"}
web-1 = {role = "web", service = "shop"}
web-2 = {role = "web", service = "shop"}
db-1 = {role = "primary"}
db-2 = {role = "replica"}
spare-1 = {}
spare-2 = {}
[environments.production.services.shop]
endpoints = [{url = "http://lb-1/"}, {url = "http://web-1/", host = "web-1"}]
tls = [{name = "shop.example"}]
dns = [{name = "shop.example"}]
databases = ["shop"]
[environments.production.databases.shop]
members = [
  {host = "db-1", role = "primary", dsn_secret = "a"}, {host = "db-2", role = "standby", dsn_secret = "b"},
]
[environments.production.load_balancers.front]
host = "lb-1"
[environments.staging.hosts]
stage-1 = {}
"""


def inventory(text: str = SHOP) -> Inventory:
    document: dict[str, Any] = tomllib.loads(text)
    for environment, table in document["environments"].items():
        for name, host in table.get("hosts", {}).items():
            host |= {"name": name, "environment": environment, "address": "198.18.0.1"} | host
    return Inventory.model_validate(document)


def estate(environment: str | None = None, hosts: tuple[str, ...] = (), text: str = SHOP) -> Estate:
    return choose_estate(inventory(text), environment, hosts, None)


def pairs(chosen: Estate) -> list[tuple[str, str]]:
    return [(origin.name, peer.name) for origin, peer in choose_pairs(chosen)]


def test_the_whole_estate_is_every_host_and_everything_that_services_promise() -> None:
    whole = estate()
    assert whole.environments == ("production", "staging")
    assert len(whole.fleet) == 8
    assert [e.item.url for e in whole.endpoints()] == ["http://lb-1/", "http://web-1/"]
    assert [(w.service, w.item.name) for w in whole.tls_names()] == [("shop", "shop.example")]
    assert [(w.environment, w.item.name) for w in whole.dns_names()] == [("production", "shop.example")]


def test_one_environment_leaves_the_others_alone() -> None:
    staging = estate("staging")
    assert [host.name for host in staging.fleet] == ["stage-1"]
    assert staging.endpoints() == staging.tls_names() == staging.dns_names() == ()


def test_named_hosts_are_checked_with_their_own_endpoints_and_no_names() -> None:
    one = estate(hosts=("web-1",))
    assert [e.item.url for e in one.endpoints()] == ["http://web-1/"]
    assert one.tls_names() == one.dns_names() == ()
    assert one.environments == ("production",)


def test_a_parameter_that_names_nothing_is_refused_with_what_there_is() -> None:
    with pytest.raises(BadSetting, match=r"parameter environment = 'prod': accepted: production, staging"):
        estate("prod")
    with pytest.raises(BadSetting, match=r"parameter host = 'x'.*; parameter host = 'y'"):
        estate(hosts=("x", "web-1", "y"))


def test_a_limit_of_this_run_is_stronger_than_the_inventorys() -> None:
    run = choose_estate(inventory(), None, (), Thresholds(cpu_percent=Level(warning=1)))
    assert run.limits("production", run.fleet[0]).cpu_percent == Level(warning=1)
    assert run.limits("production").memory_percent is not None


def test_pairs_follow_the_edges_of_the_inventory_and_leave_no_host_out() -> None:
    assert pairs(estate("production")) == [
        ("lb-1", "web-1"),
        ("lb-1", "web-2"),
        ("web-1", "db-1"),
        ("web-2", "db-1"),
        ("web-1", "db-2"),
        ("web-2", "db-2"),
        ("db-1", "db-2"),
        ("spare-1", "spare-2"),
    ]


def test_a_host_alone_in_its_environment_has_no_pair() -> None:
    assert pairs(estate("staging")) == []


def test_hosts_that_cannot_measure_are_in_no_pair() -> None:
    local = SHOP.replace('web-1 = {role = "web"', 'web-1 = {connection = "local", role = "web"')
    windows = local.replace('web-2 = {role = "web"', 'web-2 = {os = "windows", role = "web"')
    named = {name for pair in pairs(estate("production", text=windows)) for name in pair}
    assert not named & {"web-1", "web-2"}


def test_the_number_of_pairs_grows_with_the_hosts_and_not_with_their_square() -> None:
    hosts = "\n".join(f'web-{n} = {{role = "web", service = "a"}}' for n in range(200))
    more = "\n".join(f'app-{n} = {{role = "app", service = "b"}}' for n in range(200))
    text = f'[environments.x.hosts]\n{hosts}\n{more}\n[environments.x.services.a]\ndepends_on = ["b"]\n'
    chosen = pairs(estate(text=text + "[environments.x.services.b]\n"))
    assert len(chosen) <= 400 * PEERS_AT_MOST
    assert {name for pair in chosen for name in pair} == {
        f"{k}-{n}" for k in ("web", "app") for n in range(200)
    }
