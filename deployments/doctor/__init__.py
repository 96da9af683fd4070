"""What is missing or misconfigured, and what to do about it: one `Diagnosis` per thing looked at.

The law: each check answers for itself; one that an earlier fault makes impossible is left out, never ok.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import partial

from deployments.doctor import estate, serving
from deployments.doctor.diagnosis import Diagnosis, guarded
from deployments.prefect_api import PrefectApi, require_server
from infra.errors import UpkeepError
from infra.settings import settings

__all__ = ["Diagnosis", "examine"]


def examine(*, hosts: bool = True) -> Iterator[Diagnosis]:
    """Look at everything, and report each thing as it is known.

    Args:
        hosts: whether to connect to the inventory's hosts too.
    """
    home = shlex.quote(str(settings().home))
    yield from guarded("versions", serving.check_versions, "make up")
    yield from guarded("files", serving.check_modes, f"ls -ld {home}; be its owner, or set UPKEEP_HOME")
    yield from guarded("room", serving.check_room, f"df -h {home}")
    yield from guarded("server", serving.check_server, "upkeep up")
    api = usable_api()
    if api is not None:
        for name, look in serving.WITH_SERVER.items():
            yield from guarded(name, partial(look, api), "upkeep down; upkeep up")
    yield from guarded("store", estate.check_store, f"ls -l {home}; df -h {home}")
    yield from guarded("inventory", estate.check_inventory, "upkeep inventory check")
    inventory = estate.valid_inventory()
    if inventory is not None:
        yield from guarded(
            "secrets",
            partial(estate.check_secrets, inventory, blocks=api is not None),
            "upkeep inventory check",
        )
        if hosts:
            yield from guarded("hosts", partial(estate.check_hosts, inventory), "upkeep health")


def usable_api() -> PrefectApi | None:
    """The API, if it answers and lets us in; why it does not is the server's diagnosis."""
    try:
        return require_server()
    except UpkeepError:
        return None
