"""The inventory of a lab, as Upkeep reads it."""

from __future__ import annotations

import platform
from pathlib import Path
from string import Template

from infra.errors import PermanentError
from infra.lab.plan import Lab

_TEMPLATE = Path(__file__).with_name("estate.toml")
# Release -> the PostgreSQL that its package `postgresql` installs (packages.debian.org, packages.ubuntu.com).
_POSTGRESQL = {"bookworm": "15", "trixie": "17", "jammy": "14", "noble": "16"}


def inventory_toml(lab: Lab, directory: Path) -> str:
    """The inventory of a lab whose guests have this machine's release.

    Args:
        directory: holds ``id_ed25519`` and ``ca.pem``; the inventory names them by their absolute paths.

    Raises:
        PermanentError: this machine's release is none that the lab knows.
    """
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")
    if codename not in _POSTGRESQL:
        raise PermanentError(f"release {codename!r}: the lab's guests can be {', '.join(_POSTGRESQL)}")
    return render(lab, directory, f"postgresql@{_POSTGRESQL[codename]}-main.service")


def render(lab: Lab, directory: Path, postgresql: str) -> str:
    """The inventory, with `postgresql` as the unit of the databases' clusters."""
    net = lab.gateway.rpartition(".")[0]
    template = Template(_TEMPLATE.read_text())
    return template.substitute(net=net, directory=directory.resolve(), postgresql=postgresql)
