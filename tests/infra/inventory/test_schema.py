"""The JSON Schema that editors use agrees with what is loaded."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from infra.inventory.schema import inventory_schema
from tests.infra.inventory.documents import valid

EXAMPLE = Path(__file__).parents[3] / "deployments/inventory.example.toml"
VALIDATOR = Draft202012Validator(inventory_schema())


def test_it_is_a_schema_of_its_draft() -> None:
    Draft202012Validator.check_schema(inventory_schema())
    assert inventory_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("document", [tomllib.loads(EXAMPLE.read_text(encoding="utf-8")), valid()])
def test_it_accepts_what_loads(document: dict[str, Any]) -> None:
    assert list(VALIDATOR.iter_errors(document)) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", 99999),
        ("adress", "x"),
        ("name", "web-1"),
        ("environment", "production"),
        ("os", "plan9"),
        ("user", None),
    ],
)
def test_it_refuses_in_a_host_what_does_not_load(key: str, value: Any) -> None:
    document = valid()
    document["environments"]["production"]["hosts"]["web-1"][key] = value
    assert len(list(VALIDATOR.iter_errors(document))) == 1


def test_it_refuses_unknown_keys_and_names_everywhere() -> None:
    document = valid()
    document["colour"] = "blue"
    document["environments"]["pro duction"] = {}
    assert len(list(VALIDATOR.iter_errors(document))) == 2


def test_every_key_that_is_not_plain_has_a_description() -> None:
    host = inventory_schema()["$defs"]["Host"]
    assert "name" not in host["properties"]
    assert host["required"] == ["address"]
    assert host["properties"]["jump"]["description"].startswith("Name of the inventory host")
    assert host["additionalProperties"] is False
