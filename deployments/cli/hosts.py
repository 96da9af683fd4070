"""`upkeep hosts`: whose keys are trusted, and how to trust one."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deployments.cli.app import app
from deployments.cli.exits import Exit
from infra.errors import UpkeepError
from infra.inventory import Host, load_inventory
from infra.settings import settings
from infra.ssh.route import plan_route
from infra.ssh.trust import Contact, KeyState, make_contact, recorded_at, trust

hosts = typer.Typer(help="The inventory's hosts and the keys that they must show.", no_args_is_help=True)
app.add_typer(hosts, name="hosts")

Environment = Annotated[str | None, typer.Option("--environment", "-e", help="Only hosts in it.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="HOST...", help="Names in the inventory.")]


@hosts.command("list")
def list_hosts(
    environment: Environment = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts: a list of objects.")] = False,
) -> None:
    """List hosts: where they are, who logs in there, and where their key is recorded. Contacts none of them.

    Example: `upkeep hosts list --environment production`
    """
    rows = [_describe(host) for host in load_inventory(settings().inventory).fleet(environment)]
    console = Console()
    if as_json:
        console.print_json(json.dumps(rows))
        return
    table = Table(box=None)
    for heading in rows[0] if rows else ():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(value or "" for value in row.values()))
    console.print(table)


@hosts.command("trust")
def trust_hosts(
    names: Names = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every host of the inventory.")] = False,
    environment: Environment = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask: you know the fingerprints.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Also where another key is recorded.")] = False,
) -> None:
    """Record the keys that hosts show, after you have compared their fingerprints.

    Compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`, run on the host's own console.

    Examples: `upkeep hosts trust web-1`, `upkeep hosts trust --all --environment staging`
    """
    if not names and not everyone and not environment:
        raise typer.BadParameter("name hosts, or say --all or --environment")
    fleet = load_inventory(settings().inventory).fleet(environment, tuple(names or ()))
    console = Console(soft_wrap=True, highlight=False)
    failures = 0
    for host in fleet:
        try:
            console.print(f"{host.name}: {_trust_one(host, console, yes=yes, replace=replace)}", markup=False)
        except UpkeepError as error:
            failures += 1
            console.print(str(error), style="red", markup=False)
    if failures:
        raise typer.Exit(Exit.PARTIAL)


def _trust_one(host: Host, console: Console, *, yes: bool, replace: bool) -> str:
    """What became of one host, as the line after its name."""
    if host.connection == "local":
        return "this machine, which shows no key"
    contact = make_contact(host)
    if contact.state is KeyState.KNOWN:
        return f"trusted already, {contact.fingerprint}"
    if contact.state is KeyState.UNKNOWN or replace:
        _show(contact, console)
        if not yes and not typer.confirm("Is that its fingerprint?"):
            return "not trusted"
    return f"trusted, recorded in {trust(contact, replace=replace)}"


def _show(contact: Contact, console: Console) -> None:
    console.print(f"{contact.host.name} ({contact.known_as}) shows {contact.fingerprint}", markup=False)
    if contact.objection:
        console.print(contact.objection, style="yellow", markup=False)


def _describe(host: Host) -> dict[str, str | None]:
    if host.connection == "local":
        route = {"address": "this machine", "user": None, "through": None, "key": None}
    else:
        planned = plan_route(host)
        route = {
            "address": f"{planned.address}:{planned.port}",
            "user": planned.user,
            "through": planned.via.name if planned.via else planned.proxy_command,
            "key": recorded_at(host),
        }
    return {"host": host.name, "environment": host.environment, **route}
