"""What a valid inventory amounts to: its secrets by name, and what its author may not have meant."""

from __future__ import annotations

from collections.abc import Iterator

from infra.inventory.model import Environment, Inventory


def secret_names(inventory: Inventory) -> tuple[str, ...]:
    """Every secret that the inventory names, sorted, once each."""
    names = {name for route in inventory.notifications.values() for name in route.url_secrets}
    names |= {person.notify_secret for person in inventory.approvers.values() if person.notify_secret}
    for environment in inventory.environments.values():
        for database in environment.databases.values():
            names |= {member.dsn_secret for member in database.members}
            names |= {pool.dsn_secret for pool in database.pools}
    return tuple(sorted(names))


def notes_on(inventory: Inventory) -> tuple[str, ...]:
    """What is allowed and still worth a look, one sentence each, in the file's order."""
    return tuple(
        note
        for name, environment in inventory.environments.items()
        for notes in (_approvals(inventory, name), _groups(name, environment), _services(name, environment))
        for note in notes
    )


def _approvals(inventory: Inventory, environment: str) -> Iterator[str]:
    floors = inventory.environments[environment].floors
    if floors.approvals == "unverified":
        yield f"{environment}: any answer counts as an approval; every report will say so"
    if floors.approvals != "required":
        return
    eligible = [
        p for p in inventory.approvers.values() if not p.environments or environment in p.environments
    ]
    if floors.proof == "signature":
        eligible = [person for person in eligible if person.ssh_public_keys]
    if len(eligible) < floors.approvers_needed:
        able = " with an SSH public key" if floors.proof == "signature" else ""
        yield (
            f"{environment}: needs {floors.approvers_needed} approver(s){able} and lists {len(eligible)}: "
            "changes are dry runs only"
        )


def _groups(name: str, environment: Environment) -> Iterator[str]:
    for group, limits in environment.redundancy_groups.items():
        members = [host for host in environment.hosts.values() if host.redundancy_group == group]
        if members and limits.max_unavailable >= len(members):
            yield f"{name}: a change may take out all of redundancy group {group} ({len(members)}) at once"


def _services(name: str, environment: Environment) -> Iterator[str]:
    for service, table in environment.services.items():
        roles = {host.role for host in environment.hosts.values() if host.service == service}
        for role in sorted(set(table.critical_units) - roles):
            yield f"{name}: service {service} has critical units for the role {role}, but no such host"
    for database, replicas in environment.databases.items():
        standbys = sum(member.role == "standby" for member in replicas.members)
        if replicas.standbys_expected > standbys:
            yield f"{name}: {database} expects {replicas.standbys_expected} standbys and lists {standbys}"
