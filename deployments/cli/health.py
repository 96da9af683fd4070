"""`upkeep health`: run the flow in this process and show its report.

Prefect is imported only once the verb runs (1.7 s); its log lines go to the run's page, not to the terminal.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.live import Live
from rich.status import Status as Spinner
from rich.text import Text

from deployments.cli.app import app
from deployments.cli.exits import exit_code_of
from deployments.prefect_api import require_server
from deployments.report_view import as_json, console_for_output, page_of, view
from infra.errors import ServiceUnavailable, UpkeepError
from infra.findings import Scope, Status
from infra.inventory import Level, Thresholds
from infra.report import RunReport

WORKING_SCOPES = (Scope.ALL, Scope.INFRASTRUCTURE)
FAIL_ON = ("warning", "unknown", "critical", "never")


@dataclass(frozen=True, slots=True)
class Request:
    """The flow's parameters."""

    scope: str
    environment: str | None
    hosts: list[str] | None
    thresholds: Thresholds | None
    fail_on: str


def parse_scope(text: str) -> str:
    """A scope that works already.

    Raises:
        typer.BadParameter: it does not.
    """
    accepted = ", ".join(WORKING_SCOPES)
    if text in {Scope.APPLICATION, Scope.DATABASE}:
        raise typer.BadParameter(f"the scope {text} is not there yet; accepted: {accepted}")
    if text not in WORKING_SCOPES:
        raise typer.BadParameter(f"{text!r}; accepted: {accepted}")
    return text


def parse_fail_on(text: str) -> str:
    """One of `FAIL_ON`."""
    if text not in FAIL_ON:
        raise typer.BadParameter(f"{text!r}; accepted: {', '.join(FAIL_ON)}")
    return text


def parse_thresholds(texts: list[str]) -> Thresholds | None:
    """``NAME=WARNING,CRITICAL`` each; either number may be left out, and then never triggers.

    Raises:
        typer.BadParameter: no such name, or no such numbers.
    """
    levels = dict(_parse_threshold(text) for text in texts)
    try:
        return Thresholds(**levels) if levels else None
    except ValidationError as error:
        mistakes = (f"{e['loc'][0]}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors())
        raise typer.BadParameter("; ".join(mistakes), param_hint="--threshold") from error


def _parse_threshold(text: str) -> tuple[str, Level]:
    name, _, numbers = text.partition("=")
    if name not in Thresholds.model_fields:
        names = ", ".join(Thresholds.model_fields)
        raise typer.BadParameter(f"{name!r} in {text!r}; accepted: {names}", param_hint="--threshold")
    with suppress(ValueError):
        given = [float(number) if number.strip() else None for number in numbers.split(",")]
        if len(given) == 2 and given != [None, None]:
            return name, Level(warning=given[0], critical=given[1])
    words = f"{text!r}; accepted: {name}=WARNING,CRITICAL, two numbers of which one may be left out"
    raise typer.BadParameter(words, param_hint="--threshold")


@app.command()
def health(
    scope: Annotated[
        str, typer.Option(callback=parse_scope, help="all or infrastructure; all is what exists.")
    ] = "all",
    environment: Annotated[str | None, typer.Option("--environment", "-e", help="Only this one.")] = None,
    host: Annotated[list[str] | None, typer.Option(help="Only this host; may be repeated.")] = None,
    fail_on: Annotated[
        str,
        typer.Option(
            callback=parse_fail_on, help="The run fails at this: warning, unknown, critical, never."
        ),
    ] = "critical",
    threshold: Annotated[
        list[str] | None, typer.Option(metavar="NAME=WARNING,CRITICAL", help="A limit for this run.")
    ] = None,
    as_json_: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Check again and again until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=1, help="Seconds between two checks with --watch.")] = 30,
    everything: Annotated[
        bool | None,
        typer.Option("--all/--only-problems", help="Default: all, as long as it fits a screen."),
    ] = None,
) -> None:
    """Check the estate: hosts, units, disks, network, certificates, names, endpoints. Changes nothing.

    Ends with 0 ok, 1 warning, 2 critical, 3 unknown; 64 usage, 65 bad inventory, 69 Prefect or store down.

    Examples: `upkeep health`, `upkeep health --scope infrastructure --environment production`,
    `upkeep health --host web-1 --threshold disk_space_percent=80,90 --json`, `upkeep health --watch`
    """
    if watch and as_json_:
        raise typer.BadParameter("--watch is for people and --json for scripts: one of them")
    request = Request(scope, environment, host or None, parse_thresholds(threshold or []), fail_on)
    if watch:
        raise typer.Exit(watch_health(request, interval, everything))
    with progress() as spinner:
        report = run_health(request, spinner)
    if as_json_:
        typer.echo(json.dumps(as_json(report), indent=2))
    else:
        console_for_output().print(view(report, everything=everything))
    raise typer.Exit(report.status.exit_code)


