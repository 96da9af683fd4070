"""An Ansible inventory as an Upkeep inventory: what ``ansible-inventory --list`` prints, as TOML.

What a host is comes from its variables, where it belongs from its groups (`ansible_groups`). A group that is
no environment stays as a tag, so that nothing is lost. Secrets are never carried over.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from infra.errors import BadInventory
from infra.inventory.ansible_groups import Group, belonging_of, read_groups
from infra.inventory.document import spell_key, spell_value
from infra.inventory.leaks import SECRET_KEY, leak_in

FALLBACK = "production"  # the strictest floors, until somebody says better
LISTING = "accepted: the JSON of `ansible-inventory --list`"
VAULTED = "__ansible_vault"  # how a listing shows a value that is encrypted on its own
WINDOWS_CONNECTIONS = frozenset({"winrm", "psrp"})
SSH_CONNECTIONS = frozenset({"ssh", "smart", "paramiko", "paramiko_ssh"})
# Our key -> variables, the first one given counts (Ansible, "Behavioral inventory parameters").
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "address": ("ansible_host", "ansible_ssh_host"),
    "port": ("ansible_port", "ansible_ssh_port"),
    "user": ("ansible_user", "ansible_ssh_user"),
    "identity_file": ("ansible_ssh_private_key_file", "ansible_private_key_file"),
}
JUMP_VARIABLES = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")
HOP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?P<address>\[[^\]]+\]|[^:\s]+)(?::(?P<port>\d+))?/?")


@dataclass(slots=True)
class Import:
    """What became of an Ansible inventory.

    Attributes:
        hosts: environment -> host -> its keys.
        services: environment -> the services that its hosts name.
        warnings: what was left out or guessed, one sentence each, with the host.
    """

    hosts: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    services: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    warnings: list[str] = field(default_factory=list)

    def toml(self) -> str:
        """The inventory, one host a line."""
        lines = ["# Imported from an Ansible inventory.", "version = 1"]
        for environment, hosts in sorted(self.hosts.items()):
            lines += ["", f"[environments.{spell_key(environment)}.hosts]"]
            lines += [f"{spell_key(name)} = {spell_value(host)}" for name, host in hosts.items()]
            if services := sorted(self.services[environment]):
                lines += ["", f"[environments.{spell_key(environment)}.services]"]
                lines += [f"{spell_key(service)} = {{}}" for service in services]
        return "\n".join(lines) + "\n"


def import_ansible(listing: Any, environment_groups: Mapping[str, str]) -> Import:
    """Turn a listing into hosts, services and warnings.

    Args:
        listing: the parsed JSON of ``ansible-inventory --list``, with or without ``--export``.
        environment_groups: Ansible group -> environment; goes before what a group's name suggests.

    Raises:
        BadInventory: it is no such listing, has no hosts, or lacks a group that was named.
    """
    hostvars = _read_hostvars(listing)
    groups = read_groups(listing)
    if missing := [name for name in environment_groups if name not in groups]:
        known = ", ".join(sorted(groups)) or "(none is there)"
        raise BadInventory(
            tuple(f"--environment-group {name}: accepted: a group, {known}" for name in missing)
        )
    names = sorted({*hostvars, *(host for group in groups.values() for host in group.hosts)})
    if not names:
        raise BadInventory((f"the Ansible inventory has no hosts; {LISTING}",))
    result = Import()
    jumps: dict[str, str] = {}
    for theirs, ours in _our_names(names, result.warnings).items():
        own = sorted((g for g in groups.values() if theirs in g.hosts), key=lambda group: len(group.hosts))
        inherited = {key: value for group in reversed(own) for key, value in group.variables.items()}
        variables = _without_secrets(ours, {**inherited, **hostvars.get(theirs, {})}, result.warnings)
        host = _read_host(ours, theirs, variables, result.warnings)
        _place(ours, host, own, environment_groups, result)
        if host.get("connection") != "local" and (jump := _read_jump(variables)):
            jumps[ours] = jump
    for ours, jump in jumps.items():
        _connect_through(ours, jump, result)
    return result


def _read_hostvars(listing: Any) -> dict[str, dict[str, Any]]:
    meta = listing.get("_meta", {}) if isinstance(listing, dict) else None
    hostvars = meta.get("hostvars", {}) if isinstance(meta, dict) else None
    if not isinstance(hostvars, dict) or not all(isinstance(each, dict) for each in hostvars.values()):
        raise BadInventory((f"this is no Ansible inventory; {LISTING}",))
    return hostvars


def _our_names(names: Iterable[str], warnings: list[str]) -> dict[str, str]:
    """Ansible's name -> ours, each of ours once."""
    ours: dict[str, str] = {}
    for name in names:
        ours[name] = _free_name(name, set(ours.values()))
        if ours[name] != name:
            warnings.append(f"{name}: is called {ours[name]} here")
    return ours


def _free_name(name: str, taken: Container[str]) -> str:
    """A name that the inventory accepts, as like as possible to this one, and not taken."""
    fitting = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:55] or "host"
    if fitting == "control":  # where Upkeep runs
        fitting = "host-control"
    numbered = (f"{fitting}-{number}" for number in count(2))
    return fitting if fitting not in taken else next(each for each in numbered if each not in taken)


