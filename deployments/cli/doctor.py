"""`upkeep doctor`: what is missing or misconfigured."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.cli.app import app
from infra.findings import Status, worst

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
    from deployments.doctor import Diagnosis, examine

    found: list[Diagnosis] = list(examine(hosts=hosts))
    verdict = worst(diagnosis.status for diagnosis in found)
    if as_json:
        typer.echo(json.dumps({"status": verdict, "checks": [asdict(d) for d in found]}, indent=2))
    else:
        table = Table(box=None, header_style="dim", pad_edge=False)
        for heading in ("status", "check", "finding"):
            table.add_column(heading, overflow="fold")
        for diagnosis in sorted(found, key=lambda d: -d.status.rank):
            words = Text(diagnosis.summary)
            if diagnosis.advice:
                words.append(f"\n→ {diagnosis.advice}", style="dim")
            table.add_row(Text(diagnosis.status, style=STYLES[diagnosis.status]), diagnosis.check, words)
        console = Console(highlight=False)
        console.print(table)
        console.print(Text(f"\n{verdict}", style=STYLES[verdict]))
    raise typer.Exit(verdict.exit_code)
