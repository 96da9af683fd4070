"""What every host of the lab has, whatever its role."""

from __future__ import annotations

import shutil
from pathlib import Path

from infra.lab.roles.archive import SUITES
from infra.lab.roles.root import Root

# Services that the packages of the one root file system bring, and that only some roles want.
SERVICES = frozenset({"postgresql", "pgbouncer", "haproxy", "redis-server"})
_SOURCES = "/etc/apt/sources.list.d"
_JOURNAL = """\
[Journal]
SystemMaxUse=32M
RuntimeMaxUse=8M
ForwardToWall=no
"""


def provision_common(root: Root, shared: Path, services: frozenset[str]) -> None:
    """Trust the lab's authority and archive, have no other package source, and start only `services`.

    Args:
        services: those of `SERVICES` that this host runs.
    """
    root.write("/etc/systemd/journald.conf.d/lab.conf", _JOURNAL)
    root.copy(shared / "ca.pem", "/usr/local/share/ca-certificates/lab.crt")
    root.run("update-ca-certificates")
    _use_archive(root, shared / "apt")
    unwanted = sorted(SERVICES - services)
    root.mask(*(f"{service}.service" for service in unwanted))
    if "postgresql" not in services:
        for directory in ("/etc/postgresql", "/var/lib/postgresql"):
            for cluster in root.at(directory).glob("*"):
                shutil.rmtree(cluster)


def _use_archive(root: Root, archive: Path) -> None:
    root.at("/etc/apt/sources.list").unlink(missing_ok=True)
    for source in root.at(_SOURCES).glob("*"):
        source.unlink()
    root.copy(archive / "archive.asc", "/etc/apt/keyrings/lab.asc")
    for suite in SUITES:
        root.write(
            f"{_SOURCES}/lab-{suite}.sources",
            "Types: deb\nURIs: http://apt.lab/\nComponents: main\n"
            f"Suites: {suite}\nSigned-By: /etc/apt/keyrings/lab.asc\n"
            f"Enabled: {'yes' if suite == SUITES[0] else 'no'}\n",
        )
    _seed_lists(root, archive, SUITES[0])


def _seed_lists(root: Root, archive: Path, suite: str) -> None:
    """Leave the package lists as `apt update` would: pending updates are known from the first boot on."""
    lists = root.at("/var/lib/apt/lists")
    for old in lists.glob("*_dists_*"):
        old.unlink()
    dists = archive / "dists" / suite
    for index in (dists / "InRelease", *dists.glob("main/*/Packages")):
        name = str(index.relative_to(archive)).replace("/", "_")
        root.copy(index, f"/var/lib/apt/lists/apt.lab_{name}")
