"""`upkeep up`, `upkeep down` and `upkeep env`: this machine's Prefect server and worker."""

from __future__ import annotations

import os
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deployments import registration, server
from deployments.cli.app import app
from deployments.home import CLIENT_FILE, exclusive, prepare_home, read_variables
from deployments.prefect_api import PrefectApi, require_server
from deployments.registration import PREFECT_FILE
from deployments.runs import create_run, follow
from infra.errors import ServiceUnavailable
from infra.settings import settings

HEALTH = "flows.health.health/all"


class Shell(StrEnum):
    """Syntax of the lines."""

    SH = "sh"
    FISH = "fish"


def say(line: str) -> None:
    """One line of progress on stderr."""
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def up(
    register_only: Annotated[
        bool, typer.Option("--register-only", help="Only register the deployments, at PREFECT_API_URL.")
    ] = False,
    check: Annotated[bool, typer.Option(help="Run health/all on this machine at the end.")] = True,
    prefect_file: Annotated[Path, typer.Option(help="Other deployments.", hidden=True)] = PREFECT_FILE,
) -> None:
    """Start Prefect and a worker, register every deployment, and check the health of this machine.

    What runs already is left alone; what died is started again.

    Examples: `upkeep up`, `UPKEEP_PORT=4300 upkeep up`, `upkeep up --register-only`
    """
    home = settings().home.absolute()
    if register_only:
        show_registered(registration.register(require_server(), os.environ, say, prefect_file))
        return
    prepare_home(home)
    with exclusive(home):
        api = server.start_server(home, say)
        server.start_worker(home, api, say)
        registered = registration.register(api, os.environ, say, prefect_file)
    show_registered(registered)
    health = next((d for d in registered if registration.identity(d) == HEALTH), None)
    if check and health:
        check_this_machine(api, health["id"])
    show_way_in(api, home)


@app.command()
def down() -> None:
    """Stop the Prefect server and the worker that `upkeep up` started, and their runs; nothing else.

    Example: `upkeep down`
    """
    home = settings().home.absolute()
    if not home.is_dir():
        say(f"nothing was started: there is no {home}")
        return
    prepare_home(home)
    with exclusive(home):
        server.stop(home, say)


@app.command()
def env(shell: Annotated[Shell, typer.Option(help="Syntax of the lines.")] = Shell.SH) -> None:
    """Print what makes plain `prefect` and `upkeep` talk to the local server, for `eval`.

    Examples: `eval "$(.venv/bin/upkeep env)"`, `.venv/bin/upkeep env --shell fish | source`
    """
    home = settings().home.absolute()
    variables = read_variables(home / CLIENT_FILE)
    if not variables:
        raise ServiceUnavailable(f"nothing was started yet (no {home / CLIENT_FILE})", advice="`upkeep up`")
    for name, value in variables.items():
        typer.echo(export_line(name, value, shell))
    typer.echo(path_line(str(Path(sys.executable).parent), shell))


def export_line(name: str, value: str, shell: Shell) -> str:
    """Set and export one variable, whatever its value contains."""
    if shell is Shell.FISH:
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {name} '{quoted}';"
    return f"export {name}={shlex.quote(value)};"


def path_line(directory: str, shell: Shell) -> str:
    """Put a directory first in PATH, once."""
    if shell is Shell.FISH:
        quoted = directory.replace("\\", "\\\\").replace("'", "\\'")
        return f"contains '{quoted}' $PATH; or set -gx PATH '{quoted}' $PATH;"
    quoted = shlex.quote(directory)
    return f'case ":$PATH:" in *:{quoted}:*) ;; *) PATH={quoted}:"$PATH"; export PATH;; esac;'


def check_this_machine(api: PrefectApi, deployment_id: str) -> None:
    """Run a health deployment as anybody would, and show its verdict."""
    from deployments.cli.health import show_report

    run = follow(api, create_run(api, deployment_id), say)
    say(f"health/all: {run['name']} ended as {run['state']['name']}")
    show_report(run["id"])


def show_registered(deployments: tuple[registration.OnServer, ...]) -> None:
    """One line per deployment and schedule."""
    for deployment in deployments:
        schedules = [
            f"{s['slug']} ({registration.in_words(s)}) {'active' if s['active'] else 'paused'}"
            for s in deployment["schedules"]
        ]
        name = f"{deployment['entrypoint'].rpartition('.')[2]}/{deployment['name']}"
        say(f"registered {name}: {'; '.join(schedules) or 'no schedule'}")


def show_way_in(api: PrefectApi, home: Path) -> None:
    """The UI's address, how to log in, and last the line for the user's shell."""
    typer.echo(f"\nPrefect's UI  {api.url.removesuffix('/api')}")
    typer.echo(f"Log in        its one field takes all of PREFECT_API_AUTH_STRING, see {home / CLIENT_FILE}")
    typer.echo("Stop          .venv/bin/upkeep down\n\nIn your shell, for plain `prefect` and `upkeep`:\n")
    typer.echo(f'eval "$({shlex.quote(sys.argv[0])} env)"')
