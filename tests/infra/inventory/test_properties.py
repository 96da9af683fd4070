"""Whatever happens to a file: it loads, or BadInventory says what is wrong. Nothing else is ever raised."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.errors import BadInventory
from infra.inventory.document import look_up, walk
from infra.inventory.load import parse_inventory
from tests.infra.inventory.documents import parse, to_toml, valid

PATHS = [path for path, _ in walk(valid()) if path]
WORDS = st.sampled_from(
    [
        "",
        "web-1",
        "production",
        "control",
        "name",
        "hosts",
        "jump",
        "shop",
        "(",
        "http://",
        "tcp://a:1",
        "x y",
        "ä\x7f",
        "[",
        "1",
    ]
)
SCALARS = st.one_of(
    WORDS,
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, tuple[str | int, ...], Any]:
    """What to do, where, and with which value."""
    return draw(st.sampled_from(["put", "remove", "add"])), draw(st.sampled_from(PATHS)), draw(VALUES)


def mutate(document: dict[str, Any], kind: str, path: tuple[str | int, ...], value: Any) -> None:
    """Apply one mutation where its path still leads somewhere."""
    parent = look_up(document, path[:-1])
    if isinstance(parent, dict) and not isinstance(path[-1], str):
        return  # an earlier mutation put a table where a list was
    with contextlib.suppress(KeyError, IndexError, TypeError):
        if kind == "put":
            parent[path[-1]] = value
        elif kind == "remove":
            del parent[path[-1]]
        elif isinstance(parent, list):
            parent.append(value)
        else:
            parent[value if isinstance(value, str) else "added"] = value


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(mutations(), min_size=1, max_size=4))
def test_a_mutated_inventory_loads_or_is_refused_with_reasons(changes: list[tuple[str, Any, Any]]) -> None:
    document = valid()
    for kind, path, value in changes:
        mutate(document, kind, path, value)
    refused: tuple[str, ...] = ()
    try:
        inventory = parse(document)
    except BadInventory as refusal:
        refused = refusal.mistakes
        assert refused
    else:
        for host in inventory.fleet():
            inventory.critical_units(host)
            inventory.thresholds_for(host, host.environment)
    assert all(line.startswith("estate.toml: ") and "accepted: " in line for line in refused)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 5000), st.text(max_size=8))
def test_a_file_cut_or_overwritten_anywhere_loads_or_is_refused(at: int, insert: str) -> None:
    text = to_toml(valid())
    cut = text[: at % len(text)] + insert + text[at % len(text) + len(insert) :]
    with contextlib.suppress(BadInventory):
        parse_inventory(cut, "estate.toml")
