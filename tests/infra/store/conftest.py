"""Every test of the store runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from infra.store.session import engine_of, ready_engine
from tests.postgres import running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store that does not exist yet."""
    if request.param == "sqlite":
        fresh = f"sqlite:///{tmp_path / 'upkeep.db'}"
    else:
        server, name = request.getfixturevalue("postgres"), f"t{uuid4().hex}"
        with engine_of(server).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        fresh = server.rsplit("/", 1)[0] + f"/{name}"
    yield fresh
    engine_of(fresh).dispose()
    ready_engine.cache_clear()
