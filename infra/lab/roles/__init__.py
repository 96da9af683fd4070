"""What each host of the lab contains, by its role; the lab's core builds, boots and connects the hosts.

``prepare`` once for each build of the images, ``provision`` once for each host, on its root before its first
boot; ``hand_over`` and ``inventory_toml`` once for each lab. Nothing in an image knows an address:
configuration says names, and ``addresses`` is what /etc/hosts has to say in every host.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from infra.errors import PermanentError
from infra.lab.plan import Lab, LabHost
from infra.lab.roles.archive import build_archive
from infra.lab.roles.authority import Certificate, create_authority, issue
from infra.lab.roles.balancer import provision_balancer
from infra.lab.roles.cache import provision_cache
from infra.lab.roles.common import provision_common
from infra.lab.roles.credentials import create_credentials, write_secrets
from infra.lab.roles.database import provision_database
from infra.lab.roles.estate import inventory_toml
from infra.lab.roles.names import NAMES, addresses
from infra.lab.roles.root import Root
from infra.lab.roles.support import provision_support, weed_binary
from infra.lab.roles.web import provision_web

__all__ = [
    "NAMES",
    "PACKAGES",
    "Certificate",
    "addresses",
    "hand_over",
    "inventory_toml",
    "issue",
    "prepare",
    "provision",
]

# Debian packages of the one root file system, beside those that every host needs.
PACKAGES: tuple[str, ...] = (
    "ca-certificates",
    "dnsmasq-base",
    "haproxy",
    "netcat-openbsd",
    "openssl",
    "pgbouncer",
    "postgresql",
    "python3",
    "python3-psycopg2",
    "redis-server",
)
# Role -> those of the packages' services that its hosts run.
_SERVICES: dict[str, frozenset[str]] = {
    "web": frozenset(),
    "lb": frozenset({"haproxy"}),
    "primary": frozenset({"postgresql", "pgbouncer"}),
    "replica": frozenset({"postgresql", "pgbouncer"}),
    "cache": frozenset({"redis-server"}),
    "spare": frozenset(),
    "support": frozenset(),
}


def prepare(shared: Path) -> None:
    """Make what all hosts share: authority, passwords and the signed apt repository.

    Args:
        shared: an empty directory; it must stay beside the images that are made with it.
    """
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    weed_binary()
    create_authority(shared)
    create_credentials(shared)
    build_archive(shared / "apt", shared / "gnupg")


def provision(host: LabHost, root: Path, shared: Path) -> None:
    """Turn the common root file system into this host's; needs root, starts nothing that stays.

    Args:
        root: the host's root, writable, with the subvolumes for data mounted in it.
        shared: as `prepare` left it.

    Raises:
        CommandFailed: a command inside the root failed.
    """
    if host.role not in _SERVICES:
        raise PermanentError(f"role = {host.role!r}: accepted: {', '.join(_SERVICES)}", host=host.name)
    inside = Root(root)
    provision_common(inside, shared, _SERVICES[host.role])
    match host.role:
        case "web":
            provision_web(inside, shared, host.environment)
        case "lb":
            provision_balancer(inside, shared, host.environment)
        case "primary" | "replica":
            provision_database(host, inside, shared)
        case "cache":
            provision_cache(inside)
        case "support":
            provision_support(host, inside, shared)


def hand_over(lab: Lab, shared: Path, directory: Path) -> None:
    """Give the control machine what it needs of the lab's secrets.

    Writes ``ca.pem``, ``ca.key`` (for `issue`) and ``secrets/``, the directory for UPKEEP_SECRETS_DIR.
    """
    for name in ("ca.pem", "ca.key"):
        shutil.copy(shared / name, directory / name)
    write_secrets(lab, shared, directory / "secrets")
