"""Read the file, add what hosts inherit, check every reference, and report all mistakes at once."""

from __future__ import annotations

import json
import tomllib
from datetime import date, time
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from infra.errors import BadInventory
from infra.inventory.document import ABSENT, MAX_DEPTH, Document, Path, look_up, walk
from infra.inventory.embedded import embedded_inventory
from infra.inventory.leaks import find_leaks
from infra.inventory.mistakes import Mistake, translate
from infra.inventory.model import Inventory
from infra.inventory.references import find_broken_references, find_broken_rules, find_loops, tables
from infra.inventory.schema import inventory_schema


def load_inventory(path: FilePath | None) -> Inventory:
    """Read and validate an inventory.

    Args:
        path: the TOML file; None for the embedded one (this machine, environment `local`).

    Raises:
        BadInventory: every mistake at once.
    """
    if path is None:
        return embedded_inventory()
    try:
        text = path.read_text(encoding="utf-8-sig")  # a byte order mark is an editor's habit
    except OSError as error:
        accepted = "accepted: a readable TOML file (UPKEEP_INVENTORY or --inventory names it)"
        raise BadInventory((f"{path}: {error.strerror}; {accepted}",)) from error
    except UnicodeDecodeError as error:
        raise BadInventory((f"{path}: {error.reason} at byte {error.start}; accepted: UTF-8",)) from error
    return parse_inventory(text, str(path))


def parse_inventory(text: str, file: str) -> Inventory:
    """Validate the text of an inventory.

    Args:
        text: TOML.
        file: what the mistakes call it.

    Raises:
        BadInventory: every mistake at once, in the file's order.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number beyond Python's 4300 digits
        raise BadInventory((f"{file}: {error}; accepted: TOML (https://toml.io)",)) from error
    inventory, mistakes = _examine(document)
    if inventory is None or mistakes:
        raise BadInventory(tuple(m.line(file, document) for m in _in_file_order(mistakes, document)))
    return inventory


def _examine(document: Document) -> tuple[Inventory | None, list[Mistake]]:
    """The inventory, if its shape is right, and every mistake, each place once."""
    deep = [path for path, _ in walk(document) if len(path) >= MAX_DEPTH]
    if deep:
        return None, [Mistake(deep[0], "the tables of `upkeep inventory schema`", "too deep")]
    mistakes = [Mistake(path, accepted, "a secret in the file") for path, accepted in find_leaks(document)]
    dates = [path for path, value in walk(document) if isinstance(value, date | time)]  # a datetime is a date
    mistakes += [Mistake(path, "text in quotes; no key takes a date") for path in dates]
    explained = {mistake.path for mistake in mistakes}
    inventory, misshapen = _validate(document)
    broken = [*find_broken_references(document), *find_broken_rules(document), *find_loops(document)]
    shown = {m.path for m in misshapen}
    mistakes += [m for m in misshapen if not _within(m.path, explained)]
    mistakes += [m for m in broken if not _within(m.path, explained) and m.path not in shown]
    return inventory, mistakes


def _validate(document: Document) -> tuple[Inventory | None, list[Mistake]]:
    # As JSON, because only there does pydantic's strict mode take lists for tuples and text for enums
    text = json.dumps(_inherited(document), default=str)
    try:
        return Inventory.model_validate_json(text, strict=True), []
    except ValidationError as error:
        schema = inventory_schema()
        errors = error.errors(include_url=False)
        own = [e for e in errors if _is_own(e, document)]
        return None, [translate(e, schema) for e in own or errors]


def _is_own(error: ErrorDetails, document: Document) -> bool:
    """Whether a mistake stands where it was found.

    Otherwise it was inherited, and is reported at its source; or it calls a list too short only because
    pydantic does not count the items that it reports themselves.
    """
    if error["type"] == "missing" or "[key]" in error["loc"]:
        return True
    value = look_up(document, error["loc"])
    return value is not ABSENT and not (error["type"] == "too_short" and value)


def _inherited(document: Document) -> Document:
    """The document with every host's name and environment, and with what it takes from [defaults]."""
    defaults = tables(document, ("defaults",))
    environments: dict[str, Any] = {}
    for environment, table in tables(document, ("environments",)).items():
        hosts = table.get("hosts") if isinstance(table, dict) else None
        environments[environment] = table
        if isinstance(hosts, dict):
            named = {name: _named(name, environment, host, defaults) for name, host in hosts.items()}
            environments[environment] = {**table, "hosts": named}
    return {**document, "environments": environments} if environments else document


def _named(name: str, environment: str, host: Any, defaults: dict[str, Any]) -> Any:
    if not isinstance(host, dict):
        return host
    is_direct = host.get("connection") == "local" or defaults.get("jump") == name
    taken = {key: value for key, value in defaults.items() if not (is_direct and key == "jump")}
    return {**taken, **host, "name": name, "environment": environment}


def _within(path: Path, places: set[Path]) -> bool:
    return any(path[:length] in places for length in range(1, len(path) + 1))


def _in_file_order(mistakes: list[Mistake], document: Document) -> list[Mistake]:
    """By where the key stands; what is missing follows the table that it is missing in."""
    order = {path: index for index, (path, _) in enumerate(walk(document))}

    def place(mistake: Mistake) -> int:
        known = (mistake.path[:length] for length in range(len(mistake.path), 0, -1))
        return next((order[path] for path in known if path in order), -1)

    return sorted(mistakes, key=place)
