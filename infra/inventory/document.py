"""A TOML document as tables in tables: paths into it, and how keys and values are written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]
Document = dict[str, Any]

ABSENT = object()
MAX_DEPTH = 12  # the format itself goes 8 deep; deeper ones exhaust the stack of every reader
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def walk(value: Any) -> Iterator[tuple[Path, Any]]:
    """The value and everything in it with its path: parents first, in the file's order, to `MAX_DEPTH`."""
    pending: list[tuple[Path, Any]] = [((), value)]
    while pending:
        path, value = pending.pop()
        yield path, value
        if len(path) >= MAX_DEPTH:
            continue
        if isinstance(value, dict):
            pending.extend(((*path, key), value[key]) for key in reversed(value))
        elif isinstance(value, list):
            pending.extend(((*path, index), value[index]) for index in reversed(range(len(value))))


def look_up(document: Document, path: Path) -> Any:
    """What stands at the path; `ABSENT` when nothing does."""
    value: Any = document
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return ABSENT
    return value


def spell_path(path: Path) -> str:
    """The path as TOML writes it: ``environments.production."web 1".endpoints[0]``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + spell_key(step)
    return text


def spell_key(key: str) -> str:
    """The key as TOML writes it, quoted where it must be."""
    return key if BARE_KEY.match(key) else json.dumps(key, ensure_ascii=False)


def spell_value(value: Any, at_most: int = 80, depth: int = 3) -> str:
    """The value as TOML writes it, on one line, cut short in length and in depth."""
    if isinstance(value, dict | list) and not depth:
        text = "..."
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, dict):
        pairs = [f"{spell_key(k)} = {spell_value(v, at_most, depth - 1)}" for k, v in list(value.items())[:5]]
        text = f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    elif isinstance(value, list):
        text = f"[{', '.join(spell_value(v, at_most, depth - 1) for v in value[:5])}]"
    else:
        text = str(value)
    return text if len(text) <= at_most else f"{text[: at_most - 3]}..."
