from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from infra.errors import ServiceUnavailable
from infra.store.migrate import current_revision, head_revision, migrate
from infra.store.session import engine_of, parse_url, reading, writing
from infra.store.tables import Table


def test_a_store_that_is_not_there_has_no_revision_and_is_not_created_by_asking(tmp_path: Path) -> None:
    assert current_revision(f"sqlite:///{tmp_path}/none/upkeep.db") is None
    assert not (tmp_path / "none").exists()


def test_migrating_brings_a_new_store_to_the_newest_revision_and_again_changes_nothing(url: str) -> None:
    migrate(url)
    migrate(url)
    assert current_revision(url) == head_revision()


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(url: str) -> None:
    migrate(url)
    with engine_of(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_processes_that_start_at_once_migrate_once(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=migrate, args=(url,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert current_revision(url) == head_revision()


def test_a_store_that_is_newer_than_the_code_is_refused_with_both_revisions(url: str) -> None:
    migrate(url)
    with engine_of(url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'f00d'"))
    with pytest.raises(ServiceUnavailable, match=f"revision f00d.*newest is {head_revision()}"):
        migrate(url)


def test_a_directory_that_may_be_a_typing_error_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="cannot be created"):
        migrate(f"sqlite:///{tmp_path}/hmoe/upkeep.db")
    assert not (tmp_path / "hmoe").exists()


def test_the_file_of_a_store_is_readable_by_its_owner_only(home: Path) -> None:
    migrate()
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()}
    assert modes["upkeep.db"] == 0o600
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("postgresql://upkeep:hunter2@127.0.0.1:1/upkeep", "cannot be used"),
        ("mysql://upkeep:hunter2@127.0.0.1/upkeep", "accepted: sqlite:///FILE or postgresql://"),
        ("no url at all, hunter2", "accepted: sqlite:///FILE or postgresql://"),
        ("sqlite://", "accepted: sqlite:///FILE"),
        ("sqlite:////proc/none/upkeep.db", "cannot be created"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_sentence_without_its_password(bad: str, words: str) -> None:
    with pytest.raises(ServiceUnavailable) as caught:
        migrate(bad)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "upkeep.db").write_text(
        "this is not a database, and it is long enough to be read as one" * 20
    )
    with pytest.raises(ServiceUnavailable, match="file is not a database"):
        migrate(f"sqlite:///{tmp_path}/upkeep.db")


def test_the_driver_that_we_ship_is_used_for_every_spelling_of_postgresql() -> None:
    drivers = {
        parse_url(f"{name}://h/d").drivername for name in ("postgresql", "postgres", "postgresql+psycopg2")
    }
    assert drivers == {"postgresql+psycopg"}


def test_a_statement_that_is_wrong_stays_a_bug(url: str) -> None:
    with pytest.raises(Exception, match="nonsense") as caught, reading(url) as session:
        session.execute(text("SELECT * FROM nonsense"))
    assert isinstance(caught.value, ServiceUnavailable) == url.startswith(
        "sqlite"
    )  # SQLite calls both the same


def test_a_write_that_fails_leaves_nothing_behind(url: str) -> None:
    insert = text(
        "INSERT INTO counters (host, read_at, boot_id, counters) VALUES ('a', '2026-01-01', 'b', '{}')"
    )

    def fail() -> None:
        with writing(url) as session:
            session.execute(insert)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with reading(url) as session:
        assert session.execute(text("SELECT count(*) FROM counters")).scalar_one() == 0
