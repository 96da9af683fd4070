"""Where a host is and how to log in there: the inventory first, then ssh_config(5), then OpenSSH's defaults.

A route is a plain value. Equal routes share one connection, and `via` makes a chain of jump hosts.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import paramiko

from infra.errors import PermanentError
from infra.inventory import Host, load_inventory
from infra.settings import settings


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach and enter one host.

    Attributes:
        name: the inventory name, for messages.
        address, port, user: where to connect and as whom.
        known_as: its name in known_hosts files: ``address``, or ``[address]:port`` off port 22.
        keys: private key files to offer, in order; empty for the agent's and ~/.ssh's.
        via: the route of the jump host.
        proxy_command: a command whose stdin and stdout stand in for the network.
    """

    name: str
    address: str
    port: int
    user: str
    known_as: str
    keys: tuple[str, ...] = ()
    via: Route | None = None
    proxy_command: str | None = None

    def __str__(self) -> str:
        place = f"{self.address}:{self.port}"
        return f"{place} through {self.via.name}" if self.via else place


def plan_route(host: Host, *, seen: tuple[str, ...] = ()) -> Route:
    """Work out the route to a host.

    The inventory's port wins unless it is 22; then ssh_config's, then 22.

    Args:
        host: the host to reach.
        seen: names of the hosts that are reached through it.

    Raises:
        PermanentError: jump hosts run in a circle, or one is not in the inventory; ssh_config is not usable.
    """
    if host.name in seen:
        circle = " -> ".join((*seen, host.name))
        raise PermanentError(f"its jump hosts run in a circle: {circle}", host=seen[0])
    entry = _ssh_config().lookup(host.address)
    address = str(entry.get("hostname", host.address))
    port = host.port if host.port != 22 else int(entry.get("port", 22))
    user = host.user or str(entry.get("user", getpass.getuser()))
    if "proxycommand" in entry:  # its tokens %p and %r must be ours
        entry = _ssh_config(f"Host {host.address}\n Port {port}\n User {user}\n").lookup(host.address)
    keys = [host.identity_file] if host.identity_file else entry.get("identityfile", [])
    proxy = str(entry.get("proxycommand", "none"))
    return Route(
        name=host.name,
        address=address,
        port=port,
        user=user,
        known_as=str(entry.get("hostkeyalias", known_name(address, port))),
        keys=tuple(str(Path(key).expanduser()) for key in keys),
        via=_plan_jump(host, str(entry.get("proxyjump", "none")), (*seen, host.name)),
        proxy_command=None if proxy == "none" or host.jump else proxy,
    )


def known_name(address: str, port: int) -> str:
    """The name of a host in known_hosts files, sshd(8), SSH_KNOWN_HOSTS FILE FORMAT."""
    return (address if port == 22 else f"[{address}]:{port}").lower()


def _plan_jump(host: Host, proxy_jump: str, seen: tuple[str, ...]) -> Route | None:
    """The inventory's jump host, else ssh_config's chain, first hop first."""
    if host.jump:
        hosts = _inventory_hosts()
        if host.jump not in hosts:
            have = ", ".join(hosts)
            cause = f"jump = {host.jump!r} is not a host of the inventory: {have}"
            raise PermanentError(cause, host=host.name)
        return plan_route(hosts[host.jump], seen=seen)
    route: Route | None = None
    for hop in [] if proxy_jump == "none" else proxy_jump.split(","):
        user, _, place = hop.strip().removeprefix("ssh://").rpartition("@")
        address, _, port = place.partition(":")
        jump = Host(name=address, environment=host.environment, address=address, user=user or None)
        planned = plan_route(jump.model_copy(update={"port": int(port or 22)}), seen=seen)
        route = planned if route is None else _through(planned, route)
    return route


def _through(route: Route, via: Route) -> Route:
    """The same route, entered through another host."""
    return Route(route.name, route.address, route.port, route.user, route.known_as, route.keys, via)


def _ssh_config(first: str = "") -> paramiko.SSHConfig:
    """The user's configuration, after `first`, whose values win."""
    path = settings().ssh_config or Path.home() / ".ssh/config"
    if settings().ssh_config is None and not path.exists():
        return paramiko.SSHConfig()
    try:
        return _parse_ssh_config(path, path.stat().st_mtime_ns, first)
    except (OSError, UnicodeDecodeError, paramiko.SSHException, paramiko.ConfigParseError) as error:
        raise PermanentError(f"the ssh configuration {path} is not usable: {error}") from error


@lru_cache(maxsize=64)
def _parse_ssh_config(path: Path, mtime_ns: int, first: str) -> paramiko.SSHConfig:  # noqa: ARG001
    return paramiko.SSHConfig.from_text(first + path.read_text())


def _inventory_hosts() -> dict[str, Host]:
    path = settings().inventory
    return _read_inventory_hosts(path, path.stat().st_mtime_ns if path and path.exists() else 0)


@lru_cache(maxsize=8)
def _read_inventory_hosts(path: Path | None, mtime_ns: int) -> dict[str, Host]:  # noqa: ARG001
    return {host.name: host for host in load_inventory(path).fleet()}
