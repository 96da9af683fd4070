"""Register the deployments of prefect.yaml, and leave alone what a person changed about their schedules.

The law, per schedule (named by deployment and slug):

=========================  ==============================  =========================================
on the server              since our last registration     becomes
=========================  ==============================  =========================================
not there                                                  as shipped; `active: false` means paused
there                      not changed by a person         shipped times; the server's active or paused
there                      changed by a person             the server's times, active or paused
there, not shipped         added by a person               kept
there, not shipped         shipped earlier                 removed (Prefect would keep it, its issue 23097)
=========================  ==============================  =========================================

What we registered last is remembered on the server as one hash per schedule, in the variable `VARIABLE`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import yaml

import deployments
from deployments.prefect_api import WORK_POOL, PrefectApi
from infra.errors import PermanentError, ServiceUnavailable

PREFECT_FILE = Path(deployments.__file__).with_name("prefect.yaml")
VARIABLE = "upkeep_schedules"
TIMES = ("cron", "day_or", "interval", "anchor_date", "rrule", "timezone")

Shipped = dict[str, Any]
OnServer = dict[str, Any]
Hashes = dict[str, str]


def register(
    api: PrefectApi, environment: Mapping[str, str], say: Callable[[str], None], file: Path = PREFECT_FILE
) -> tuple[OnServer, ...]:
    """Register every deployment of a prefect.yaml.

    Args:
        environment: of the `prefect deploy` process.
        say: told what was kept although it is shipped differently.

    Returns:
        The registered deployments as the server describes them, in the order of the file.

    Raises:
        PermanentError: Prefect refused one; the reason has its words.
    """
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    ensure_pool(api)
    known, before = read_hashes(api), read_deployments(api)
    kept: set[str] = set()
    for deployment in content["deployments"]:
        there = before.get(identity(deployment), {"schedules": []})
        for schedule in there["schedules"]:
            if withdrawn(deployment, schedule, known):
                api.request("DELETE", f"/deployments/{there['id']}/schedules/{schedule['id']}")
        deployment["merged"], changes = merge(deployment, there["schedules"], known)
        kept |= {key_of(deployment, slug) for slug in changes}
        for sentence in changes.values():
            say(sentence)
    output = deploy(content, environment)
    after = read_deployments(api)
    missing = [d["name"] for d in content["deployments"] if identity(d) not in after]
    if missing:
        raise PermanentError(f"Prefect did not register {', '.join(missing)}; it says:\n{output}")
    write_hashes(api, hashes_of(content["deployments"], after, known, kept))
    return tuple(after[identity(d)] for d in content["deployments"])


def ensure_pool(api: PrefectApi) -> None:
    """Have the work pool there; the first worker fills in its job template."""
    if api.request("GET", f"/work_pools/{WORK_POOL}").status_code == httpx.codes.NOT_FOUND:
        answer_of(api.request("POST", "/work_pools/", {"name": WORK_POOL, "type": "process"}))


def identity(deployment: Mapping[str, Any]) -> str:
    """The flow's entrypoint and the deployment's name: the same in the file and on the server."""
    return f"{deployment['entrypoint']}/{deployment['name']}"


def merge(deployment: Shipped, there: list[OnServer], known: Hashes) -> tuple[list[Shipped], dict[str, str]]:
    """Decide the schedules to send, by the table above.

    Returns:
        The schedules, and by slug a sentence for each that stays as a person changed it.
    """
    merged: list[Shipped] = []
    kept: dict[str, str] = {}
    shipped = {schedule["slug"]: schedule for schedule in deepcopy(deployment.get("schedules", []))}
    on_server = {schedule["slug"]: schedule for schedule in there}
    for slug, mine in shipped.items():
        theirs = on_server.get(slug)
        if theirs is not None:
            mine["active"] = theirs["active"]
            changed = known.get(key_of(deployment, slug)) != hash_of(theirs)
            if changed and times_of(theirs) != times_of(mine):
                kept[slug] = (
                    f"{deployment['name']}/{slug}: kept {in_words(theirs)}, as somebody set it; "
                    f"shipped is {in_words(mine)}"
                )
                mine = {**{key: v for key, v in mine.items() if key not in TIMES}, **times_of(theirs)}
        merged.append(mine)
    added = (s for s in there if s["slug"] not in shipped and not withdrawn(deployment, s, known))
    return [*merged, *map(as_shipped, added)], kept


def as_shipped(theirs: OnServer) -> Shipped:
    """A schedule of the server in the words of prefect.yaml."""
    about = {key: theirs[key] for key in ("slug", "parameters") if theirs.get(key)}
    return {**about, "active": theirs["active"], **times_of(theirs)}


def withdrawn(deployment: Shipped, theirs: OnServer, known: Hashes) -> bool:
    """Whether we shipped a schedule earlier and do so no more."""
    slugs = {schedule["slug"] for schedule in deployment.get("schedules", [])}
    return theirs["slug"] not in slugs and key_of(deployment, theirs["slug"]) in known


def key_of(deployment: Mapping[str, Any], slug: str | None) -> str:
    """The name under which a schedule's hash is remembered."""
    return f"{identity(deployment)}/{slug}"


