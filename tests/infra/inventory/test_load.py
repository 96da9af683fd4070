"""Loading an inventory: what is inherited, and what each mistake is answered with."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from infra.errors import BadInventory
from infra.inventory import load_inventory
from infra.inventory.load import parse_inventory
from tests.infra.inventory.documents import mistakes_of, parse, put, spoilt, to_toml, valid

EXAMPLE = Path(__file__).parents[3] / "deployments/inventory.example.toml"
PRODUCTION = "environments/production"
WEB = f"{PRODUCTION}/hosts/web-1"
SHOP = f"{PRODUCTION}/services/shop"
ENDPOINT = f"{SHOP}/endpoints/0"


def test_the_example_that_we_ship_is_valid() -> None:
    inventory = load_inventory(EXAMPLE)
    assert {host.name for host in inventory.fleet("staging")} == {"stage-web-1", "stage-db-1"}
    assert inventory.environments["production"].hosts["web-1"].jump == "bastion-1"


def test_without_a_file_this_machine_is_the_inventory() -> None:
    (host,) = load_inventory(None).fleet()
    assert (host.name, host.environment, host.connection) == ("localhost", "local", "local")
    assert load_inventory(None).environments["local"].floors.approvals == "none"


def test_a_host_knows_its_name_and_environment_and_inherits_the_defaults() -> None:
    document = valid()
    document["defaults"] = {"user": "ops", "port": 2022, "identity_file": "~/.ssh/ops", "jump": "bastion"}
    document["environments"]["production"]["hosts"]["web-1"] |= {"user": "deploy", "jump": ""}
    hosts = parse(document).environments["production"].hosts
    web_1, web_2, bastion = hosts["web-1"], hosts["web-2"], hosts["bastion"]
    assert (web_1.name, web_1.environment, web_1.user, web_1.port) == ("web-1", "production", "deploy", 2222)
    assert (web_1.jump, web_2.jump, web_2.user, web_2.port) == (None, "bastion", "ops", 2022)
    assert bastion.jump is None, "the jump host of everybody is reached directly"


def test_a_local_host_takes_no_jump_from_the_defaults() -> None:
    document = valid()
    document["defaults"]["jump"] = "bastion"
    document["environments"]["staging"]["hosts"]["here"] = {"address": "localhost", "connection": "local"}
    assert parse(document).environments["staging"].hosts["here"].jump is None


# Where, what is put there, what the line must say. The key path and the value are checked for all of them.
ONE_MISTAKE: tuple[tuple[str, Any, str], ...] = (
    ("colour", "blue", "unknown key; accepted: version, defaults"),
    ("version", 2, "accepted: 1"),
    ("defaults/prot", 22, "unknown key, did you mean port?"),
    ("defaults/port", 99999, "accepted: a whole number, 1 to 65535"),
    ("defaults/jump", "gone", "accepted: a host of this file"),
    (f"{WEB}/port", 99999, "accepted: a whole number, 1 to 65535"),
    (f"{WEB}/port", 0, "accepted: a whole number, 1 to 65535"),
    (f"{WEB}/port", "22", "accepted: a whole number, 1 to 65535"),
    (f"{WEB}/port", True, "accepted: a whole number, 1 to 65535"),
    (f"{WEB}/port", 22.5, "accepted: a whole number, 1 to 65535"),
    (f"{WEB}/adress", "x", "did you mean address?"),
    (f"{WEB}/address", "web:22 ", "accepted: an IP address or a host name, without a port"),
    (f"{WEB}/address", "-oProxyCommand=x", "accepted: an IP address or a host name, without a port"),
    (f"{WEB}/connection", "telnet", 'accepted: "ssh", "local"'),
    (f"{WEB}/os", "plan9", 'accepted: "linux", "windows"'),
    (f"{WEB}/tags", "a", "accepted: a list, each: text in quotes"),
    (f"{WEB}/tags", date(2026, 1, 1), "no key takes a date"),
    (f"{WEB}/data_paths", ["var/lib"], "accepted: an absolute path"),
    (f"{WEB}/critical_units/0", "nginx", "accepted: a systemd unit with its suffix"),
    (f"{WEB}/name", "web-1", "not to be repeated"),
    (f"{WEB}/environment", "production", "not to be repeated"),
    (f"{WEB}/service", "shopp", "accepted: a name in environments.production.services: mail, shop"),
    (f"{WEB}/redundancy_group", "lbs", "accepted: a name in environments.production.redundancy_groups: webs"),
    (f"{WEB}/jump", "gone", "accepted: a host of this file"),
    (f"{WEB}/connection", "local", "accepted: no jump"),
    (f"{PRODUCTION}/hosts/control", {"address": "x"}, "reserved"),
    (f"{PRODUCTION}/hosts/web-3", 5, "accepted: a table with the keys address"),
    (f"{PRODUCTION}/hosts/we b", {"address": "x"}, "accepted: a name of 1 to 63 letters"),
    ("environments/staging/hosts/web-1", {"address": "x"}, "this host stands in production already"),
    (f"{PRODUCTION}/floors/approvals", "unverified", 'accepted: "required", always'),
    (f"{PRODUCTION}/floors/approvals", "none", 'accepted: "required", always'),
    ("environments/staging/floors", {"approvals": "none"}, '"none" only in the environment local'),
    (f"{PRODUCTION}/floors/approvers_needed", 0, "accepted: a whole number, 1 to 9"),
    (f"{PRODUCTION}/floors/window_required", "yes", "accepted: true or false"),
    (f"{PRODUCTION}/redundancy_groups/webs/max_unavailable", 0, "accepted: a whole number, 1 or more"),
    (
        f"{PRODUCTION}/thresholds",
        {"load_per_cpu": {"warning": 3, "critical": 2}},
        "a warning that is not beyond",
    ),
    (f"{PRODUCTION}/thresholds", {"tls_days": {"warning": 3, "critical": 9}}, "a warning that is not below"),
    (f"{PRODUCTION}/thresholds", {"cpu_percent": {"critical": 101}}, "accepted: percentages, 0 to 100"),
    ("thresholds/swap_percent", {"warning": -1}, "accepted: a number, 0 or more"),
    ("thresholds/swap_percent", {"warning": float("nan")}, "accepted: a number"),
    (f"{SHOP}/criticality", "vital", 'accepted: "critical", "high", "normal", "low"'),
    (f"{SHOP}/databases/0", "shp", "accepted: a name in environments.production.databases: shop"),
    (f"{SHOP}/depends_on", ["post"], "accepted: a name in environments.production.services: mail, shop"),
    (f"{SHOP}/caches/0", "http://x", "accepted: redis://HOST:PORT"),
    (f"{ENDPOINT}/url", "ftp://shop.example/", "accepted: http://..., https://... or tcp://HOST:PORT"),
    (f"{ENDPOINT}/url", "tcp://shop.example", "accepted: http://..., https://... or tcp://HOST:PORT"),
    (f"{ENDPOINT}/url", "http://x:99999/", "accepted: http://..., https://... or tcp://HOST:PORT"),
    (f"{ENDPOINT}/expect_body", "(", "accepted: a regular expression"),
    (f"{ENDPOINT}/expect_headers", {"Server": "["}, "accepted: a regular expression"),
    (f"{ENDPOINT}/expect_status", [42], "accepted: a whole number, 100 to 599"),
    (f"{ENDPOINT}/expect_status", [], "accepted: a list with at least 1 entry"),
    (f"{ENDPOINT}/latency_objective_ms", 0, "accepted: a number, more than 0"),
    (f"{ENDPOINT}/timeout_s", float("inf"), "accepted: a number, more than 0, at most 60"),
    (f"{ENDPOINT}/probed_from/1", "mars", "accepted: control, or a host of this file"),
    (f"{ENDPOINT}/host", "stage-1", "accepted: a name in environments.production.hosts"),
    (f"{SHOP}/dns/0/resolvers/0", "dns.example", "accepted: ADDRESS, ADDRESS:PORT"),
    (f"{SHOP}/dns/0/resolvers/0", "192.0.2.1:99999", "accepted: ADDRESS, ADDRESS:PORT"),
    (f"{SHOP}/dns/0/type", "a", 'accepted: "A", "AAAA"'),
    (f"{SHOP}/tls/0/addresses", ["shop.example"], "accepted: an IPv4 or IPv6 address"),
    (f"{PRODUCTION}/databases/shop/members", [], "accepted: a list with at least 1 entry"),
    (
        f"{PRODUCTION}/databases/shop/members/0/host",
        "db-9",
        "accepted: a name in environments.production.hosts",
    ),
    (
        f"{PRODUCTION}/databases/shop/pools",
        [{"host": "db-9", "dsn_secret": "x"}],
        "environments.production.hosts",
    ),
    (f"{PRODUCTION}/databases/shop/engine", "mysql", 'accepted: "postgresql"'),
    (f"{PRODUCTION}/load_balancers/edge/host", "lb-9", "accepted: a name in environments.production.hosts"),
    (
        f"{PRODUCTION}/load_balancers/edge/backends/api",
        "api",
        "accepted: a name in environments.production.services",
    ),
    ("approvers/kim/ssh_public_keys/0", "ssh-ed25519 AAAA", "accepted: one OpenSSH public key"),
    ("approvers/kim/environments/0", "moon", "accepted: an environment of this file: production, staging"),
    (
        "notifications/chat/environments",
        ["moon"],
        "accepted: an environment of this file: production, staging",
    ),
    ("notifications/chat/severities", ["loud"], 'accepted: "notify", "critical", "page"'),
)


@pytest.mark.parametrize(("path", "value", "expected"), ONE_MISTAKE)
def test_one_mistake_is_one_line_that_names_file_key_and_what_is_accepted(
    path: str, value: Any, expected: str
) -> None:
    (line,) = put(path, value)
    assert line.startswith("estate.toml: ")
    assert expected in line
    first, *_ = path.split("/")
    assert first in line


def test_a_line_has_the_file_the_key_the_value_and_what_is_accepted() -> None:
    assert put(f"{WEB}/port", 99999) == (
        "estate.toml: environments.production.hosts.web-1.port = 99999: accepted: a whole number, 1 to 65535",
    )


def test_what_is_missing_is_named_with_its_meaning() -> None:
    (line,) = spoilt(lambda d: d["environments"]["production"]["hosts"]["web-1"].pop("address"))
    assert "web-1.address: missing; accepted: text in quotes (IP address or name to connect to)" in line
    assert mistakes_of({}) == ("estate.toml: environments: missing; accepted: a table with at least 1 entry",)


def test_a_database_has_exactly_one_primary() -> None:
    member = {"host": "db-1", "role": "primary", "dsn_secret": "other"}
    (line,) = put(f"{PRODUCTION}/databases/shop/members/1", member)
    assert '2 primaries; accepted: exactly one member with role = "primary"' in line


def test_hosts_that_jump_through_each_other_are_reported_once() -> None:
    (line,) = put(f"{PRODUCTION}/hosts/bastion/jump", "web-1")
    assert "a loop, bastion -> web-1 -> bastion" in line


def test_a_loop_through_the_default_jump_host_is_found() -> None:
    document = valid()
    document["defaults"]["jump"] = "bastion"
    document["environments"]["production"]["hosts"]["bastion"]["jump"] = "web-2"
    (line,) = mistakes_of(document)
    assert "a loop, bastion -> web-2 -> bastion" in line


def test_services_that_depend_on_each_other_are_reported_once() -> None:
    (line,) = put(f"{SHOP}/depends_on", ["mail"])
    assert "a loop, shop -> mail -> shop" in line


def test_a_mistake_in_the_defaults_is_not_repeated_for_every_host() -> None:
    assert len(put("defaults/user", 5)) == 1


def test_every_mistake_is_reported_at_once_in_the_order_of_the_file() -> None:
    document = valid()
    changes: tuple[tuple[str, Any], ...] = (
        ("colour", "blue"),
        (f"{PRODUCTION}/floors/approvals", "unverified"),
        (f"{WEB}/port", "22"),
        (f"{WEB}/service", "shopp"),
        (f"{PRODUCTION}/hosts/web-2/adress", "x"),
        (f"{ENDPOINT}/expect_body", "("),
        (f"{ENDPOINT}/probed_from/0", "mars"),
        (f"{PRODUCTION}/databases/shop/members/0/dsn_secret", "postgresql://u:hunter2@db/shop"),
        ("environments/staging/hosts/web-1", {"address": "192.0.2.99"}),
        ("approvers/kim/environments/0", "moon"),
    )
    for path, value in changes:
        *parents, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        table: Any = document
        for step in parents:
            table = table[step]
        table[last] = value
    document["environments"]["production"]["hosts"]["db-1"].pop("address")
    lines = mistakes_of(document)
    keys = [line.removeprefix("estate.toml: ").split(": ")[0].split(" = ")[0] for line in lines]
    assert keys == [
        "environments.production.floors.approvals",
        "environments.production.hosts.web-1.port",
        "environments.production.hosts.web-1.service",
        "environments.production.hosts.web-2.adress",
        "environments.production.hosts.db-1.address",
        "environments.production.services.shop.endpoints[0].probed_from[0]",
        "environments.production.services.shop.endpoints[0].expect_body",
        "environments.production.databases.shop.members[0].dsn_secret",
        "environments.staging.hosts.web-1",
        "approvers.kim.environments[0]",
        "colour",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[environments",
        "a = 1\na = 2",
        "x = " + "1" * 5000,
        "x = " + "[" * 3000,
        "x = '\x00'",
        ".".join("a" * 3000) + " = 1",
    ],
)
def test_text_that_is_no_toml_or_bottomless_is_one_mistake(text: str) -> None:
    with pytest.raises(BadInventory) as caught:
        parse_inventory(text, "estate.toml")
    assert len(caught.value.mistakes) == 1
    assert "accepted: " in str(caught.value)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(BadInventory, match="No such file or directory; accepted: a readable TOML file"):
        load_inventory(tmp_path / "gone.toml")
    with pytest.raises(BadInventory, match="Is a directory"):
        load_inventory(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'x = "\xe4"')
    with pytest.raises(BadInventory, match="accepted: UTF-8"):
        load_inventory(latin)


def test_a_file_with_a_byte_order_mark_or_windows_line_ends_is_read(tmp_path: Path) -> None:
    file = tmp_path / "estate.toml"
    file.write_bytes(b"\xef\xbb\xbf" + to_toml(valid()).replace("\n", "\r\n").encode())
    assert len(load_inventory(file).fleet()) == 5
