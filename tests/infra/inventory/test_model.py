"""What an inventory answers: its fleet, critical units, limits and notes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from infra.errors import BadInventory
from infra.inventory import DEFAULTS, Level, Thresholds, load_inventory
from infra.inventory.summary import notes_on, secret_names
from infra.inventory.values import split_resolver
from tests.infra.inventory.documents import parse, valid


def test_the_fleet_is_every_host_in_the_order_of_the_file() -> None:
    assert [host.name for host in parse(valid()).fleet()] == ["bastion", "web-1", "web-2", "db-1", "stage-1"]


def test_the_fleet_of_an_environment_or_of_named_hosts_is_a_part_of_it() -> None:
    inventory = parse(valid())
    assert [host.name for host in inventory.fleet("staging")] == ["stage-1"]
    assert [host.name for host in inventory.fleet(hosts=("stage-1", "web-1"))] == ["web-1", "stage-1"]


def test_an_unknown_environment_is_answered_with_those_that_exist() -> None:
    with pytest.raises(BadInventory, match="environment = 'prod': accepted: production, staging"):
        parse(valid()).fleet("prod")


def test_every_unknown_host_is_answered_with_those_of_the_environment() -> None:
    with pytest.raises(BadInventory) as caught:
        parse(valid()).fleet("staging", ("web-1", "stage-1", "x"))
    assert [m.split(":")[0] for m in caught.value.mistakes] == ["host = 'web-1'", "host = 'x'"]
    assert "accepted (environment staging): stage-1" in caught.value.mistakes[0]


def test_critical_units_are_the_hosts_own_and_those_of_its_role_in_its_service() -> None:
    inventory = parse(valid())
    hosts = inventory.environments["production"].hosts
    assert inventory.critical_units(hosts["web-1"]) == ("nginx.service", "shop.service")
    assert inventory.critical_units(hosts["web-2"]) == ("shop.service",)
    assert inventory.critical_units(hosts["db-1"]) == ()


def test_limits_come_from_the_nearest_place_that_names_them() -> None:
    document = valid()
    production = document["environments"]["production"]
    production["thresholds"] = {"memory_percent": {"warning": 70}, "swap_percent": {"warning": 10}}
    production["hosts"]["web-1"]["thresholds"] = {"swap_percent": {"warning": 20}}
    inventory = parse(document)
    web = inventory.environments["production"].hosts["web-1"]
    limits = inventory.thresholds_for(web, "production", Thresholds(load_per_cpu=Level(critical=9)))
    assert limits.load_per_cpu == Level(critical=9)
    assert limits.swap_percent == Level(warning=20)
    assert limits.memory_percent == Level(warning=70)
    assert limits.cpu_percent == Level(warning=85, critical=95)
    assert limits.disk_space_percent == DEFAULTS.disk_space_percent
    assert inventory.thresholds_for(None, "production").swap_percent == Level(warning=10)


def test_after_resolving_only_the_days_of_certificates_are_open() -> None:
    limits = load_inventory(None).thresholds_for(None, "local")
    assert [name for name, level in limits if level is None] == ["tls_days"]


def test_an_override_is_held_to_the_same_rules() -> None:
    with pytest.raises(ValidationError, match="a warning that is not beyond critical"):
        Thresholds.model_validate({"cpu_percent": {"warning": 90, "critical": 80}})


def test_secrets_are_listed_by_name_once() -> None:
    document = valid()
    document["approvers"]["kim"]["notify_secret"] = "chat-url"
    document["environments"]["production"]["databases"]["shop"]["pools"] = [
        {"host": "db-1", "dsn_secret": "pool"}
    ]
    assert secret_names(parse(document)) == ("chat-url", "pool", "shop-dsn")


def test_a_sound_inventory_has_a_note_only_where_nobody_may_approve() -> None:
    (note,) = notes_on(parse(valid()))
    assert note == "staging: needs 1 approver(s) and lists 0: changes are dry runs only"


def test_notes_name_what_is_allowed_and_probably_not_meant() -> None:
    document = valid()
    production = document["environments"]["production"]
    production["floors"] = {"proof": "signature"}
    document["approvers"]["kim"]["ssh_public_keys"] = []
    production["redundancy_groups"]["webs"]["max_unavailable"] = 2
    production["services"]["shop"]["critical_units"]["wbe"] = ["x.service"]
    production["databases"]["shop"]["standbys_expected"] = 1
    document["environments"]["staging"]["floors"] = {"approvals": "unverified"}
    text = "\n".join(notes_on(parse(document)))
    for part in (
        "needs 1 approver(s) with an SSH public key and lists 0",
        "all of redundancy group webs (2)",
        "critical units for the role wbe",
        "expects 1 standbys and lists 0",
        "staging: any answer counts",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
    ],
)
def test_a_resolver_is_an_address_with_or_without_a_port(text: str, expected: tuple[str, int]) -> None:
    assert split_resolver(text) == expected


@pytest.mark.parametrize(
    "text", ["", "dns.example", "192.0.2.1:0", "192.0.2.1:x", "[192.0.2.1", "192.0.2.1:70000"]
)
def test_anything_else_is_no_resolver(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        split_resolver(text)
