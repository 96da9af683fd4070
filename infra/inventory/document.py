"""A TOML document as tables in tables: paths into it, and how keys and values are written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
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


def spell_value(value: Any) -> str:
    """The value as TOML writes it, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        pairs = [f"{spell_key(key)} = {spell_value(each)}" for key, each in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(spell_value(each) for each in value)}]"
    return str(value)


def shorten(value: Any, at_most: int = 80) -> str:
    """The value as TOML writes it, cut short in length and in depth."""
    text = spell_value(_shallow(value, 3))
    return text if len(text) <= at_most else f"{text[: at_most - 3]}..."


def _shallow(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return {key: _shallow(each, depth - 1) for key, each in list(value.items())[:5]} if depth else "..."
    if isinstance(value, list):
        return [_shallow(each, depth - 1) for each in value[:5]] if depth else "..."
    return value


def listed(names: Iterable[str], at_most: int = 20) -> str:
    """The names in alphabetical order on one line, cut short in a large estate."""
    every = sorted(names)
    more = f" and {len(every) - at_most} more" if len(every) > at_most else ""
    return ", ".join(every[:at_most]) + more if every else "(none is there)"
