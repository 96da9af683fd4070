"""The command line: the modules beside this one add their verbs to `app`; errors become exit codes here."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys

import typer
from rich.console import Console

import deployments.cli
from deployments.cli.exits import Exit, exit_code_of
from deployments.home import load_local_environment
from infra.errors import UpkeepError

app = typer.Typer(
    name="upkeep",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.callback()
def upkeep() -> None:
    """Server maintenance procedures: health today, every change tomorrow."""


def load_verbs() -> None:
    """Import the modules beside this one, in the order of their names."""
    for module in pkgutil.iter_modules(deployments.cli.__path__):
        importlib.import_module(f"deployments.cli.{module.name}")


def main() -> None:
    """Run the command line; an expected error is one sentence on stderr, anything else is a bug (70)."""
    console = Console(stderr=True)
    try:
        load_local_environment()
        load_verbs()
        code = app(standalone_mode=False)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except typer.Abort:
        sys.exit(130)
    except UpkeepError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(exit_code_of(error))
    except Exception as error:  # the border: a bug is reported as one, with its own exit code
        if hasattr(error, "format_message"):  # click's usage errors
            error.show()  # type: ignore[attr-defined]
            sys.exit(Exit.USAGE)
        logging.getLogger(__name__).critical("bug", exc_info=True)
        sys.exit(Exit.BUG)
    sys.exit(code if isinstance(code, int) else 0)
