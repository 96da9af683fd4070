"""One line per mistake: file, key, value, what is accepted; never a secret's value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic_core import ErrorDetails

from infra.inventory.document import ABSENT, Document, Path, look_up, shorten, spell_path, spell_value
from infra.inventory.leaks import NAMING_KEYS, find_leaks, leak_in

HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at one place of the file.

    Attributes:
        path: where; the empty path is the file itself.
        accepted: what would be right there.
        problem: what is wrong with it, where the value alone does not show it.
    """

    path: Path
    accepted: str
    problem: str = ""

    def line(self, file: str, document: Document) -> str:
        """``FILE: KEY = VALUE: PROBLEM; accepted: ...``"""
        shown = spell_path(tuple(HIDDEN if isinstance(s, str) and leak_in(s) else s for s in self.path))
        value = look_up(document, self.path)
        if self.path and value is not ABSENT:
            shown += f" = {HIDDEN if self._is_secret(value) else shorten(value)}"
        problem = f"{self.problem}; " if self.problem else ""
        return ": ".join(part for part in (file, shown, f"{problem}accepted: {self.accepted}") if part)

    def _is_secret(self, value: Any) -> bool:
        return bool(NAMING_KEYS & {*self.path}) or any(True for _ in find_leaks(value, self.path))


def translate(error: ErrorDetails, schema: Mapping[str, Any]) -> Mistake:
    """Turn one of pydantic's errors into a mistake, in the words of the JSON Schema."""
    path = tuple(step for step in error["loc"] if step != "[key]")
    if error["type"] == "value_error":
        return Mistake(path, str(error["ctx"]["error"]))
    if error["type"] == "extra_forbidden":
        known = _node_at(schema, path[:-1]).get("properties", {})
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        return Mistake(path, ", ".join(known), f"unknown key{hint}")
    accepted = words_at(schema, path) or error["msg"]
    return Mistake(path, accepted, "missing" if error["type"] == "missing" else "")


def words_at(schema: Mapping[str, Any], path: Path) -> str:
    """What a JSON Schema accepts at the path, in words; empty where it says nothing."""
    return _words(_node_at(schema, path), schema)


def _node_at(schema: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The part of the schema that describes the path; empty where it has none."""
    node: Mapping[str, Any] = schema
    for step in path:
        node = _resolved(node, schema)
        if isinstance(step, int):
            node = node.get("items", {})
        elif step in node.get("properties", {}):
            node = node["properties"][step]
        else:
            others = node.get("additionalProperties")
            every = [others] if isinstance(others, dict) else [*node.get("patternProperties", {}).values()]
            node = every[0] if every else {}
    return _resolved(node, schema)


def _resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node without its reference and without the null that TOML cannot write."""
    if "anyOf" in node:
        options: list[dict[str, Any]] = [o for o in node["anyOf"] if o.get("type") != "null"]
        node = {**node, **options[0]}
    if "$ref" in node:
        target = schema["$defs"][str(node["$ref"]).rsplit("/", 1)[-1]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def _words(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What a node accepts, in words."""
    node = _resolved(node, schema)
    if "const" in node or "enum" in node:
        return ", ".join(spell_value(choice) for choice in node.get("enum", [node.get("const")]))
    kind = cast("str", node.get("type", ""))
    purpose = re.sub(r"\.$", "", node.get("description", ""))
    if kind == "object":
        keys = ", ".join(node.get("properties", {}))
        return f"a table with the keys {keys}" if keys else _at_least(node, "minProperties", "a table")
    if kind == "array":
        return f"{_at_least(node, 'minItems', 'a list')}, each: {_words(node.get('items', {}), schema)}"
    plain = {
        "string": f"text in quotes ({purpose})" if purpose else "text in quotes",
        "boolean": "true or false",
        "integer": f"a whole number{_range(node)}",
        "number": f"a number{_range(node)}",
    }
    return plain.get(kind, "")


def _at_least(node: Mapping[str, Any], key: str, noun: str) -> str:
    return f"{noun} with at least {node[key]} entry" if key in node else noun


def _range(node: Mapping[str, Any]) -> str:
    low, high, above = node.get("minimum"), node.get("maximum"), node.get("exclusiveMinimum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    limits = [
        *([f"{low:g} or more"] if low is not None else []),
        *([f"more than {above:g}"] if above is not None else []),
        *([f"at most {high:g}"] if high is not None else []),
    ]
    return "".join(f", {limit}" for limit in limits)
