"""The Prefect server and worker of this machine: start what is not running, wait until it answers, stop."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil

from deployments.home import (
    CLIENT_FILE,
    SERVER_FILE,
    prepare_home,
    read_variables,
    require_room,
    write_variables,
)
from deployments.prefect_api import WORK_POOL, PrefectApi
from deployments.processes import Background
from infra.errors import ServiceUnavailable
from infra.settings import settings

START_TIMEOUT_S = 180.0
LOGGERS = "flows,tasks,infra,deployments"
KEPT_PATHS = ("UPKEEP_INVENTORY", "UPKEEP_SECRETS_DIR", "UPKEEP_KNOWN_HOSTS", "UPKEEP_SSH_CONFIG")
KEPT_SETTINGS = ("UPKEEP_DATABASE_URL", *KEPT_PATHS)

Say = Callable[[str], None]


def client_variables(home: Path, port: int, auth_string: str) -> dict[str, str]:
    """What leads a client to the local server, and the caller's settings that the worker must share."""
    kept = {name: os.environ[name] for name in KEPT_SETTINGS if os.environ.get(name)}
    kept |= {name: str(Path(kept[name]).absolute()) for name in KEPT_PATHS if name in kept}
    return {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_API_AUTH_STRING": auth_string,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "UPKEEP_HOME": str(home),
        "UPKEEP_PORT": str(port),
        **kept,
    }


def server_variables(home: Path, client: Mapping[str, str]) -> dict[str, str]:
    """What the server itself needs on top; its database and its encryption key outlive the process."""
    before = read_variables(home / SERVER_FILE)
    database = "PREFECT_API_DATABASE_CONNECTION_URL"
    key = "PREFECT_SERVER_ENCRYPTION_KEY"
    return {
        database: os.environ.get(database) or before.get(database, sqlite_url(home)),
        key: os.environ.get(key) or before.get(key) or new_encryption_key(),
        "PREFECT_SERVER_API_AUTH_STRING": client["PREFECT_API_AUTH_STRING"],
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": client["UPKEEP_PORT"],
        "PREFECT_SERVER_UI_API_URL": client["PREFECT_API_URL"],
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # the V2 interface asks a host outside
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }


def sqlite_url(home: Path) -> str:
    """Where Prefect's database is unless somebody names another."""
    return f"sqlite+aiosqlite:///{home / 'prefect' / 'prefect.db'}"


def worker_variables() -> dict[str, str]:
    """What the worker and its flow runs need on top."""
    return {"PREFECT_LOGGING_EXTRA_LOGGERS": LOGGERS}


def new_encryption_key() -> str:
    """A key for Prefect's encrypted blocks."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def process_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what it says about other Prefect servers, and ours on top."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = os.pathsep.join((str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)))
    return {**inherited, "PATH": path, **variables}


def fingerprint_of(argv: list[str], variables: Mapping[str, str]) -> str:
    """Changes when the process would be started differently."""
    text = json.dumps([argv, sorted(variables.items()), version("prefect")])
    return hashlib.sha256(text.encode()).hexdigest()


def ensure_running(process: Background, argv: list[str], variables: Mapping[str, str], say: Say) -> bool:
    """Start a process unless it runs as it should; restart it when its configuration changed.

    Returns:
        Whether it was started now.
    """
    wanted, record, leader = fingerprint_of(argv, variables), process.record(), process.leader()
    if leader is not None and record is not None and record.fingerprint == wanted:
        say(f"{process.name}: running (pid {leader.pid})")
        return False
    if leader is not None:
        say(f"{process.name}: its configuration changed, restarting it")
    elif record is not None:
        say(f"{process.name}: was started before and is gone (pid {record.pid}), starting it again")
    process.stop()
    started = process.start(argv, process_environment(variables), wanted)
    say(f"{process.name}: started (pid {started.pid}, log {process.log})")
    return True


def start_server(home: Path, say: Say) -> PrefectApi:
    """Have the local server running and answering.

    Raises:
        ServiceUnavailable: it cannot run; the reason says why and what to do.
    """
    prepare_home(home)
    require_room(home)
    before = earlier_variables(home)
    auth_string = before.get("PREFECT_API_AUTH_STRING") or f"upkeep:{secrets.token_urlsafe(24)}"
    port = (
        settings().port if os.environ.get("UPKEEP_PORT") else int(before.get("UPKEEP_PORT", settings().port))
    )
    client = client_variables(home, port, auth_string)
    refuse_foreign_server(client["PREFECT_API_URL"], before.get("PREFECT_API_URL"))
    argv = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process, server = Background(home, "server"), server_variables(home, client)
    record = process.record()
    if record is None or record.argv[-1] != argv[-1] or process.leader() is None:
        require_free_port(port)
    handle_losses(home, server, say)
    write_variables(home / SERVER_FILE, server)
    write_variables(home / CLIENT_FILE, client)
    (home / "prefect").mkdir(mode=0o700, exist_ok=True)
    ensure_running(process, argv, {**client, **server}, say)
    api = PrefectApi(client["PREFECT_API_URL"], auth_string)
    wait_until(process, "answers", lambda: server_answers(api), say)
    os.environ.update(client)
    return api


def earlier_variables(home: Path) -> dict[str, str]:
    """What an earlier start left for clients; if that file is lost, what the server's own still knows."""
    if client := read_variables(home / CLIENT_FILE):
        return client
    server = read_variables(home / SERVER_FILE)
    known = {
        "PREFECT_API_URL": "PREFECT_SERVER_UI_API_URL",
        "PREFECT_API_AUTH_STRING": "PREFECT_SERVER_API_AUTH_STRING",
        "UPKEEP_PORT": "PREFECT_SERVER_API_PORT",
    }
    return {mine: server[theirs] for mine, theirs in known.items() if theirs in server}


