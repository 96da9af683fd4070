"""`upkeep doctor`: what is missing or misconfigured."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from deployments.cli.app import app
from infra.findings import Status, worst

if TYPE_CHECKING:
    from deployments.doctor import Diagnosis

STYLES = {
    Status.OK: "green",
    Status.WARNING: "yellow",
    Status.UNKNOWN: "magenta",
    Status.CRITICAL: "bold red",
    Status.SKIPPED: "dim",
}


@app.command()
def doctor(
    hosts: Annotated[bool, typer.Option(help="Connect to the inventory's hosts too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Say what is missing or misconfigured, and what to do: server, worker, store, inventory, hosts.

    Ends with 0 ok, 1 warning, 2 critical, 3 unknown. Changes nothing.

    Examples: `upkeep doctor`, `upkeep doctor --no-hosts`, `upkeep doctor --json`
    """
    from deployments.doctor import examine

    found: list[Diagnosis] = list(examine(hosts=hosts))
    verdict = worst(diagnosis.status for diagnosis in found)
    if as_json:
        typer.echo(json.dumps({"status": verdict, "checks": [asdict(d) for d in found]}, indent=2))
    else:
        show(sorted(found, key=lambda d: -d.status.rank), verdict)
    raise typer.Exit(verdict.exit_code)


def show(found: list[Diagnosis], verdict: Status) -> None:
    """One line per thing, below it what to do; never folded, so that a command can be copied whole."""
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(diagnosis.check) for diagnosis in found)
    console.print(Text(f"{'status':10}{'check':{width}}  finding", style="dim"))
    for diagnosis in found:
        line = Text(f"{diagnosis.status:10}", style=STYLES[diagnosis.status])
        line.append(f"{diagnosis.check:{width}}  {diagnosis.summary}", style="default")
        if diagnosis.advice:
            line.append(f"\n{'':12}→ {diagnosis.advice}", style="cyan")
        console.print(line)
    console.print(Text(f"\n{verdict}", style=STYLES[verdict]))