def show_report(run_id: str, console: Console | None = None) -> Status | None:
    """Print what a run recorded.

    Returns:
        Its verdict; None when it recorded nothing, which is said instead.
    """
    from infra.store.runs import read_report  # SQLAlchemy: only for who needs it

    report, console = read_report(run_id), console or console_for_output()
    if report is None:
        console.print(f"run {run_id} recorded no report; its page says why: {page_of(run_id)}")
        return None
    console.print(view(report))
    return report.status


def run_health(request: Request, spinner: Spinner | None = None) -> RunReport:
    """Run the flow in this process.

    Raises:
        UpkeepError: what ended the run before it had a verdict.
        ServiceUnavailable: Prefect's API stopped answering.
    """
    quiet_prefect()
    require_server()
    import httpx
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.health import health as flow
    from infra.store.runs import read_report

    try:
        # Heartbeats tell a reaper that a run with no terminal is alive; they end on whole seconds only.
        with steps_shown(spinner), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            state: Any = flow(
                scope=request.scope,
                environment=request.environment,
                hosts=request.hosts,
                thresholds=request.thresholds,
                fail_on=request.fail_on,
                return_state=True,
            )
    except httpx.HTTPError as error:
        raise ServiceUnavailable(
            f"Prefect's API stopped answering ({error})", advice="`upkeep doctor` says what is wrong"
        ) from error
    run_id = state.state_details.flow_run_id
    report = read_report(str(run_id)) if run_id else None
    if report is None:
        state.result(raise_on_failure=True)  # raises what ended the run
        raise ServiceUnavailable(
            f"run {run_id} ended as {state.name} without a report: {page_of(str(run_id))}"
        )
    return report


def quiet_prefect() -> None:
    """Keep log lines on the run's page and off the terminal; call before Prefect is imported."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "flows,tasks,infra")


@contextmanager
def progress() -> Iterator[Spinner]:
    """A spinner on standard error; nothing where that is no terminal."""
    with Console(stderr=True).status("starting Prefect") as spinner:
        yield spinner


@contextmanager
def steps_shown(spinner: Spinner | None) -> Iterator[None]:
    """Show each line that the steps log on the spinner."""

    class OnSpinner(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if spinner is not None:
                spinner.update(Text(record.getMessage()))

    handler, steps = OnSpinner(logging.INFO), logging.getLogger("tasks.health")
    steps.addHandler(handler)
    try:
        yield
    finally:
        steps.removeHandler(handler)


def watch_health(request: Request, interval_s: float, everything: bool | None) -> int:
    """Check every `interval_s`, show the latest report. Ctrl-C ends after the check in hand, twice at once.

    Returns:
        The exit code of the last check.
    """
    code = 0
    with (
        interrupts() as stop,
        Live(Text("starting"), console=console_for_output(), auto_refresh=False) as live,
    ):
        while not stop.is_set():
            try:
                report = run_health(request)
                code = report.status.exit_code
                live.update(view(report, everything=everything), refresh=True)
            except UpkeepError as error:
                code = exit_code_of(error)
                live.update(Text(str(error), style="red"), refresh=True)
            stop.wait(interval_s)
    return code


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into an event; the second one acts as usual."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
