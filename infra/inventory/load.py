"""Read the file, add what hosts inherit, check every reference, and report all mistakes at once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra.errors import BadInventory
from infra.inventory.embedded import embedded_inventory
from infra.inventory.model import Inventory


def load_inventory(path: Path | None) -> Inventory:
    """Read and validate an inventory.

    Args:
        path: the TOML file; None for the embedded one (this machine, environment `local`).

    Raises:
        BadInventory: every mistake at once.
    """
    if path is None:
        return embedded_inventory()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInventory((f"{path}: {error}",)) from error
    inherit(document)
    try:
        return Inventory.model_validate(document)
    except ValidationError as error:
        lines = (f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadInventory(tuple(lines)) from error


def inherit(document: dict[str, Any]) -> None:
    """Give every host its name, its environment, and what [defaults] says."""
    defaults = document.get("defaults", {})
    for environment, table in document.get("environments", {}).items():
        for name, host in table.get("hosts", {}).items():
            table["hosts"][name] = {**defaults, **host, "name": name, "environment": environment}
