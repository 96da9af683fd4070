"""Versions, file modes, the Prefect server, its worker and its deployments."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import yaml

from deployments.doctor.diagnosis import Diagnosis, ok
from deployments.home import ROOM_BYTES, SERVER_FILE, read_variables
from deployments.prefect_api import START_WORKER, WORK_POOL, PrefectApi, require_server
from deployments.processes import Background
from deployments.registration import PREFECT_FILE, answer_of, identity, in_words, read_deployments
from deployments.server import sqlite_url
from infra.findings import Status
from infra.settings import settings

# What Upkeep was tried with; constraints.txt says why.
PREFECT = "3.8.8"
TOO_NEW = {"fastapi": (0, 151), "sqlalchemy": (2, 1)}
ROOM_WARNING_BYTES = 10 * ROOM_BYTES
SILENT_S = 120.0  # Prefect's worker reports every 30 s
CLOCK_WARNING_S, CLOCK_CRITICAL_S = 5.0, 60.0  # the Date header has whole seconds


def check_versions() -> Iterator[Diagnosis]:
    """Python, Prefect, and the two packages whose newer versions break Prefect's server."""
    python = ".".join(map(str, sys.version_info[:3]))
    found = version("prefect")
    broken = [
        f"{name} {version(name)}"
        for name, limit in TOO_NEW.items()
        if tuple(int(part) for part in version(name).split(".")[:2]) >= limit
    ]
    advice = "make up   (or: pip install -c constraints.txt -e .)"
    if broken:
        words = f"{' and '.join(broken)} break Prefect's server: no start, or no scheduled run"
        yield Diagnosis("versions", Status.CRITICAL, words, advice)
    elif found != PREFECT:
        words = f"Prefect {found} is not the version that Upkeep was tried with ({PREFECT})"
        yield Diagnosis("versions", Status.WARNING, words, advice)
    else:
        yield ok("versions", f"Python {python}, Prefect {found}")


def check_modes() -> Iterator[Diagnosis]:
    """Whether anybody else can read the state directory."""
    home = settings().home
    if not home.exists():
        yield Diagnosis("files", Status.SKIPPED, f"there is no {home}", "upkeep up")
        return
    owner = home.stat().st_uid
    if owner != os.geteuid():
        words = f"{home} belongs to user {owner}, and this is user {os.geteuid()}"
        yield Diagnosis(
            "files", Status.CRITICAL, words, f"sudo -u '#{owner}' upkeep doctor   (or set UPKEEP_HOME)"
        )
        return
    loose = [path for path in (home, *sorted(home.iterdir())) if open_to_others(path)]
    if loose:
        names = ", ".join(map(str, loose[:5]))
        words = f"others may read {names}" + (" and more" if len(loose) > 5 else "")
        yield Diagnosis("files", Status.CRITICAL, words, f"chmod -R go= {shlex.quote(str(home))}")
    else:
        yield ok("files", f"{home} is closed to others")


def check_room() -> Iterator[Diagnosis]:
    """Whether the state directory's file system has room: a full one stops server and store."""
    home = settings().home
    if not home.exists():
        return
    free = shutil.disk_usage(home).free
    words = f"{free / 1e6:,.0f} MB are free at {home}"
    if free >= ROOM_WARNING_BYTES:
        yield ok("room", words)
    else:
        status = Status.CRITICAL if free < ROOM_BYTES else Status.WARNING
        path = shlex.quote(str(home))
        yield Diagnosis("room", status, words, f"make room: df -h {path}; du -xsh {path}/* {path}/../*")


def open_to_others(path: Path) -> bool:
    """Whether anybody but its owner can use a file; a link says nothing about what it leads to."""
    mode = path.lstat().st_mode
    return not stat.S_ISLNK(mode) and bool(stat.S_IMODE(mode) & 0o077)


def check_server() -> Iterator[Diagnosis]:
    """Whether the API answers and lets us in."""
    api = require_server()
    theirs = answer_of(api.request("GET", "/admin/version"))
    if theirs == version("prefect"):
        yield ok("server", f"Prefect {theirs} answers at {api.url}")
    else:
        words = f"the server at {api.url} is Prefect {theirs}, this is {version('prefect')}"
        yield Diagnosis("server", Status.WARNING, words, f"pip install prefect=={theirs}")


