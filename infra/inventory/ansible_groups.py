"""What the names of Ansible groups say about a host: environment, role, service.

A group may say the environment (``production``), the role (``web``, ``databases``), or both with the service
between them (``prod_shop_web``); a group of groups is a service. What the user says goes before what a name
suggests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.errors import BadInventory

ENVIRONMENTS: Mapping[str, str] = {
    **dict.fromkeys(("production", "prod", "prd", "live"), "production"),
    **dict.fromkeys(("staging", "stage", "stg", "preprod"), "staging"),
    **dict.fromkeys(("testing", "test", "qa"), "testing"),
    **dict.fromkeys(("development", "dev"), "development"),
}
ROLES: Mapping[str, str] = {
    **dict.fromkeys(("web", "webs", "webserver", "webservers", "frontend", "nginx", "apache"), "web"),
    **dict.fromkeys(("app", "apps", "appserver", "appservers", "backend"), "app"),
    **dict.fromkeys(("lb", "lbs", "loadbalancer", "loadbalancers", "haproxy"), "lb"),
    **dict.fromkeys(("primary", "master"), "primary"),
    **dict.fromkeys(("replica", "replicas", "standby", "standbys"), "replica"),
    **dict.fromkeys(("db", "dbs", "database", "databases", "dbservers", "postgres", "postgresql"), "db"),
    **dict.fromkeys(("cache", "caches", "redis"), "cache"),
    **dict.fromkeys(("bastion", "bastions", "jump", "jumphost"), "bastion"),
}
NO_MEANING = frozenset({"all", "ungrouped"})


@dataclass(frozen=True, slots=True)
class Group:
    """One group of the listing.

    Attributes:
        hosts: every host in it and in the groups below it.
        is_parent: whether it has groups below it.
        variables: its own, given only in the ``--export`` form.
    """

    name: str
    hosts: frozenset[str]
    is_parent: bool
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Belonging:
    """Where a host belongs; empty where its groups do not say. Environments in order of trust, each once."""

    environments: tuple[str, ...]
    role: str
    service: str
    tags: tuple[str, ...]


def read_groups(listing: Mapping[str, Any]) -> dict[str, Group]:
    """The groups of an ``ansible-inventory --list``, by name, in its order.

    Raises:
        BadInventory: a group has another shape.
    """
    tables = {name: table for name, table in listing.items() if name != "_meta"}
    for name, table in tables.items():
        lists = [table.get(key, []) for key in ("hosts", "children")] if isinstance(table, dict) else [None]
        if not all(isinstance(each, list) and all(isinstance(i, str) for i in each) for each in lists):
            raise BadInventory((f"group {name}: accepted: a table with the lists hosts and children",))
    return {
        name: Group(name, _hosts_below(name, tables), bool(table.get("children")), table.get("vars") or {})
        for name, table in tables.items()
    }


def _hosts_below(name: str, tables: Mapping[str, Any]) -> frozenset[str]:
    """The group's hosts and those of its children's; a circle of groups ends where it began."""
    found: set[str] = set()
    seen: set[str] = set()
    pending = [name]
    while pending:
        group = pending.pop()
        if group not in seen and group in tables:
            seen.add(group)
            found.update(tables[group].get("hosts", ()))
            pending.extend(tables[group].get("children", ()))
    return frozenset(found)


def belonging_of(groups: Iterable[Group], chosen: Mapping[str, str]) -> Belonging:
    """Read a host's groups.

    Args:
        groups: those that the host is in, the narrowest first.
        chosen: group -> environment, as the user said.
    """
    said: list[str] = []
    guessed: list[str] = []
    roles: list[str] = []
    services: list[str] = []
    tags: list[str] = []
    for group in groups:
        if group.name in chosen:
            said.append(chosen[group.name])
            continue
        if group.name in NO_MEANING:
            continue
        environment, role, rest = split_name(group.name)
        guessed += [environment] if environment else []
        roles += [role] if role else []
        services += [rest] if rest and (role or group.is_parent) else []
        tags += [group.name] if role or rest else []
    first_role, first_service = next(iter(roles), ""), next(iter(services), "")
    return Belonging(tuple(dict.fromkeys(said or guessed)), first_role, first_service, tuple(sorted(tags)))


def split_name(name: str) -> tuple[str, str, str]:
    """Environment, role and the rest of a group's name: ``prod_shop_web`` is production, web, shop."""
    environment = role = ""
    rest: list[str] = []
    for word in re.split(r"[^a-z0-9]+", name.lower()):
        if word in ENVIRONMENTS and not environment:
            environment = ENVIRONMENTS[word]
        elif word in ROLES and not role:
            role = ROLES[word]
        elif word:
            rest.append(word)
    return environment, role, "-".join(rest)[:63]
