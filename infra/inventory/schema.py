"""The inventory's JSON Schema (draft 2020-12), as editors use it."""

from __future__ import annotations

from functools import cache
from typing import Any

from infra.inventory.model import Inventory

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@cache
def inventory_schema() -> dict[str, Any]:
    """The schema of the file: without what loading adds, and without null, which TOML cannot write."""
    body = _for_toml(Inventory.model_json_schema())
    return {"$schema": DIALECT, **body, "title": "Upkeep inventory"}


def _for_toml(node: Any) -> Any:
    if isinstance(node, list):
        return [_for_toml(each) for each in node]
    if not isinstance(node, dict):
        return node
    # "title" repeats the key; a property of that name would be a table, not text
    kept = {k: _for_toml(v) for k, v in node.items() if not (k == "title" and isinstance(v, str))}
    if "default" in kept and kept["default"] is None:
        del kept["default"]
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    options = [option for option in kept.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        del kept["anyOf"]
        kept = {**options[0], **kept}
    return kept
