"""The store, the inventory, its secrets and its hosts."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from deployments.doctor.diagnosis import Diagnosis, ok
from infra.errors import BadInventory, HostKeyRefused, SecretMissing, UpkeepError
from infra.findings import Status
from infra.inventory import Host, Inventory, load_inventory
from infra.secrets import resolve_secret, secret_variable
from infra.settings import settings
from tasks.health.judge.about import on_host


def check_store() -> Iterator[Diagnosis]:
    """Whether the store can be reached and has the schema of this version."""
    from infra.store.migrate import current_revision, head_revision, is_known
    from infra.store.session import engine_of, store_url

    where = engine_of(store_url()).url.render_as_string(hide_password=True)
    current, head = current_revision(), head_revision()
    if current == head:
        yield ok("store", f"{where} is at revision {head}")
    elif current is None:
        words = f"there is no store at {where} yet"
        yield Diagnosis("store", Status.WARNING, words, "upkeep health (the first run makes it)")
    elif is_known(current):
        words = f"the store {where} is at revision {current}, this version works with {head}"
        advice = "back it up, then: upkeep health (the next run migrates it)"
        yield Diagnosis("store", Status.WARNING, words, advice)
    else:
        words = f"the store {where} is at revision {current} of a newer Upkeep; this one knows up to {head}"
        advice = "go back to the version that migrated it: git pull; make up"
        yield Diagnosis("store", Status.CRITICAL, words, advice)


def check_inventory() -> Iterator[Diagnosis]:
    """Whether the inventory is valid as a whole."""
    path = settings().inventory
    try:
        inventory = load_inventory(path)
    except BadInventory as error:
        yield Diagnosis("inventory", Status.CRITICAL, str(error), "mend it, then: upkeep inventory check")
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


def check_secrets(inventory: Inventory, *, blocks: bool) -> Iterator[Diagnosis]:
    """Whether every secret that the inventory names is somewhere; none is shown.

    Args:
        blocks: whether Prefect can be asked for its blocks; it is a long wait where it does not answer.
    """
    from tasks.secrets import read_secret

    names = sorted(secret_names(inventory.model_dump()))
    missing = 0
    for name in names:
        try:
            read_secret(name) if blocks else resolve_secret(name)
        except SecretMissing as error:
            missing += 1
            if blocks or error.advice:
                advice = error.advice or how_to_keep(name)
                yield Diagnosis("secrets", Status.CRITICAL, error.what_happened, advice)
            else:
                words = f"{error.what_happened}; Prefect's blocks cannot be asked now"
                yield Diagnosis(
                    "secrets", Status.UNKNOWN, words, "mend the server first, then: upkeep doctor"
                )
    if not names:
        yield ok("secrets", "the inventory names none")
    elif not missing:
        yield ok("secrets", f"all {len(names)} are there")


def how_to_keep(name: str) -> str:
    """The command that puts a secret where it is looked for; it reads the keyboard, not an argument."""
    directory = settings().secrets_dir
    if directory:
        return f"install -m 600 /dev/stdin {shlex.quote(str(directory / name))}   (type it, then Ctrl-D)"
    variable = secret_variable(name)
    return f"read -rs {variable}; export {variable}   (or keep files: UPKEEP_SECRETS_DIR)"


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
    failed = [
        (host, answer) for host, answer in zip(hosts, answers, strict=True) if isinstance(answer, UpkeepError)
    ]
    for host, error in failed:
        unknown = isinstance(error, HostKeyRefused)
        advice = f"upkeep hosts trust {host.name}" if unknown else on_host(host, "true")
        yield Diagnosis("hosts", Status.CRITICAL, error.what_happened, error.advice or advice)
    if len(failed) < len(hosts):
        yield ok("hosts", f"{len(hosts) - len(failed)} of {len(hosts)} let us in")


def log_in(host: Host) -> str:
    """Run the smallest command on a host."""
    from infra.ssh import session

    return session(host).run("true").command
