"""Passwords of the lab: random, made once for each build of its images, one file each."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from infra.lab.plan import HOSTS, Lab, host_named

# Roles of the databases, and the S3 server's one identity.
ACCOUNTS = ("shop", "upkeep", "replicator", "s3-access-key", "s3-secret-key")
_DATABASE_ROLES = ("primary", "replica")


def create_credentials(shared: Path) -> None:
    """Make a password for every account."""
    directory = shared / "passwords"
    directory.mkdir(mode=0o700, exist_ok=True)
    for account in ACCOUNTS:
        file = directory / account
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))


def password(shared: Path, account: str) -> str:
    """The password of one of `ACCOUNTS`."""
    return (shared / "passwords" / account).read_text()


def secrets_of(lab: Lab, shared: Path) -> Mapping[str, str]:
    """The secrets that the lab's inventory names, by name."""
    login = f"upkeep:{password(shared, 'upkeep')}"
    values = {
        "lab-s3-access-key": password(shared, "s3-access-key"),
        "lab-s3-secret-key": password(shared, "s3-secret-key"),
        "lab-webhook": f"json://{lab.address(host_named('support-1'))}:8080/",
    }
    for host in HOSTS:
        if host.role in _DATABASE_ROLES:
            address = lab.address(host)
            values[f"postgres-{host.name}"] = f"postgresql://{login}@{address}:5432/shop"
            values[f"pgbouncer-{host.name}"] = f"postgresql://{login}@{address}:6432/pgbouncer"
    return values


def write_secrets(lab: Lab, shared: Path, directory: Path) -> None:
    """Write one file of mode 0600 per secret, as UPKEEP_SECRETS_DIR wants them."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, value in secrets_of(lab, shared).items():
        file = directory / name
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_text(value)
