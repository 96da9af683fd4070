"""The store's schema and its revisions (Alembic), safe when several processes start at once.

One process migrates while the others wait: a lock file beside a SQLite store, an advisory lock in PostgreSQL.
A migration is one transaction, so a store is at one revision or at the next, never between.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from infra.errors import ServiceUnavailable
from infra.settings import settings
from infra.store.session import engine_of, sqlite_file, store_errors, store_url

ADVISORY_LOCK = 0x7570_6B65_6570  # "upkeep"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config


def head_revision() -> str:
    """The revision that this version of Upkeep works with."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def is_known(revision: str) -> bool:
    """Whether this version of Upkeep has a revision; a newer version's it has not."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return revision in {script.revision for script in scripts}


def current_revision(url: str | None = None) -> str | None:
    """The revision that the store is at; None when there is no store yet. Creates nothing.

    Raises:
        ServiceUnavailable: the store cannot be reached.
    """
    engine = engine_of(url or store_url())
    file = sqlite_file(engine)
    if file is not None and not file.exists():
        return None
    with store_errors(engine), engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def migrate(url: str | None = None) -> None:
    """Create the store, or bring it to `head_revision`; does nothing when it is there already.

    Raises:
        ServiceUnavailable: it cannot be reached or written, or is newer than this version of Upkeep.
    """
    engine = engine_of(url or store_url())
    if current_revision(url) == head_revision():
        return
    with (
        store_errors(engine),
        _sqlite_lock(engine),
        engine.execution_options(sqlite_begin="IMMEDIATE").begin() as connection,
    ):
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        _require_known(engine, MigrationContext.configure(connection).get_current_revision())
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _require_known(engine: Engine, revision: str | None) -> None:
    """Refuse a store that a newer version of Upkeep has migrated."""
    if revision is not None and not is_known(revision):
        raise ServiceUnavailable(
            f"the store {engine.url.render_as_string()} is at revision {revision}, which this version of "
            f"Upkeep does not know (its newest is {head_revision()})",
            advice="use the version that migrated it",
        )


@contextmanager
def _sqlite_lock(engine: Engine) -> Iterator[None]:
    """Create the file (0600; a home of our own 0700) and keep other processes off while it is set up."""
    file = sqlite_file(engine)
    if file is None:
        yield
        return
    try:
        if file.parent == settings().home:  # another directory may be a typing error: it must be there
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServiceUnavailable(
            f"the store {file} cannot be created ({error.strerror}): "
            "UPKEEP_HOME and UPKEEP_DATABASE_URL must lie in a directory that exists and that you may write"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        yield
    finally:
        os.close(lock)
