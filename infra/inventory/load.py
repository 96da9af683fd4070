"""Read the file, add what hosts inherit, check every reference, and report all mistakes at once."""

from __future__ import annotations

from pathlib import Path

from infra.inventory.model import Inventory


def load_inventory(path: Path | None) -> Inventory:
    """Read and validate an inventory.

    Args:
        path: the TOML file; None for the embedded one (this machine, environment `local`).

    Raises:
        BadInventory: every mistake at once.
    """
    raise NotImplementedError
