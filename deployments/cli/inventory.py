"""`upkeep inventory`: check, show, and write the file that describes the estate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deployments.cli.app import app
from deployments.cli.exits import Exit
from infra.errors import BadInventory, SecretMissing
from infra.inventory import Host, Inventory, load_inventory
from infra.inventory.ansible import LISTING, import_ansible
from infra.inventory.load import parse_inventory
from infra.inventory.schema import inventory_schema
from infra.inventory.summary import notes_on, secret_names
from infra.settings import settings

inventory_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
app.add_typer(
    inventory_app, name="inventory", help="The file that describes environments, hosts and services."
)

InventoryFile = Annotated[
    Path | None,
    typer.Argument(help="The TOML file; default: UPKEEP_INVENTORY, else the embedded one (this machine)."),
]


@inventory_app.command()
def check(
    file: InventoryFile = None,
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Also find every secret that the file names.")
    ] = False,
) -> None:
    """Validate the whole inventory and report every mistake at once.

    Ends with 0 when it is valid, with 65 when it is not.

    Examples:

        upkeep inventory check

        upkeep inventory check deployments/inventory.example.toml --secrets
    """
    path = file or settings().inventory
    inventory = load_inventory(path)
    typer.echo(f"{path or 'embedded inventory'}: valid: {_count(inventory)}")
    for note in notes_on(inventory):
        typer.echo(f"note: {note}")
    if secrets and not _find_secrets(inventory):
        raise typer.Exit(Exit.BAD_INVENTORY)


@inventory_app.command()
def show(
    environment: Annotated[str | None, typer.Option(help="Only the hosts of this environment.")] = None,
    file: InventoryFile = None,
) -> None:
    """List the hosts.

    Examples:

        upkeep inventory show

        upkeep inventory show --environment production
    """
    table = Table(box=None, pad_edge=False)
    for column in ("host", "environment", "address", "role", "service", "group", "jump", "os"):
        table.add_column(column, overflow="fold")
    for host in load_inventory(file or settings().inventory).fleet(environment):
        group = host.redundancy_group or ""
        row = (
            host.name,
            host.environment,
            _address(host),
            host.role,
            host.service or "",
            group,
            host.jump or "",
            host.os,
        )
        table.add_row(*row)
    # A pipe has no width: lines stay whole for grep
    Console(width=None if sys.stdout.isatty() else 250, markup=False, highlight=False).print(table)


@inventory_app.command()
def schema() -> None:
    """Print the JSON Schema of the inventory, for editors.

    Example:

        upkeep inventory schema > inventory.schema.json
    """
    typer.echo(json.dumps(inventory_schema(), indent=2))


@inventory_app.command("import-ansible")
def import_from_ansible(
    file: Annotated[
        Path, typer.Argument(help="What `ansible-inventory --list` printed; - for standard input.")
    ],
    environment_group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP=ENVIRONMENT", help="The environment of an Ansible group; as often as needed."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write to this file; default: standard output.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
) -> None:
    """Turn an Ansible inventory into ours; what is left out or guessed is said on standard error.

    Groups called production, prod, staging, stage, test, dev ... give the environment, the other groups role,
    service and tags. Passwords are never carried over.

    Examples:

        ansible-inventory --list | upkeep inventory import-ansible - --output inventory.toml

        upkeep inventory import-ansible hosts.json --environment-group live=production
    """
    if output and output.exists() and not force:
        raise typer.BadParameter(
            f"{output} exists; accepted: another name, or --force", param_hint="--output"
        )
    result = import_ansible(_read_json(file), _pairs(environment_group or []))
    text = result.toml()
    parse_inventory(text, str(output or "imported inventory"))
    for warning in result.warnings:
        typer.echo(f"note: {warning}", err=True)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{output}: {error.strerror}", param_hint="--output") from error
    typer.echo(f"{output}: {sum(map(len, result.hosts.values()))} hosts", err=True)


def _count(inventory: Inventory) -> str:
    environments = inventory.environments.values()
    counts = {
        "environments": len(environments),
        "hosts": len(inventory.fleet()),
        "services": sum(len(environment.services) for environment in environments),
        "databases": sum(len(environment.databases) for environment in environments),
        "approvers": len(inventory.approvers),
    }
    return ", ".join(f"{n} {noun if n != 1 else noun.removesuffix('s')}" for noun, n in counts.items() if n)


def _address(host: Host) -> str:
    if host.connection == "local":
        return f"{host.address} (local)"
    return host.address if host.port == 22 else f"{host.address} port {host.port}"


def _find_secrets(inventory: Inventory) -> bool:
    """Look every named secret up, say which are missing, and return whether all are there."""
    from tasks.secrets import read_secret  # imports Prefect, which costs a second

    names, missing = secret_names(inventory), 0
    for name in names:
        try:
            read_secret(name)
        except SecretMissing as error:
            typer.echo(str(error), err=True)
            missing += 1
    typer.echo(f"secrets: {len(names) - missing} of {len(names)} found")
    return not missing


def _read_json(file: Path) -> Any:
    try:
        return json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from error
    except (ValueError, RecursionError) as error:
        raise BadInventory((f"{file}: {error}; {LISTING}",)) from error


def _pairs(options: list[str]) -> dict[str, str]:
    pairs = {}
    for option in options:
        group, separator, environment = option.partition("=")
        if not (group and separator and environment):
            raise typer.BadParameter(
                f"{option!r}: accepted: GROUP=ENVIRONMENT", param_hint="--environment-group"
            )
        pairs[group] = environment
    return pairs