def check_protection(api: PrefectApi) -> Iterator[Diagnosis]:
    """Whoever reaches the API runs what he likes on every host: auth always, TLS beyond this machine."""
    open_to_all = PrefectApi(api.url, None, api.ca_file, api.verified).ask("GET", "/admin/version").is_success
    missing = ["no auth string"] if open_to_all else []
    if not api.on_loopback and not api.url.startswith("https://"):
        missing.append("no TLS")
    if missing:
        words = f"the API at {api.url} has {' and '.join(missing)}: whoever reaches it is root on the fleet"
        status = Status.WARNING if api.on_loopback else Status.CRITICAL
        yield Diagnosis("protection", status, words, how_to_protect(api))
    elif not api.verified:
        words = f"any certificate of {api.url} is taken (PREFECT_API_TLS_INSECURE_SKIP_VERIFY)"
        advice = "unset PREFECT_API_TLS_INSECURE_SKIP_VERIFY; export PREFECT_API_SSL_CERT_FILE=/PATH/ca.pem"
        yield Diagnosis("protection", Status.WARNING, words, advice)
    else:
        where = "on loopback" if api.on_loopback else "behind TLS"
        yield ok("protection", f"the API asks for the auth string, {where}")


def how_to_protect(api: PrefectApi) -> str:
    """What to type on the server's machine."""
    if api.on_loopback:
        return "stop that server, unset PREFECT_API_URL, and: upkeep up   (it makes an auth string)"
    return (
        "on its machine set PREFECT_SERVER_API_AUTH_STRING in /etc/upkeep/server.env, put a proxy with "
        "TLS in front of 127.0.0.1:4200, and: systemctl restart upkeep-server"
    )


def check_encryption(api: PrefectApi) -> Iterator[Diagnosis]:
    """Whether the key of Prefect's blocks is kept outside of its database (only known for a local server)."""
    file = settings().home / SERVER_FILE
    if not api.on_loopback or not file.exists():
        return
    if "PREFECT_SERVER_ENCRYPTION_KEY=" in file.read_text(encoding="utf-8"):
        yield ok("block key", f"blocks are encrypted with the key in {file}: keep a copy of that file")
    else:
        words = f"{file} has no PREFECT_SERVER_ENCRYPTION_KEY: the key is in the database beside the blocks"
        advice = "upkeep down; upkeep up   (then enter the secrets in blocks again)"
        yield Diagnosis("block key", Status.WARNING, words, advice)


def check_database(api: PrefectApi) -> Iterator[Diagnosis]:
    """Whether the file that the local server writes to is still there: it would not notice."""
    home = settings().home
    url = read_variables(home / SERVER_FILE).get("PREFECT_API_DATABASE_CONNECTION_URL")
    if not api.on_loopback or url != sqlite_url(home) or Background(home, "server").leader() is None:
        return
    file = Path(url.partition("///")[2])
    if file.exists():
        yield ok("database", f"Prefect keeps its runs in {file}")
    else:
        words = f"{file} was removed while the server writes to it: all runs are lost when it ends"
        yield Diagnosis("database", Status.CRITICAL, words, "upkeep up   (starts with an empty one)")


def check_worker(api: PrefectApi) -> Iterator[Diagnosis]:
    """Whether a worker is online, and when it was heard of last."""
    answer = api.request("POST", f"/work_pools/{WORK_POOL}/workers/filter", {})
    if answer.status_code == httpx.codes.NOT_FOUND:
        yield Diagnosis("worker", Status.CRITICAL, f"there is no work pool {WORK_POOL}", START_WORKER)
        return
    workers = [(w["name"], w["status"] == "ONLINE", age_of(w)) for w in answer_of(answer)]
    for name, online, age_s in workers:
        if online and age_s < SILENT_S:
            yield ok("worker", f"{name} was heard of {max(age_s, 0):.0f} s ago")
    if not workers:
        words = f"the work pool {WORK_POOL} has no worker: nothing runs"
        yield Diagnosis("worker", Status.CRITICAL, words, START_WORKER)
    elif not any(online and age_s < SILENT_S for _, online, age_s in workers):
        name, _, age_s = min(workers, key=lambda worker: worker[2])
        words = f"no worker is online: {name} was heard of last, {in_time(age_s)} ago; nothing runs"
        yield Diagnosis("worker", Status.CRITICAL, words, START_WORKER)
    local = Background(settings().home, "worker")
    if api.on_loopback and (record := local.record()) and local.leader() is None:
        words = f"the worker that `upkeep up` started is gone (pid {record.pid}), see {local.log}"
        yield Diagnosis("worker", Status.CRITICAL, words, "upkeep up")
    if answer_of(api.request("GET", f"/work_pools/{WORK_POOL}"))["is_paused"]:
        words = f"the work pool {WORK_POOL} is paused: nothing runs"
        yield Diagnosis("worker", Status.CRITICAL, words, f"prefect work-pool resume {WORK_POOL}")