def start_worker(home: Path, api: PrefectApi, say: Say) -> None:
    """Have a process worker running and known to the server."""
    process = Background(home, "worker")
    name = f"upkeep@{socket.gethostname()}"
    argv = [sys.executable, "-m", "prefect", "worker", "start"]
    argv += ["--pool", WORK_POOL, "--type", "process", "--name", name]
    variables = {**read_variables(home / CLIENT_FILE), **worker_variables()}
    since = time.time()
    fresh = ensure_running(process, argv, variables, say)
    wait_until(process, "is online", lambda: worker_online(api, name, since if fresh else 0), say)


def refuse_foreign_server(url: str, before: str | None) -> None:
    """Refuse to start a server next to the one that the caller's environment names."""
    named = os.environ.get("PREFECT_API_URL")
    if named and named not in {url, before}:
        raise ServiceUnavailable(
            f"PREFECT_API_URL is {named}, and `upkeep up` would start a server of its own at {url}",
            advice="`unset PREFECT_API_URL`, or register the deployments there: `upkeep up --register-only`",
        )


def handle_losses(home: Path, server: Mapping[str, str], say: Say) -> None:
    """Say what is gone of an earlier installation; a server whose SQLite file was removed is stopped."""
    database = home / "prefect" / "prefect.db"
    started_before = (home / SERVER_FILE).exists()
    if database.exists() and not started_before:
        say(f"warning: {home / SERVER_FILE} is gone: secrets in Prefect blocks must be entered again")
    if started_before and not (home / CLIENT_FILE).exists():
        say(
            f"warning: {home / CLIENT_FILE} is gone: set {', '.join(KEPT_SETTINGS)} again where you used them"
        )
    on_sqlite = server["PREFECT_API_DATABASE_CONNECTION_URL"] == sqlite_url(home)
    if on_sqlite and started_before and not database.exists():
        say(f"warning: there is no {database}: starting with an empty one; if there were runs, they are lost")
        stop(home, say)
        for leftover in database.parent.glob("prefect.db-*"):  # a log of the old file, never to be replayed
            leftover.unlink()


def require_free_port(port: int) -> None:
    """Refuse a port that somebody else listens on.

    Raises:
        ServiceUnavailable: it is in use; the reason names the holder if that can be seen.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServiceUnavailable(
                f"port {port} cannot be used ({error.strerror}; {port_holder(port)})",
                advice=f"stop that program, or choose another port: `UPKEEP_PORT={port + 1} upkeep up`",
            ) from error


def port_holder(port: int) -> str:
    """Who listens on a port, in words."""
    try:
        listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
        pid = next((c.pid for c in listening if c.laddr[1:2] == (port,)), None)
        return f"held by pid {pid}, {psutil.Process(pid).name()}" if pid else "the holder cannot be seen"
    except psutil.Error:
        return "the holder cannot be seen"


def server_answers(api: PrefectApi) -> bool:
    """Whether the API is up and takes our auth string."""
    try:
        return api.request("GET", "/health", timeout_s=2).status_code == httpx.codes.OK and (
            api.request("GET", "/version", timeout_s=2).status_code == httpx.codes.OK
        )
    except ServiceUnavailable:
        return False


def worker_online(api: PrefectApi, name: str, since: float) -> bool:
    """Whether the worker has reported to the server after `since` (seconds of the epoch)."""
    answer = api.request("POST", f"/work_pools/{WORK_POOL}/workers/filter", {})
    if answer.status_code != httpx.codes.OK:
        return False
    return any(
        worker["name"] == name
        and worker["status"] == "ONLINE"
        and datetime.fromisoformat(worker["last_heartbeat_time"]).timestamp() >= since
        for worker in answer.json()
    )


def wait_until(process: Background, what: str, ready: Callable[[], bool], say: Say) -> None:
    """Wait until a process is ready, and say so every 10 s.

    Raises:
        ServiceUnavailable: it ended, or took longer than `START_TIMEOUT_S`; the reason has its last words.
    """
    start = time.monotonic()
    said = 0
    while not ready():
        waited = time.monotonic() - start
        if process.leader() is None:
            raise ServiceUnavailable(
                f"the {process.name} ended while it started, {process.log} says:\n{process.last_words()}"
            )
        if waited > START_TIMEOUT_S:
            raise ServiceUnavailable(
                f"the {process.name} is not ready after {waited:.0f} s: look into {process.log}, "
                f"then `upkeep down` and `upkeep up`; it says:\n{process.last_words()}"
            )
        if waited // 10 > said:
            said = int(waited // 10)
            say(f"{process.name}: waiting until it {what} ({waited:.0f} s)")
        time.sleep(0.2)


def stop(home: Path, say: Say) -> None:
    """Stop worker and server, and what they started."""
    for name in ("worker", "server"):
        ended = Background(home, name).stop()
        say(f"{name}: stopped (pid {', '.join(map(str, ended))})" if ended else f"{name}: was not running")
