"""`upkeep lab`: a small estate of real hosts on this machine, to try Upkeep out and to test it."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deployments.cli.app import app
from infra.lab import life
from infra.lab.client import HostStatus, LabClient
from infra.lab.machine import ENVIRONMENT
from infra.lab.plan import HOSTS

lab = typer.Typer(
    help="A small estate of real hosts on this machine: two environments, with balancers and databases.\n\n"
    "Needs root on Debian or Ubuntu. Nothing of it reaches the network outside.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(lab, name="lab")

Name = Annotated[str, typer.Option("--name", help="The lab's name; several run side by side.")]


@lab.command()
def up(name: Name = "lab") -> None:
    """Bring the lab up; the first time builds its images (some minutes), later it takes seconds.

    **Examples**

    - `upkeep lab up`
    - `eval "$(upkeep lab up)" && upkeep health --environment production` points this shell at the lab
    """
    console = Console(stderr=True)
    started = time.monotonic()
    with console.status("looking at this machine") as spinner:
        client = life.up(name, spinner.update)
    elapsed = time.monotonic() - started
    console.print(f"The lab '{name}' is up: {len(HOSTS)} hosts in {elapsed:.0f} s. Use it:", highlight=False)
    typer.echo(life.environment_text(client.directory), nl=False)
    for line in ("upkeep health --environment production", f"upkeep lab status --name {name}"):
        console.print(f"  {line}", highlight=False)


@lab.command()
def down(name: Name = "lab") -> None:
    """Take the lab down and remove everything of it but the cached images, also after a crash.

    **Example:** `upkeep lab down`
    """
    was_there = life.down(name)
    typer.echo(f"The lab {name!r} is down, nothing is left." if was_there else f"There is no lab {name!r}.")


@lab.command()
def status(name: Name = "lab") -> None:
    """Show what every host does, and the faults that are in force.

    **Example:** `upkeep lab status`
    """
    client = LabClient(name)
    Console().print(_table(client, client.status()))


@lab.command(name="exec", context_settings={"ignore_unknown_options": True})
def execute(
    host: Annotated[str, typer.Argument(help="A host of the lab.")],
    command: Annotated[list[str], typer.Argument(help="Command and arguments, after `--`.")],
    name: Name = "lab",
) -> None:
    """Run a command on a host as root, past SSH and network; its exit code is ours.

    **Examples**

    - `upkeep lab exec prod-web-1 -- systemctl --failed`
    - `upkeep lab exec prod-db-1 -- bash` for a shell
    """
    argv = LabClient(name).exec_argv(host, *command)
    terminal = {"TERM": os.environ["TERM"]} if "TERM" in os.environ else {}
    os.execvpe(argv[0], argv, {**ENVIRONMENT, **terminal})  # noqa: S606 - the terminal goes to the command


def _table(client: LabClient, rows: tuple[HostStatus, ...]) -> Table:
    plan = {host.name: host for host in HOSTS}
    table = Table("host", "address", "environment", "role", "state", "boot age", "faults", box=None)
    for row in rows:
        host = plan[row.name]
        style = {"running": "green", "degraded": "yellow", "booting": "yellow"}.get(row.state, "red")
        age = "" if row.state in {"off", "crashed"} else _age(row.booted_at)
        cells = (row.name, client.address(row.name), host.environment, host.role)
        table.add_row(*cells, f"[{style}]{row.state}[/]", age, ", ".join(row.faults))
    return table


def _age(since: float) -> str:
    """Days, hours, minutes and seconds since an instant, without fractions."""
    return str(timedelta(seconds=int(time.time() - since))) if since else ""
