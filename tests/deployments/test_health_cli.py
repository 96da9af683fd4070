"""`upkeep health` as a user meets it: options, output, exit codes; then once against a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from deployments.cli import health as verb
from deployments.cli.app import app, load_verbs
from deployments.report_view import as_json, view
from infra.errors import ServiceUnavailable
from infra.findings import Finding, Scope, Status, SubjectKind
from infra.inventory import Level, Thresholds
from infra.report import RunReport
from infra.store.runs import record_run

NOW = datetime(2026, 11, 24, tzinfo=UTC)
DISK = Finding(
    check="disk_space",
    kind=SubjectKind.HOST,
    subject="web-1:/var",
    environment="production",
    status=Status.CRITICAL,
    summary="/var is 93 % full",
    host="web-1",
    value=93.0,
    unit="%",
    threshold="critical at 90 %",
    advice="du -xh [/var]",
)
PAGE = replace(DISK, check="endpoint", subject="https://shop/", host=None, summary="500", caused_by=DISK.key)
FINE = replace(DISK, check="uptime", subject="web-2", host="web-2", status=Status.OK, summary="up for 3 days")
UPKEEP = str(Path(sys.executable).with_name("upkeep"))


def report(*findings: Finding) -> RunReport:
    return RunReport("run-1", 1, "health", Scope.ALL, None, NOW, NOW + timedelta(seconds=1.5), findings)


def shown(told: RunReport, *, everything: bool | None = None) -> str:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    console.print(view(told, everything=everything))
    return console.export_text()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[verb.Request]:
    """Answer every check with `answer`'s report, and keep what was asked."""
    load_verbs()
    requests: list[verb.Request] = []

    def run(request: verb.Request, _: object = None) -> RunReport:
        requests.append(request)
        return report(FINE, PAGE, DISK)

    monkeypatch.setattr(verb, "run_health", run)
    return requests


def upkeep(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["health", *arguments])
    return result.exit_code, result.output


def test_the_options_become_the_flows_parameters(asked: list[verb.Request]) -> None:
    upkeep(
        "--scope", "infrastructure", "--environment", "production", "--host", "web-1", "--host", "web-2",
        "--fail-on", "warning", "--threshold", "disk_space_percent=80,90", "--threshold", "cpu_percent=,95",
    )  # fmt: skip
    limits = Thresholds(disk_space_percent=Level(warning=80, critical=90), cpu_percent=Level(critical=95))
    assert asked == [verb.Request("infrastructure", "production", ["web-1", "web-2"], limits, "warning")]


