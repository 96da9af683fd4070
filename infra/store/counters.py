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


def remember_counters(
    environments: Mapping[str, str], facts: Iterable[HostFacts], *, url: str | None = None
) -> None:
    """Keep the counters of these hosts for the next run.

    Args:
        environments: host name -> its environment.
    """
    rows = [
        {
            "environment": environments[f.host],
            "host": f.host,
            "read_at": f.read_at,
            "boot_id": f.boot_id,
            "counters": COUNTERS.dump_python(f.counters, mode="json"),
        }
        for f in sorted(
            facts, key=lambda f: (environments[f.host], f.host)
        )  # one order: writers cannot deadlock
    ]
    if not rows:
        return
    with writing(url) as session:
        dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
        add = dialect.insert(CountersRow)
        changed = {name: add.excluded[name] for name in ("read_at", "boot_id", "counters")}
        session.execute(add.on_conflict_do_update(index_elements=["environment", "host"], set_=changed), rows)


def read_previous_counters(
    boot_ids: Mapping[tuple[str, str], str], *, url: str | None = None
) -> dict[str, Counters]:
    """The counters that an earlier run kept, by host, where the host has not been booted since.

    Args:
        boot_ids: (environment, host) -> boot_id as it is now.
    """
    with reading(url) as session:
        rows = session.scalars(select(CountersRow))
        return {
            row.host: COUNTERS.validate_python(row.counters)
            for row in rows
            if boot_ids.get((row.environment, row.host)) == row.boot_id
        }
