"""How the store is reached: SQLite in UPKEEP_HOME, or whatever UPKEEP_DATABASE_URL names.

SQLite runs in WAL mode with 30 s of patience, in a file that only its owner reads; a writer takes the write
lock when it begins, so two of them wait for each other instead of failing halfway. The first use of a store
in a process brings it to the newest revision. What a driver raises when the database cannot be used becomes
`ServiceUnavailable`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy import exc as sa
from sqlalchemy.orm import Session

from infra.errors import ServiceUnavailable
from infra.settings import settings

BUSY_TIMEOUT_S = 30
INSUFFICIENT_PRIVILEGE = "42501"  # PostgreSQL manual, appendix A


def store_url() -> str:
    """The store's SQLAlchemy URL, as configured."""
    return settings().database_url or f"sqlite:///{settings().home / 'upkeep.db'}"


def parse_url(url: str) -> URL:
    """Make a URL that names the driver we ship.

    Raises:
        ServiceUnavailable: it is no URL, or names a database that is not supported. No password is repeated.
    """
    accepted = "accepted: sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    try:
        parsed = make_url(url)
    except (sa.ArgumentError, ValueError) as error:
        raise ServiceUnavailable(f"UPKEEP_DATABASE_URL is not a database URL; {accepted}") from error
    if parsed.get_backend_name() in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return parsed.set(drivername="sqlite")
    raise ServiceUnavailable(f"UPKEEP_DATABASE_URL = {parsed.render_as_string()!r}; {accepted}")


@cache
def engine_of(url: str) -> Engine:
    """The process's engine for a URL. Connects to nothing yet."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": 5})
    engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def sqlite_file(engine: Engine) -> Path | None:
    """The file of a SQLite store, else None."""
    return Path(str(engine.url.database)) if engine.dialect.name == "sqlite" else None


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


@contextmanager
def store_errors(engine: Engine) -> Iterator[None]:
    """Turn "the database cannot be used" into `ServiceUnavailable`; a bug in a statement stays what it is."""
    try:
        yield
    except (sa.OperationalError, sa.InterfaceError, sa.TimeoutError) as error:
        raise _unavailable(engine, error) from error
    except sa.DatabaseError as error:
        refused = getattr(error.orig, "sqlstate", None) == INSUFFICIENT_PRIVILEGE
        if refused or type(error) is sa.DatabaseError:  # the bare class: "file is not a database"
            raise _unavailable(engine, error) from error
        raise


def _unavailable(engine: Engine, error: sa.SQLAlchemyError) -> ServiceUnavailable:
    where = engine.url.render_as_string(hide_password=True)
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    file = sqlite_file(engine)
    look = f"`ls -l {file}; df -h {file.parent}`" if file else f"`psql {_for_psql(engine.url)}`"
    return ServiceUnavailable(
        f"the store {where} cannot be used ({cause})",
        advice=f"check UPKEEP_DATABASE_URL and UPKEEP_HOME; {look}",
    )


def _for_psql(url: URL) -> str:
    """The address as psql takes it, without the password: psql asks."""
    return url.set(drivername="postgresql", password=None).render_as_string()


@cache
def ready_engine(url: str) -> Engine:
    """The engine, after the store was created and brought to the newest revision (once per process)."""
    from infra.store.migrate import migrate  # imports Alembic: only who uses the store pays for it

    migrate(url)
    return engine_of(url)


@contextmanager
def reading(url: str | None = None) -> Iterator[Session]:
    """A session for reading: one state of the store (SQLite), or one per statement (PostgreSQL)."""
    engine = ready_engine(url or store_url())
    with store_errors(engine), Session(engine) as session:
        yield session


@contextmanager
def writing(url: str | None = None) -> Iterator[Session]:
    """A session that commits when the block ends well and leaves nothing behind when it does not."""
    engine = ready_engine(url or store_url())
    eager = engine.execution_options(sqlite_begin="IMMEDIATE")
    with store_errors(engine), Session(eager) as session, session.begin():
        yield session