def times_of(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """When it runs, in the words of prefect.yaml; the server nests them, and writes defaults out."""
    source = schedule.get("schedule", schedule)
    times = {key: source[key] for key in TIMES if source.get(key) is not None}
    if times.get("day_or") is True:
        del times["day_or"]
    return times


def in_words(schedule: Mapping[str, Any]) -> str:
    """For a sentence: ``cron 0 * * * *, timezone UTC``."""
    return ", ".join(f"{key} {value}" for key, value in times_of(schedule).items())


def hash_of(schedule: Mapping[str, Any]) -> str:
    """Short hash of when a schedule runs."""
    return hashlib.sha256(json.dumps(times_of(schedule), sort_keys=True).encode()).hexdigest()[:12]


def hashes_of(shipped: list[Shipped], after: Mapping[str, OnServer], known: Hashes, kept: set[str]) -> Hashes:
    """What to remember: of a schedule that a person changed, what was known before."""
    hashes: Hashes = {}
    for deployment in shipped:
        on_server = {schedule["slug"]: schedule for schedule in after[identity(deployment)]["schedules"]}
        for schedule in deployment.get("schedules", []):
            key = key_of(deployment, schedule["slug"])
            hashes[key] = known.get(key, "") if key in kept else hash_of(on_server[schedule["slug"]])
    return hashes


def deploy(content: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Run `prefect deploy --all` on a prefect.yaml with this content, `merged` in the place of `schedules`.

    Returns:
        What it printed.
    """
    merged = [
        {**{key: value for key, value in d.items() if key != "merged"}, "schedules": d["merged"]}
        for d in content["deployments"]
    ]
    with tempfile.TemporaryDirectory(prefix="upkeep-") as directory:
        file = Path(directory) / "prefect.yaml"
        file.write_text(yaml.safe_dump({**content, "deployments": merged}, sort_keys=False), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)],
            env=dict(environment),
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    output = f"{done.stdout}\n{done.stderr}".strip()
    if done.returncode:
        raise PermanentError(f"`prefect deploy` ended with {done.returncode}:\n{output}")
    return output


def read_deployments(api: PrefectApi) -> dict[str, OnServer]:
    """Every deployment on the server, by `identity`."""
    found: dict[str, OnServer] = {}
    while page := answer_of(api.request("POST", "/deployments/filter", {"offset": len(found), "limit": 200})):
        found |= {identity(deployment): deployment for deployment in page}
    return found


def read_hashes(api: PrefectApi) -> Hashes:
    """What was registered last; empty the first time."""
    answer = api.request("GET", f"/variables/name/{VARIABLE}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return {}
    value = answer_of(answer)["value"]
    return value if isinstance(value, dict) else {}


def write_hashes(api: PrefectApi, hashes: Hashes) -> None:
    """Remember what was registered."""
    answer = api.request("PATCH", f"/variables/name/{VARIABLE}", {"value": hashes})
    if answer.status_code == httpx.codes.NOT_FOUND:
        answer = api.request("POST", "/variables/", {"name": VARIABLE, "value": hashes})
    answer_of(answer)


def answer_of(answer: httpx.Response) -> Any:
    """The JSON of a good answer.

    Raises:
        ServiceUnavailable: the API refused.
    """
    if answer.is_error:
        raise ServiceUnavailable(f"Prefect's API refused {answer.request.url.path}: {answer.text[:300]}")
    return answer.json() if answer.content else None
