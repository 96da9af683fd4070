"""Inventories for tests: a small valid one, and ways to spoil it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from infra.errors import BadInventory
from infra.inventory import Inventory
from infra.inventory.document import spell_key, spell_value
from infra.inventory.load import parse_inventory

Document = dict[str, Any]

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIZn2Qq2oG1g7cE5m0TsmTz3X9R8TtB1xq9q3dXqf0aR kim@example"

VALID: Document = {
    "version": 1,
    "defaults": {"user": "ops"},
    "thresholds": {"cpu_percent": {"warning": 85, "critical": 95}},
    "environments": {
        "production": {
            "floors": {"approvals": "required"},
            "hosts": {
                "bastion": {"address": "192.0.2.1"},
                "web-1": {
                    "address": "192.0.2.11",
                    "port": 2222,
                    "role": "web",
                    "service": "shop",
                    "redundancy_group": "webs",
                    "jump": "bastion",
                    "critical_units": ["nginx.service"],
                    "tags": ["a"],
                },
                "web-2": {
                    "address": "192.0.2.12",
                    "role": "web",
                    "service": "shop",
                    "redundancy_group": "webs",
                },
                "db-1": {"address": "192.0.2.13", "data_paths": ["/var/lib/postgresql"]},
            },
            "redundancy_groups": {"webs": {"max_unavailable": 1}},
            "services": {
                "shop": {
                    "critical_units": {"web": ["shop.service"]},
                    "databases": ["shop"],
                    "caches": ["redis://192.0.2.14:6379"],
                    "endpoints": [{"url": "https://shop.example/", "probed_from": ["control", "bastion"]}],
                    "tls": [{"name": "shop.example"}],
                    "dns": [{"name": "shop.example", "resolvers": ["192.0.2.53:5353"]}],
                },
                "mail": {"depends_on": ["shop"]},
            },
            "databases": {
                "shop": {"members": [{"host": "db-1", "role": "primary", "dsn_secret": "shop-dsn"}]}
            },
            "load_balancers": {"edge": {"host": "bastion", "backends": {"shop": "shop"}}},
        },
        "staging": {"hosts": {"stage-1": {"address": "192.0.2.31"}}},
    },
    "approvers": {"kim": {"name": "Kim", "ssh_public_keys": [PUBLIC_KEY], "environments": ["production"]}},
    "notifications": {"chat": {"url_secrets": ["chat-url"], "severities": ["page"]}},
}


def valid() -> Document:
    """A fresh copy, to be changed at will."""
    return copy.deepcopy(VALID)


def to_toml(document: Document) -> str:
    """The document as TOML: every top-level key on a line of its own."""
    return "".join(f"{spell_key(key)} = {spell_value(value)}\n" for key, value in document.items())


def parse(document: Document) -> Inventory:
    """Load the document as if it came from the file ``estate.toml``."""
    return parse_inventory(to_toml(document), "estate.toml")


def mistakes_of(document: Document) -> tuple[str, ...]:
    """The lines that say what is wrong with it; it must be wrong."""
    with pytest.raises(BadInventory) as caught:
        parse(document)
    return caught.value.mistakes


def spoilt(change: Callable[[Document], object]) -> tuple[str, ...]:
    """The mistakes of the valid inventory after one change."""
    document = valid()
    change(document)
    return mistakes_of(document)


def put(path: str, value: Any) -> tuple[str, ...]:
    """The mistakes after one value was put at a path such as ``environments/production/hosts/web-1/port``."""
    document = valid()
    *parents, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    table: Any = document
    for step in parents:
        table = table[step] if isinstance(step, int) else table.setdefault(step, {})
    if isinstance(table, list) and last == len(table):
        table.append(value)
    else:
        table[last] = value
    return mistakes_of(document)
