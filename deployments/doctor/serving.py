"""Versions, file modes, the Prefect server, its worker and its deployments."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any

import yaml

from deployments.doctor.diagnosis import Diagnosis, ok
from deployments.home import SERVER_FILE
from deployments.prefect_api import WORK_POOL, PrefectApi, require_server, require_worker
from deployments.registration import PREFECT_FILE, answer_of, identity, in_words, read_deployments
from infra.errors import ServiceUnavailable
from infra.findings import Status
from infra.settings import settings

# What Upkeep was tried with; constraints.txt says why.
PREFECT = "3.8.8"
TOO_NEW = {"fastapi": (0, 151), "sqlalchemy": (2, 1)}
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
    advice = "install the pinned set: pip install -c constraints.txt -e . (`make up` does)"
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
        yield Diagnosis("files", Status.SKIPPED, f"there is no {home}", "`upkeep up` makes it")
        return
    loose = [path for path in (home, *sorted(home.iterdir())) if stat.S_IMODE(path.lstat().st_mode) & 0o077]
    if loose:
        names = ", ".join(map(str, loose[:5]))
        words = f"others may read {names}" + (" and more" if len(loose) > 5 else "")
        yield Diagnosis("files", Status.CRITICAL, words, f"chmod -R go= {home}")
    else:
        yield ok("files", f"{home} is closed to others")


def check_server() -> Iterator[Diagnosis]:
    """Whether the API answers and lets us in."""
    api = require_server()
    theirs = answer_of(api.request("GET", "/admin/version"))
    if theirs == version("prefect"):
        yield ok("server", f"Prefect {theirs} answers at {api.url}")
    else:
        words = f"the server at {api.url} is Prefect {theirs}, this is {version('prefect')}"
        yield Diagnosis("server", Status.WARNING, words, "run the same version on both sides")


def check_protection(api: PrefectApi) -> Iterator[Diagnosis]:
    """Whoever reaches the API runs what he likes on every host: auth always, TLS beyond this machine."""
    missing = []
    try:
        PrefectApi(api.url, None).request("GET", "/version")
        missing.append("no auth string")
    except ServiceUnavailable:
        pass  # refused, as it should
    if not api.on_loopback and not api.url.startswith("https://"):
        missing.append("no TLS")
    if not missing:
        where = "on loopback" if api.on_loopback else "behind TLS"
        yield ok("protection", f"the API asks for the auth string, {where}")
        return
    yield Diagnosis(
        "protection",
        Status.WARNING if api.on_loopback else Status.CRITICAL,
        f"the API at {api.url} has {' and '.join(missing)}: whoever reaches it is root on the fleet",
        "set PREFECT_SERVER_API_AUTH_STRING, and put the server behind a proxy with TLS",
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
        yield Diagnosis("block key", Status.WARNING, words, "`upkeep down`, then `upkeep up`")


def check_worker(api: PrefectApi) -> Iterator[Diagnosis]:
    """Whether a worker is online, and when it was heard of last."""
    require_worker()
    workers = answer_of(api.request("POST", f"/work_pools/{WORK_POOL}/workers/filter", {}))
    for worker in (w for w in workers if w["status"] == "ONLINE"):
        heard = datetime.fromisoformat(worker["last_heartbeat_time"])
        age_s = (datetime.now(UTC) - heard).total_seconds()
        yield ok("worker", f"{worker['name']} was heard of {max(age_s, 0):.0f} s ago")
    if answer_of(api.request("GET", f"/work_pools/{WORK_POOL}"))["is_paused"]:
        words = f"the work pool {WORK_POOL} is paused: nothing runs"
        yield Diagnosis("worker", Status.CRITICAL, words, f"prefect work-pool resume {WORK_POOL}")


def check_deployments(api: PrefectApi) -> Iterator[Diagnosis]:
    """Whether every deployment is registered, and which schedules are paused."""
    shipped = yaml.safe_load(PREFECT_FILE.read_text(encoding="utf-8"))["deployments"]
    there = read_deployments(api)
    missing = [d["name"] for d in shipped if identity(d) not in there]
    if missing:
        words = f"not registered: {', '.join(f'{name!r}' for name in missing)}"
        yield Diagnosis("deployments", Status.CRITICAL, words, "`upkeep up` registers all")
    else:
        yield ok("deployments", f"all {len(shipped)} are registered")
    for deployment in shipped:
        if identity(deployment) in there:
            yield from check_schedules(deployment, there[identity(deployment)])


def check_schedules(shipped: dict[str, Any], there: dict[str, Any]) -> Iterator[Diagnosis]:
    """Say of each schedule whether it is active; one that ships active and is paused deserves a look."""
    ships_paused = {s["slug"] for s in shipped.get("schedules", []) if s.get("active") is False}
    name = f"{shipped['entrypoint'].rpartition('.')[2]}/{there['name']}"
    if there["paused"]:
        advice = "resume it on its page in the UI, if that is no longer wanted"
        yield Diagnosis("schedule", Status.WARNING, f"{name}: the whole deployment is paused", advice)
        return
    for schedule in there["schedules"]:
        words = f"{name}, {schedule['slug'] or 'no slug'} ({in_words(schedule)}): "
        if schedule["active"]:
            yield ok("schedule", words + "active")
        elif schedule["slug"] in ships_paused:
            yield Diagnosis("schedule", Status.SKIPPED, words + "paused, as it ships", "start it in the UI")
        else:
            advice = "somebody paused it; start it in the UI, if that is no longer wanted"
            yield Diagnosis("schedule", Status.WARNING, words + "paused", advice)


def check_clock(api: PrefectApi) -> Iterator[Diagnosis]:
    """This machine's clock against the server's, and whether its own time service is happy with it."""
    before = time.time()
    stamp = api.request("GET", "/health").headers.get("date")
    offset_s = before - parsedate_to_datetime(stamp).timestamp() - 0.5 if stamp else 0.0
    size_s = abs(offset_s)
    status = Status.OK if size_s < CLOCK_WARNING_S else Status.WARNING
    status = status if size_s < CLOCK_CRITICAL_S else Status.CRITICAL
    words = f"this clock and the Prefect server's differ by {size_s:.0f} s"
    yield Diagnosis("clock", status, words, "" if status is Status.OK else "set both clocks by NTP")
    synchronised = clock_synchronised()
    if synchronised is False:
        advice = "enable a time service, e.g. systemctl enable --now systemd-timesyncd"
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
    "worker": check_worker,
    "deployments": check_deployments,
    "clock": check_clock,
}
