"""One lab for the whole test run; `UPKEEP_TEST_LAB=NAME` uses one that is up already and leaves it up."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from infra.lab import life
from infra.lab.client import LabClient
from infra.lab.machine import why_not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the lab's tests where no lab can run; the reason is said for each of them."""
    reason = why_not()
    for item in items:
        if reason and item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.skip(reason=f"NO LAB HERE: {reason}"))


@pytest.fixture(scope="session")
def lab() -> Iterator[LabClient]:
    """A lab whose hosts are all up; a test that changes a host asks for `mended` too."""
    if name := os.environ.get("UPKEEP_TEST_LAB"):
        yield life.up(name)
        return
    name = f"test-{os.getpid()}"
    try:
        yield life.up(name)
    finally:
        life.down(name)


@pytest.fixture()
def mended(lab: LabClient) -> Iterator[list[str]]:
    """Put hosts back as they were at `up` after the test: it appends their names."""
    names: list[str] = []
    yield names
    if names:
        lab.reset(*dict.fromkeys(names))