def _without_secrets(host: str, variables: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in variables.items():
        if SECRET_KEY.search(key):
            warnings.append(
                f"{host}: {key} is a secret and was left out: give the host a key, and sudo without one"
            )
        elif (isinstance(value, str) and leak_in(value)) or (isinstance(value, dict) and VAULTED in value):
            warnings.append(f"{host}: {key} carries a secret and was left out")
        elif isinstance(value, str) and "{{" in value and key.startswith("ansible_"):
            warnings.append(f"{host}: {key} is a template, which only Ansible can fill in, and was left out")
        else:
            kept[key] = value
    return kept


def _read_host(name: str, theirs: str, variables: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    host: dict[str, Any] = {}
    for key, candidates in VARIABLES.items():
        given = (variables.get(each) for each in candidates)
        value = next((each for each in given if type(each) in (str, int) and each != ""), None)
        if key == "port" and value is not None:
            value = int(value) if str(value).isascii() and str(value).isdigit() else value
            if not isinstance(value, int) or not 1 <= value <= 65535:
                warnings.append(f"{name}: port {value!r} is none and was left out")
                continue
        if value is not None:
            host[key] = value if key == "port" else str(value)
    host = {"address": theirs, **host}
    connection = str(variables.get("ansible_connection", "ssh")).rsplit(".", 1)[-1]
    shell = str(variables.get("ansible_shell_type", ""))
    if connection in WINDOWS_CONNECTIONS or shell in ("powershell", "cmd") or _family(variables) == "windows":
        host["os"] = "windows"
    elif connection == "local":
        host["connection"] = "local"
    elif connection not in SSH_CONNECTIONS:
        warnings.append(f"{name}: connection {connection!r} is not known here; SSH is used")
    return host


def _family(variables: Mapping[str, Any]) -> str:
    facts = variables.get("ansible_facts")
    inner = facts.get("os_family", "") if isinstance(facts, dict) else ""
    return str(variables.get("ansible_os_family", inner)).lower()


def _place(
    name: str, host: dict[str, Any], groups: list[Group], chosen: Mapping[str, str], result: Import
) -> None:
    """Put the host into its environment, with role, service and tags."""
    belonging = belonging_of(groups, chosen)
    environment = next(iter(belonging.environments), FALLBACK)
    if not belonging.environments:
        result.warnings.append(
            f"{name}: no group says its environment; {FALLBACK} is used (--environment-group GROUP=NAME)"
        )
    elif len(belonging.environments) > 1:
        others = ", ".join(belonging.environments[1:])
        result.warnings.append(f"{name}: its groups also say {others}; {environment} is used")
    host |= {key: value for key in ("role", "service") if (value := getattr(belonging, key))}
    host |= {"tags": list(belonging.tags)} if belonging.tags else {}
    result.hosts[environment][name] = host
    if belonging.service:
        result.services[environment].add(belonging.service)


def _read_jump(variables: Mapping[str, Any]) -> str:
    """The jump hosts that SSH's arguments name, as after ``ssh -J``; empty for none."""
    for variable in JUMP_VARIABLES:
        try:
            words = shlex.split(str(variables.get(variable, "")))
        except ValueError:  # an open quotation
            continue
        text = " ".join(words)
        found = re.search(r"ProxyJump[= ]([^\s\"']+)", text, re.IGNORECASE) or re.search(
            r"(?:^|\s)-J\s*(\S+)", text
        )
        command = re.search(r"ProxyCommand[= ]ssh\s(?P<arguments>.*)", text, re.IGNORECASE)
        if found:
            return "" if found[1] == "none" else found[1]
        if command and (hop := _hop_of_command(command["arguments"])):
            return hop
    return ""


def _hop_of_command(arguments: str) -> str:
    """``-W %h:%p -p 2222 -q ops@bastion`` is ``ops@bastion:2222``."""
    words = arguments.split()
    port = next((words[at + 1] for at, word in enumerate(words[:-1]) if word == "-p"), "")
    valued = {at + 1 for at, word in enumerate(words) if re.fullmatch(r"-[bcDeFIiJLlmOopQRSWw]", word)}
    hops = [word for at, word in enumerate(words) if not word.startswith("-") and at not in valued]
    return (f"{hops[0]}:{port}" if port else hops[0]) if hops else ""


def _connect_through(name: str, jump: str, result: Import) -> None:
    """Give the host its jump hosts, the last of a chain nearest to it; one that is not there yet is added."""
    environment = next(env for env, hosts in result.hosts.items() if name in hosts)
    previous = ""
    for hop in jump.split(","):
        parts = HOP.fullmatch(hop)
        if parts is None:
            result.warnings.append(f"{name}: jump host {hop!r} is not understood and was left out")
            return
        through = _find_or_add(parts, environment, result)
        if through == name:
            return  # a bastion whose group's variables name itself
        if previous and previous != through:
            _host(through, result).setdefault("jump", previous)
        previous = through
    _host(name, result)["jump"] = previous


def _find_or_add(parts: re.Match[str], environment: str, result: Import) -> str:
    address = parts["address"].strip("[]")
    every = {name: host for hosts in result.hosts.values() for name, host in hosts.items()}
    known = next((n for n, host in every.items() if address in (n, host["address"])), None)
    if known:
        return known
    name = _free_name(address, every)
    host: dict[str, Any] = {"address": address, "role": "bastion"}
    host |= {"port": int(parts["port"])} if parts["port"] else {}
    host |= {"user": parts["user"]} if parts["user"] else {}
    result.hosts[environment][name] = host
    result.warnings.append(f"{name}: added, because hosts are reached through it")
    return name


def _host(name: str, result: Import) -> dict[str, Any]:
    return next(hosts[name] for hosts in result.hosts.values() if name in hosts)
