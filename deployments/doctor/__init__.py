"""What is missing or misconfigured, and what to do about it: one `Diagnosis` per thing looked at.

The law: each check answers for itself; one that an earlier fault makes impossible is left out, never ok.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from deployments.doctor import estate, serving
from deployments.doctor.diagnosis import Diagnosis, guarded
from deployments.prefect_api import require_server
from infra.errors import UpkeepError

__all__ = ["Diagnosis", "examine"]


def examine(*, hosts: bool = True) -> Iterator[Diagnosis]:
    """Look at everything, and report each thing as it is known.

    Args:
        hosts: whether to connect to the inventory's hosts too.
    """
    yield from serving.check_versions()
    yield from serving.check_modes()
    yield from guarded("server", serving.check_server)
    try:
        api = require_server()
    except UpkeepError:
        pass  # said above
    else:
        for name, look in serving.WITH_SERVER.items():
            yield from guarded(name, partial(look, api))
    yield from guarded("store", estate.check_store)
    yield from guarded("inventory", estate.check_inventory)
    inventory = estate.valid_inventory()
    if inventory is not None:
        yield from guarded("secrets", partial(estate.check_secrets, inventory))
        if hosts:
            yield from guarded("hosts", partial(estate.check_hosts, inventory))
