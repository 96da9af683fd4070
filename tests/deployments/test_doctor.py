"""Each line of `upkeep doctor`, well and broken; what it says about a fault is a command to type."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli.app import app, load_verbs
from deployments.doctor import Diagnosis, diagnosis, examine, serving
from deployments.home import prepare_home, write_variables
from deployments.processes import Background
from deployments.server import sqlite_url
from infra.errors import ServiceUnavailable
from infra.findings import Status
from infra.settings import settings
from infra.store.migrate import migrate
from infra.store.session import engine_of, store_url
from tests.deployments.prefect_stub import AUTH, PrefectStub
from tests.deployments.prefect_stub import serving as serve
from tests.infra.network.servers import make_authority

ELSEWHERE = "127.0.0.2"  # any address but the ones that count as this machine

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def prefect(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrefectStub]:
    """A healthy installation: closed home, server, worker, deployments, store."""
    prepare_home(home)
    stub = PrefectStub()
    with serve(stub):
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{stub.port}/api")
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", AUTH)
        for name in (
            "PREFECT_API_SSL_CERT_FILE",
            "PREFECT_API_TLS_INSECURE_SKIP_VERIFY",
            "UPKEEP_SECRETS_DIR",
        ):
            monkeypatch.delenv(name, raising=False)
        migrate()
        yield stub


def lines(check: str, *, hosts: bool = False) -> list[Diagnosis]:
    """What the whole examination says about one thing."""
    return [found for found in examine(hosts=hosts) if found.check == check]


def only(check: str, *, hosts: bool = False) -> Diagnosis:
    (line,) = lines(check, hosts=hosts)
    return line


def write_inventory(path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path.write_text(text)
    monkeypatch.setenv("UPKEEP_INVENTORY", str(path))
    settings.cache_clear()


def test_a_healthy_installation_has_no_fault_and_nothing_to_do(
    prefect: PrefectStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "clock_synchronised", lambda: True)
    found = list(examine())
    assert {line.status for line in found} == {Status.OK, Status.SKIPPED}
    assert not [line for line in found if line.status is Status.OK and line.advice]
    expected = {"versions", "files", "room", "server", "protection", "worker", "deployments", "schedule"}
    assert {line.check for line in found} >= expected | {"clock", "store", "inventory", "secrets", "hosts"}


def test_without_a_server_it_says_what_starts_one_and_looks_at_the_rest(
    prefect: PrefectStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/api")
        line = only("server")
    assert line.status is Status.CRITICAL
    assert "`upkeep up`" in line.advice
    assert only("store").status is Status.OK
    assert lines("worker") == []


def test_without_a_server_a_secret_that_may_be_in_a_block_is_unknown_at_once(
    prefect: PrefectStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefect.broken = True
    monkeypatch.setattr("deployments.doctor.estate.secret_names", lambda _: {"shop-token"})
    line = only("secrets")
    assert (line.status, "cannot be asked" in line.summary) == (Status.UNKNOWN, True)


@pytest.mark.parametrize(
    ("change", "status", "words", "advice"),
    [
        ({"auth_string": "upkeep:other"}, Status.CRITICAL, "refuses", 'eval "$(upkeep env)"'),
        ({"broken": True}, Status.CRITICAL, "answers 500", "server.log"),
        ({"version": "3.0.0"}, Status.WARNING, "is Prefect 3.0.0", "pip install prefect==3.0.0"),
    ],
)
def test_a_server_that_is_not_as_it_should_be(
    prefect: PrefectStub, change: dict[str, object], status: Status, words: str, advice: str
) -> None:
    for name, value in change.items():
        setattr(prefect, name, value)
    line = only("server")
    assert line.status is status
    assert words in line.summary
    assert advice in line.advice


def test_what_is_not_prefect_is_named_as_that(prefect: PrefectStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{prefect.port}")
    line = only("server")
    assert "is not Prefect's API" in line.summary
    assert "/api" in line.advice


def test_an_api_without_a_password_is_a_warning_on_loopback(prefect: PrefectStub) -> None:
    prefect.auth_string = None
    line = only("protection")
    assert (line.status, "no auth string" in line.summary) == (Status.WARNING, True)
    assert "upkeep up" in line.advice


@pytest.mark.parametrize(
    ("auth_string", "words"), [(None, "no auth string and no TLS"), (AUTH, "has no TLS")]
)
def test_an_api_beyond_this_machine_without_password_or_tls_is_critical(
    prefect: PrefectStub, monkeypatch: pytest.MonkeyPatch, auth_string: str | None, words: str
) -> None:
    prefect.auth_string = auth_string
    with serve(prefect, ELSEWHERE):
        monkeypatch.setenv("PREFECT_API_URL", f"http://{ELSEWHERE}:{prefect.port}/api")
        line = only("protection")
    assert line.status is Status.CRITICAL
    assert words in line.summary
    assert "systemctl restart upkeep-server" in line.advice


def test_tls_is_verified_with_the_named_authority_and_switching_that_off_is_a_warning(
    prefect: PrefectStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_authority(tmp_path)
    pem = authority.issue(tmp_path, ELSEWHERE, starts=timedelta(days=-1), ends=timedelta(days=9))
    with serve(prefect, ELSEWHERE, pem):
        monkeypatch.setenv("PREFECT_API_URL", f"https://{ELSEWHERE}:{prefect.port}/api")
        refused = only("server")
        assert refused.status is Status.CRITICAL
        assert "PREFECT_API_SSL_CERT_FILE" in refused.advice
        monkeypatch.setenv("PREFECT_API_SSL_CERT_FILE", str(authority.pem))
        assert only("server").status is Status.OK
        assert "behind TLS" in only("protection").summary
        monkeypatch.setenv("PREFECT_API_SSL_CERT_FILE", str(tmp_path / "none.pem"))
        assert "PREFECT_API_SSL_CERT_FILE" in only("server").summary
        monkeypatch.delenv("PREFECT_API_SSL_CERT_FILE")
        monkeypatch.setenv("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "true")
        assert only("server").status is Status.OK
        assert only("protection").status is Status.WARNING


def test_no_worker_is_critical(prefect: PrefectStub) -> None:
    prefect.workers = []
    line = only("worker")
    assert (line.status, "nothing runs" in line.summary) == (Status.CRITICAL, True)
    assert "`upkeep up`" in line.advice


@pytest.mark.parametrize(("status", "age"), [("OFFLINE", 600), ("ONLINE", 600)])
def test_a_worker_that_is_silent_for_long_is_critical_whatever_prefect_calls_it(
    prefect: PrefectStub, status: str, age: int
) -> None:
    prefect.workers = [prefect.worker(status, timedelta(seconds=age))]
    line = only("worker")
    assert line.status is Status.CRITICAL
    assert "10 min ago" in line.summary


def test_a_worker_of_ours_that_was_killed_is_seen_before_prefect_misses_it(
    prefect: PrefectStub, home: Path
) -> None:
    (home / "run").mkdir(mode=0o700)
    record = {"token": "worker-x", "argv": ["worker"], "fingerprint": "", "pid": 4711}
    (home / "run" / "worker.json").write_text(json.dumps(record))
    assert [line.status for line in lines("worker")] == [Status.OK, Status.CRITICAL]
    assert "pid 4711" in lines("worker")[1].summary


def test_no_pool_and_a_paused_pool_are_critical(prefect: PrefectStub) -> None:
    prefect.pool = {"is_paused": True}
    assert lines("worker")[-1].advice == "prefect work-pool resume upkeep"
    prefect.pool = None
    assert only("worker").status is Status.CRITICAL


def test_a_deployment_that_is_missing_is_critical(prefect: PrefectStub) -> None:
    gone = prefect.deployments.pop()
    line = only("deployments")
    assert line.status is Status.CRITICAL
    assert f"health/{gone['name']}" in line.summary
    assert line.advice == "upkeep up --register-only"


def test_what_a_person_paused_or_removed_is_noted_and_is_no_fault(prefect: PrefectStub) -> None:
    first = prefect.deployments[0]
    schedule = first["schedules"][0]
    schedule["active"] = False
    paused = lines("schedule")[0]
    assert (paused.status, "somebody paused it" in paused.summary) == (Status.SKIPPED, True)
    assert paused.advice.endswith(f"prefect deployment schedule resume health/all {schedule['id']}")
    first["schedules"] = []
    assert "somebody removed it" in lines("schedule")[0].summary
    first["paused"] = True
    assert "whole deployment" in lines("schedule")[0].summary
    assert {line.status for line in lines("schedule")} == {Status.SKIPPED}


@pytest.mark.parametrize(("off_s", "status"), [(0, "ok"), (20, "warning"), (-300, "critical")])
def test_the_clocks_may_not_differ(prefect: PrefectStub, off_s: int, status: str) -> None:
    prefect.clock = timedelta(seconds=off_s)
    line = lines("clock")[0]
    assert line.status == status
    assert ("timedatectl" in line.advice) is (status != "ok")


def test_an_unsynchronised_clock_is_a_warning(prefect: PrefectStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "clock_synchronised", lambda: False)
    assert lines("clock")[-1].status is Status.WARNING


def test_a_missing_store_is_a_warning_and_a_newer_one_is_critical(prefect: PrefectStub, home: Path) -> None:
    store = home / "upkeep.db"
    with sqlite3.connect(store) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = only("store")
    assert (newer.status, "newer" in newer.summary) == (Status.CRITICAL, True)
    assert "make up" in newer.advice
    for file in home.glob("upkeep.db*"):
        file.unlink()
    missing = only("store")
    assert (missing.status, missing.advice.startswith("upkeep health")) == (Status.WARNING, True)
    engine_of(store_url()).dispose()  # it would go on reading the file that was removed
    store.write_text("no database at all, but long enough to be read as one" * 20)
    assert only("store").status is Status.CRITICAL
    assert f"ls -l {store}" in only("store").advice


def test_an_older_store_is_a_warning(prefect: PrefectStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.store.migrate.head_revision", lambda: "0002")
    line = only("store")
    assert (line.status, "upkeep health" in line.advice) == (Status.WARNING, True)


def test_an_invalid_inventory_is_critical(
    prefect: PrefectStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inventory(tmp_path / "i.toml", monkeypatch, "[hosts]\n")
    line = only("inventory")
    assert (line.status, "unknown key" in line.summary) == (Status.CRITICAL, True)
    assert "upkeep inventory check" in line.advice


def test_a_host_that_does_not_answer_is_critical_and_the_others_are_counted(
    prefect: PrefectStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        hosts = (
            "[environments.e.hosts]\n"
            f'away = {{ address = "127.0.0.1", port = {port}, user = "root" }}\n'
            'here = { address = "127.0.0.1", connection = "local" }\n'
        )
        write_inventory(tmp_path / "i.toml", monkeypatch, hosts)
        away, rest = lines("hosts", hosts=True)
    assert away.status is Status.CRITICAL
    assert away.summary.startswith("away: ")
    assert "is the port right" in away.advice
    assert (rest.status, rest.summary) == (Status.OK, "1 of 2 let us in")


def test_a_secret_that_is_missing_or_open_to_others_is_critical(
    prefect: PrefectStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "secrets"
    directory.mkdir()
    monkeypatch.setattr("deployments.doctor.estate.secret_names", lambda _: {"shop-token"})
    assert "read -rs UPKEEP_SECRET_SHOP_TOKEN" in only("secrets").advice
    monkeypatch.setenv("UPKEEP_SECRETS_DIR", str(directory))
    settings.cache_clear()
    missing = only("secrets")
    assert missing.status is Status.CRITICAL
    assert missing.advice.startswith(f"install -m 600 /dev/stdin {directory / 'shop-token'}")
    (directory / "shop-token").write_text("very secret")
    (directory / "shop-token").chmod(0o644)
    loose = only("secrets")
    assert (loose.status, loose.advice) == (Status.CRITICAL, f"chmod 600 {directory / 'shop-token'}")
    assert "very secret" not in loose.summary
    (directory / "shop-token").chmod(0o600)
    assert only("secrets").status is Status.OK


def test_a_home_that_others_may_read_is_critical_and_a_link_in_it_is_not(
    prefect: PrefectStub, home: Path
) -> None:
    (home / "link").symlink_to("/etc/hosts")
    assert only("files").status is Status.OK
    (home / "env").write_text("secret")
    (home / "env").chmod(0o644)
    line = only("files")
    assert (line.status, line.advice) == (Status.CRITICAL, f"chmod -R go= {home}")
    assert str(home / "env") in line.summary


def test_a_home_that_is_somebody_elses_or_not_there_is_said(
    prefect: PrefectStub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = home.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    assert f"sudo -u '#{owner}'" in only("files").advice
    monkeypatch.setenv("UPKEEP_HOME", str(home / "none"))
    settings.cache_clear()
    assert (only("files").status, only("files").advice) == (Status.SKIPPED, "upkeep up")


@pytest.mark.parametrize(("free", "status"), [(10**12, "ok"), (10**8, "warning"), (10**6, "critical")])
def test_a_full_disk_is_seen(
    prefect: PrefectStub, monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    usage = type("usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    line = only("room")
    assert (line.status, "df -h" in line.advice) == (status, status != "ok")


def test_a_key_of_blocks_that_is_not_kept_is_a_warning(prefect: PrefectStub, home: Path) -> None:
    write_variables(home / "server.env", {"PREFECT_SERVER_ENCRYPTION_KEY": "k"})
    assert only("block key").status is Status.OK
    write_variables(home / "server.env", {"OTHER": "k"})
    assert (only("block key").status, "upkeep up" in only("block key").advice) == (Status.WARNING, True)


def test_a_database_that_was_removed_under_the_server_is_critical(
    prefect: PrefectStub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_variables(home / "server.env", {"PREFECT_API_DATABASE_CONNECTION_URL": sqlite_url(home)})
    assert lines("database") == []  # not our server
    monkeypatch.setattr(Background, "leader", lambda _: object())
    assert (only("database").status, "upkeep up" in only("database").advice) == (Status.CRITICAL, True)
    (home / "prefect").mkdir(mode=0o700)
    (home / "prefect" / "prefect.db").touch(mode=0o600)
    assert only("database").status is Status.OK


def test_versions_that_break_the_server_are_critical(
    prefect: PrefectStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "deployments.doctor.serving.version", lambda name: "0.200.0" if name == "fastapi" else version(name)
    )
    assert (only("versions").status, only("versions").advice[:7]) == (Status.CRITICAL, "make up")
    monkeypatch.setattr(
        "deployments.doctor.serving.version", lambda name: "3.9.9" if name == "prefect" else version(name)
    )
    assert only("versions").status is Status.WARNING


def test_an_error_brings_its_own_advice_however_it_is_worded() -> None:
    def failing() -> Iterator[Diagnosis]:
        raise ServiceUnavailable("a: b: 1:2", advice="do: this")
        yield

    (line,) = diagnosis.guarded("x", failing, "else")
    assert (line.summary, line.advice) == ("a: b: 1:2", "do: this")


def test_a_check_that_breaks_is_unknown_and_does_not_take_the_others_along(prefect: PrefectStub) -> None:
    prefect.workers = [{"name": "one"}]
    line = only("worker")
    assert (line.status, "KeyError" in line.summary) == (Status.UNKNOWN, True)
    assert only("deployments").status is Status.OK


def test_the_verb_shows_the_worst_first_and_ends_with_its_code(prefect: PrefectStub) -> None:
    load_verbs()
    prefect.workers = []
    shown = CliRunner().invoke(app, ["doctor", "--no-hosts"])
    assert shown.exit_code == 2
    assert shown.stdout.splitlines()[1].startswith("critical")
    said = json.loads(CliRunner().invoke(app, ["doctor", "--no-hosts", "--json"]).stdout)
    assert said["status"] == "critical"
    assert {"check", "status", "summary", "advice"} == set(said["checks"][0])
