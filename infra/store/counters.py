"""The last counters of each host: what a later run subtracts from its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from infra.facts import Counters, HostFacts
from infra.store.session import reading, writing
from infra.store.tables import CountersRow

COUNTERS = TypeAdapter(Counters)


def remember_counters(facts: Iterable[HostFacts], *, url: str | None = None) -> None:
    """Keep the counters of these hosts for the next run.

    Raises:
        ServiceUnavailable: the store cannot be used.
    """
    rows = [
        {
            "host": f.host,
            "read_at": f.read_at,
            "boot_id": f.boot_id,
            "counters": COUNTERS.dump_python(f.counters, mode="json"),
        }
        for f in sorted(facts, key=lambda f: f.host)  # one order for all writers: they cannot deadlock
    ]
    if not rows:
        return
    with writing(url) as session:
        dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
        add = dialect.insert(CountersRow)
        changed = {name: add.excluded[name] for name in ("read_at", "boot_id", "counters")}
        session.execute(add.on_conflict_do_update(index_elements=["host"], set_=changed), rows)


def read_previous_counters(boot_ids: Mapping[str, str], *, url: str | None = None) -> dict[str, Counters]:
    """The counters that an earlier run kept, by host, where the host has not been booted since.

    Args:
        boot_ids: host -> boot_id as it is now.

    Raises:
        ServiceUnavailable: the store cannot be used.
    """
    with reading(url) as session:
        rows = session.scalars(select(CountersRow))
        return {
            row.host: COUNTERS.validate_python(row.counters)
            for row in rows
            if boot_ids.get(row.host) == row.boot_id
        }