def age_of(worker: dict[str, Any]) -> float:
    """Seconds since a worker was heard of."""
    return (datetime.now(UTC) - datetime.fromisoformat(worker["last_heartbeat_time"])).total_seconds()


def in_time(seconds: float) -> str:
    """For a sentence: ``3 min``."""
    units = ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((u for u in units if seconds >= 2 * u[0]), units[-1])
    return f"{seconds / size:.0f} {unit}"


def check_deployments(api: PrefectApi) -> Iterator[Diagnosis]:
    """Whether every deployment is registered, and which schedules are paused."""
    shipped = yaml.safe_load(PREFECT_FILE.read_text(encoding="utf-8"))["deployments"]
    there = read_deployments(api)
    missing = [name_of(d) for d in shipped if identity(d) not in there]
    if missing:
        words = f"not registered: {', '.join(missing)}"
        yield Diagnosis("deployments", Status.CRITICAL, words, "upkeep up --register-only")
    else:
        yield ok("deployments", f"all {len(shipped)} are registered")
    for deployment in shipped:
        if identity(deployment) in there:
            yield from check_schedules(deployment, there[identity(deployment)])


def check_schedules(shipped: dict[str, Any], there: dict[str, Any]) -> Iterator[Diagnosis]:
    """Say of each schedule whether it is active; what a person decided is noted, and is no fault."""
    name, slugs = name_of(shipped), {schedule["slug"] for schedule in there["schedules"]}
    ships_paused = {s["slug"] for s in shipped.get("schedules", []) if s.get("active") is False}
    if there["paused"]:
        words = f"{name}: somebody paused the whole deployment"
        yield Diagnosis("schedule", Status.SKIPPED, words, "to resume it: its switch in the UI")
    for slug in (s["slug"] for s in shipped.get("schedules", []) if s["slug"] not in slugs):
        words = f"{name}, {slug}: somebody removed it"
        yield Diagnosis("schedule", Status.SKIPPED, words, "to have it again: upkeep up --register-only")
    for schedule in there["schedules"]:
        words = f"{name}, {schedule['slug'] or 'no slug'} ({in_words(schedule)}): "
        if schedule["active"]:
            yield ok("schedule", words + "active")
        else:
            words += "paused, as it ships" if schedule["slug"] in ships_paused else "somebody paused it"
            advice = f"to start it: prefect deployment schedule resume {name} {schedule['id']}"
            yield Diagnosis("schedule", Status.SKIPPED, words, advice)


def name_of(deployment: dict[str, Any]) -> str:
    """As `prefect deployment run` takes it: ``health/all``."""
    return f"{deployment['entrypoint'].rpartition('.')[2]}/{deployment['name']}"


def check_clock(api: PrefectApi) -> Iterator[Diagnosis]:
    """This machine's clock against the server's, and whether its own time service is happy with it."""
    before = time.time()
    stamp = api.request("GET", "/health").headers.get("date")
    offset_s = before - parsedate_to_datetime(stamp).timestamp() - 0.5 if stamp else 0.0
    size_s = abs(offset_s)
    status = Status.OK if size_s < CLOCK_WARNING_S else Status.WARNING
    status = status if size_s < CLOCK_CRITICAL_S else Status.CRITICAL
    words = f"this clock and the Prefect server's differ by {size_s:.0f} s"
    advice = "" if status is Status.OK else "timedatectl set-ntp true   (on both machines)"
    yield Diagnosis("clock", status, words, advice)
    synchronised = clock_synchronised()
    if synchronised is False:
        advice = "timedatectl set-ntp true"
        yield Diagnosis("clock", Status.WARNING, "this machine's clock is not synchronised", advice)
    elif synchronised:
        yield ok("clock", "this machine's clock is synchronised")


def clock_synchronised() -> bool | None:
    """What systemd says; None where it cannot be asked."""
    if not shutil.which("timedatectl"):
        return None
    argv = ["timedatectl", "show", "--property", "NTPSynchronized", "--value"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    return {"yes": True, "no": False}.get(done.stdout.strip())


WITH_SERVER: dict[str, Callable[[PrefectApi], Iterator[Diagnosis]]] = {
    "protection": check_protection,
    "block key": check_encryption,
    "database": check_database,
    "worker": check_worker,
    "deployments": check_deployments,
    "clock": check_clock,
}