def test_without_options_everything_is_checked_and_critical_fails(asked: list[verb.Request]) -> None:
    upkeep()
    assert asked == [verb.Request("all", None, None, None, "critical")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scope", "database"], "the scope database is not there yet; accepted: all, infrastructure"),
        (["--scope", "disks"], "'disks'; accepted: all, infrastructure"),
        (["--fail-on", "ok"], "'ok'; accepted: warning, unknown, critical, never"),
        (["--threshold", "disk=80,90"], "'disk' in 'disk=80,90'; accepted: load_per_cpu, cpu_percent"),
        (["--threshold", "cpu_percent=high"], "accepted: cpu_percent=WARNING,CRITICAL"),
        (["--threshold", "cpu_percent=80"], "accepted: cpu_percent=WARNING,CRITICAL"),
        (["--threshold", "cpu_percent=,"], "accepted: cpu_percent=WARNING,CRITICAL"),
        (["--threshold", "cpu_percent=1,2,3"], "accepted: cpu_percent=WARNING,CRITICAL"),
        (["--threshold", "cpu_percent=101,"], "cpu_percent: percentages, 0 to 100"),
        (["--watch", "--json"], "one of them"),
        (["--watch", "--interval", "0"], "greater than or equal to 1"),
    ],
)
def test_a_value_that_is_wrong_is_refused_with_what_is_accepted(
    asked: list[verb.Request], arguments: list[str], words: str
) -> None:
    code, output = upkeep(*arguments)
    assert code == 2  # click's own; the command line turns it into 64
    assert words in " ".join(output.replace("│", " ").split())
    assert asked == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(Status.OK, 0), (Status.SKIPPED, 0), (Status.WARNING, 1), (Status.CRITICAL, 2), (Status.UNKNOWN, 3)],
)
def test_the_exit_code_says_the_verdict(
    status: Status, code: int, asked: list[verb.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "run_health", lambda *_: report(replace(DISK, status=status)))
    assert upkeep()[0] == code


def test_the_table_has_the_worst_first_and_effects_under_their_cause(asked: list[verb.Request]) -> None:
    lines = upkeep()[1].splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["status", "critical"]
    assert "/var is 93 % full (critical at 90 %)" in lines[1]
    assert "→ du -xh [/var]" in lines[2]
    assert "└ https://shop/" in lines[3]
    assert lines[4].startswith("ok ")
    assert "1 critical, 1 ok; 1 explained by others" in lines[6]


def test_problems_alone_are_shown_when_asked_for_and_when_all_would_not_fit() -> None:
    assert "web-2" not in shown(report(DISK, FINE), everything=False)
    many = [replace(FINE, subject=f"web-{n}") for n in range(50)]
    assert "50 that are ok or skipped: --all shows them" in shown(report(DISK, *many))
    assert "web-49" in shown(report(DISK, *many), everything=True)


def test_json_stands_alone_on_standard_output_with_stable_keys(asked: list[verb.Request]) -> None:
    code, output = upkeep("--json")
    told = json.loads(output)
    assert (code, told["status"], told["exit_code"], told["version"]) == (2, "critical", 2, 1)
    assert [(f["subject"], f["depth"]) for f in told["findings"]][:2] == [
        ("web-1:/var", 0),
        ("https://shop/", 1),
    ]
    assert (told["counts"], told["folded"]) == ({"critical": 1, "ok": 1}, 1)
    assert (told["duration_s"], told["started_at"]) == (1.5, "2026-11-24T00:00:00+00:00")
    for key in told:
        assert f"``{key}``" in (as_json.__doc__ or "")


def test_a_recorded_report_is_printed_from_the_store(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_run(report(DISK), ())
    assert verb.show_report("run-1") is Status.CRITICAL
    assert "/var is 93 % full" in capsys.readouterr().out
    assert verb.show_report("run-2") is None
    assert "run run-2 recorded no report" in capsys.readouterr().out


def test_watching_ends_on_an_interrupt_with_the_last_checks_code(asked: list[verb.Request]) -> None:
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    before = signal.getsignal(signal.SIGINT)
    assert upkeep("--watch", "--interval", "600")[0] == 2
    timer.join()
    assert signal.getsignal(signal.SIGINT) is before


def test_watching_goes_on_when_a_check_fails(
    asked: list[verb.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [ServiceUnavailable("the store is away"), None]

    def run(request: verb.Request, _: object = None) -> RunReport:
        if error := answers.pop(0):
            raise error
        os.kill(os.getpid(), signal.SIGINT)
        return report(FINE)

    monkeypatch.setattr(verb, "run_health", run)
    code, output = upkeep("--watch", "--interval", "1")
    assert code == 0
    assert answers == []
    assert "up for 3 days" in output


def test_help_comes_without_prefect_and_sqlalchemy() -> None:
    code = "import sys; from deployments.cli.app import load_verbs; load_verbs(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"prefect", "sqlalchemy"} & set(run.stdout.split())


def test_without_a_server_the_verb_ends_with_69_and_the_command_that_starts_it(home: Path) -> None:
    environment = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:9/api", "UPKEEP_HOME": str(home)}
    run = subprocess.run([UPKEEP, "health"], env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (69, "")
    assert "`upkeep up`" in run.stderr


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_this_machine_is_checked_with_nothing_but_the_report_on_standard_output(home: Path) -> None:
    from prefect.settings import get_current_settings

    environment = os.environ | {
        "PREFECT_API_URL": str(get_current_settings().api.url),
        "UPKEEP_HOME": str(home),
    }
    limits = ["--threshold", "load_per_cpu=1e9,1e9", "--threshold", "cpu_percent=,100"]
    started = time.monotonic()
    command = [UPKEEP, "health", "--host", "localhost", "--json", *limits]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert run.stdout, run.stderr
    told = json.loads(run.stdout)
    assert run.returncode == told["exit_code"]
    assert {f["check"] for f in told["findings"]} >= {"disk_space", "memory", "uptime", "load"}
    assert "|" not in run.stderr, "Prefect's log lines belong on the run's page"
    assert told["duration_s"] < time.monotonic() - started
