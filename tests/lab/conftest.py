"""One lab for the whole test run; `UPKEEP_TEST_LAB=NAME` uses one that is up already and leaves it up."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from infra.lab import life
from infra.lab.client import LabClient
from infra.lab.directory import LabDirectory
from infra.lab.machine import why_not
from tests.deployments.installation import Installation
from tests.lab.traces import inotify_limit, traces


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
    directory, limit = LabDirectory.of(name), inotify_limit()
    try:
        yield life.up(name)
        claimed = directory.lab()
    finally:
        life.down(name)
    assert traces(directory, claimed) == []
    assert inotify_limit() == limit


@pytest.fixture
def mended(lab: LabClient) -> Iterator[list[str]]:
    """Put hosts back as they were at `up` after the test: it appends their names."""
    names: list[str] = []
    yield names
    if names:
        lab.reset(*dict.fromkeys(names))


@pytest.fixture(scope="session")
def upkeep(lab: LabClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation, served, whose inventory is the lab's."""
    here = Installation(
        tmp_path_factory.mktemp("upkeep"),
        variables={
            "UPKEEP_INVENTORY": str(lab.path / "inventory.toml"),
            "UPKEEP_KNOWN_HOSTS": str(lab.path / "known_hosts"),
            "UPKEEP_SECRETS_DIR": str(lab.path / "secrets"),
            "UPKEEP_CONNECT_TIMEOUT_S": "3",
        },
    )
    try:
        here.serve({"name": "all", "entrypoint": "flows.health.health"})
        yield here
    finally:
        here.upkeep("down")
