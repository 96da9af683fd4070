"""The store, the inventory, its secrets and its hosts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deployments.doctor.diagnosis import Diagnosis, ok
from infra.errors import BadInventory, SecretMissing, UpkeepError
from infra.findings import Status
from infra.inventory import Host, Inventory, load_inventory
from infra.settings import settings


def check_store() -> Iterator[Diagnosis]:
    """Whether the store can be reached and has the schema of this version."""
    from infra.store.migrate import current_revision, head_revision
    from infra.store.session import engine_of, store_url

    where = engine_of(store_url()).url.render_as_string(hide_password=True)
    current, head = current_revision(), head_revision()
    if current == head:
        yield ok("store", f"{where} is at revision {head}")
    elif current is None:
        words = f"there is no store at {where} yet"
        yield Diagnosis("store", Status.WARNING, words, "the first `upkeep health` makes it")
    else:
        words = f"the store {where} is at revision {current}, this version works with {head}"
        yield Diagnosis("store", Status.WARNING, words, "back it up; the next `upkeep health` migrates it")


def check_inventory() -> Iterator[Diagnosis]:
    """Whether the inventory is valid as a whole."""
    path = settings().inventory
    try:
        inventory = load_inventory(path)
    except BadInventory as error:
        advice = "`upkeep inventory check` shows them too; `upkeep inventory schema` helps an editor"
        yield Diagnosis("inventory", Status.CRITICAL, str(error), advice)
        return
    hosts, environments = len(inventory.fleet()), ", ".join(inventory.environments)
    name = str(path) if path else "the embedded inventory (this machine; UPKEEP_INVENTORY names another)"
    yield ok("inventory", f"{name}: {hosts} host{'' if hosts == 1 else 's'}, environments {environments}")


def valid_inventory() -> Inventory | None:
    """The inventory, if it is valid."""
    try:
        return load_inventory(settings().inventory)
    except UpkeepError:
        return None


def check_secrets(inventory: Inventory) -> Iterator[Diagnosis]:
    """Whether every secret that the inventory names is somewhere; none is shown."""
    from tasks.secrets import read_secret

    names = sorted(secret_names(inventory.model_dump()))
    missing = []
    for name in names:
        try:
            read_secret(name)
        except SecretMissing as error:
            missing.append(name)
            variable = f"UPKEEP_SECRET_{name.upper().replace('-', '_')}"
            advice = f"set {variable}, or write the file $UPKEEP_SECRETS_DIR/{name} (0600) or a Secret block"
            yield Diagnosis("secrets", Status.CRITICAL, str(error), advice)
    if not names:
        yield ok("secrets", "the inventory names none")
    elif not missing:
        yield ok("secrets", f"all {len(names)} are there")


def secret_names(value: Any, key: str = "") -> set[str]:
    """Names under every key that ends in ``_secret`` or ``_secrets``."""
    if isinstance(value, dict):
        return {name for k, v in value.items() for name in secret_names(v, str(k))}
    if isinstance(value, list | tuple):
        return {name for v in value for name in secret_names(v, key)}
    return {value} if isinstance(value, str) and key.endswith(("_secret", "_secrets")) else set()


def check_hosts(inventory: Inventory) -> Iterator[Diagnosis]:
    """Whether we can log in to every host and run a command."""
    from infra.ssh import close_all, fan_out

    hosts = tuple(host for host in inventory.fleet() if host.os != "windows")
    try:
        answers = fan_out(hosts, log_in)
    finally:
        close_all()
    failed = [answer for answer in answers if isinstance(answer, UpkeepError)]
    advice = "try `ssh` to it by hand; a key that is not known yet is recorded by `upkeep hosts trust`"
    for error in failed:
        yield Diagnosis("hosts", Status.CRITICAL, str(error), advice)
    if len(failed) < len(hosts):
        yield ok("hosts", f"{len(hosts) - len(failed)} of {len(hosts)} let us in")


def log_in(host: Host) -> str:
    """Run the smallest command on a host."""
    from infra.ssh import session

    return session(host).run("true").command
