"""Reads a host's facts in one round trip: sends probe.sh through the door and turns its answer into values.

This machine is read with psutil instead (`infra.metrics`); only what its service manager, journal and
packages say comes from the same script.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from infra import metrics, ssh
from infra.errors import PermanentError, TransientError
from infra.facts import Clock, Counters, HostFacts
from infra.inventory import Host

T = TypeVar("T")
Mode = Literal["facts", "system", "counters"]

_FACTS = TypeAdapter(HostFacts)
_COUNTERS = TypeAdapter(Counters)
# systemd.unit(5): what a unit's name may hold; a name that starts with a dash would be an option
_UNIT_NAME = re.compile(r"(?!-)[A-Za-z0-9:_.\\@-]{1,255}")


def read_facts(host: Host, units: Sequence[str] = (), *, ask_packages: bool = False) -> HostFacts:
    """Read everything that a host says about itself.

    Args:
        host: any Linux host, or this machine.
        units: systemd units whose state is wanted; each is a key of the result's `units`, unless
            `refused["failed_units"]` says that there is no systemd to ask.
        ask_packages: have the package manager count pending updates from what it has cached; about half a
            second on the host. Without it they are known only where the host keeps count by itself.

    Raises:
        PermanentError: a unit's name is none, or the login runs no POSIX shell.
        TransientError: the answer broke off.
        Unreachable, HostKeyRefused, AuthenticationRefused: see infra.errors.
    """
    for unit in units:
        if not _UNIT_NAME.fullmatch(unit):
            cause = f"{unit!r} is not the name of a systemd unit, which looks like 'nginx.service'"
            raise PermanentError(cause, host=host.name)
    packages = "updates" if ask_packages else "-"
    local = host.connection == "local"
    if local and sys.platform != "linux":
        answer: dict[str, Any] = metrics.NO_SYSTEM
        clock = Clock(0.0, 0.0, None)
    else:
        answer, clock = _ask(host, "system" if local else "facts", packages, *units)
    if local:
        answer = {**answer, **metrics.read_numbers(), "shared": ()}
        clock = Clock(0.0, 0.0, clock.synchronised)
    facts = {
        **answer,
        "host": host.name,
        "read_at": datetime.now(UTC),
        "units": dict(zip(units, answer["units"], strict=False)),
        "clock": clock,
    }
    names = HostFacts.__dataclass_fields__
    return _valid(host, _FACTS, {name: value for name, value in facts.items() if name in names})


def read_counters(host: Host) -> Counters:
    """A second, cheap read: with the first one's `counters` it makes rates (`infra.facts.rates_between`).

    Raises:
        As `read_facts`.
    """
    if host.connection == "local":
        return metrics.read_counters()
    answer, _ = _ask(host, "counters", "-")
    return _valid(host, _COUNTERS, answer["counters"])


def _ask(host: Host, mode: Mode, *arguments: str) -> tuple[dict[str, Any], Clock]:
    """Run the probe and take its answer out of whatever else the login printed."""
    mark = f"upkeep-{secrets.token_hex(12)}"
    command = shlex.join(["exec", "sh", "-s", "--", mark, mode, *arguments])
    result = ssh.session(host).run(command, stdin=_script(), check=False)
    came_back = time.time()
    parts = re.split(rf"^{mark}$", result.stdout, flags=re.MULTILINE)
    if len(parts) < 2:
        said = (result.stdout.strip() or result.stderr.strip() or "nothing").splitlines()[0]
        cause = f"the login runs no POSIX shell: instead of facts it said {said!r}"
        raise PermanentError(cause, host=host.name)
    try:
        answer: dict[str, Any] = json.loads(parts[1])
    except json.JSONDecodeError as error:
        raise TransientError(f"the answer to the probe broke off: {error}", host=host.name) from error
    sent = came_back - result.elapsed_s
    return answer, judge_clock(answer, sent, came_back)


def judge_clock(answer: Mapping[str, Any], sent: float, came_back: float) -> Clock:
    """Compare clocks by the four instants of a round trip.

    Args:
        answer: the probe's `began` and `ended`, by the host's clock, and `synchronised`.
        sent, came_back: by our clock.

    Source: RFC 5905, 8: offset is ((T2 - T1) + (T3 - T4)) / 2; half of the time on the way bounds its error.
    """
    instants = [re.fullmatch(r"(\d+)(\.\d+)?.*", str(answer.get(key, ""))) for key in ("began", "ended")]
    synchronised = answer.get("synchronised")
    if not all(instants):
        return Clock(None, None, synchronised)
    fine = all(match and match[2] for match in instants)
    # A date(1) without fractions cuts them off: on average half a second is missing, at most one.
    began, ended = (float(match[1] + (match[2] or ".5")) for match in instants if match)
    on_the_way = max(0.0, (came_back - sent) - (ended - began))
    return Clock(
        offset_s=((began - sent) + (ended - came_back)) / 2,
        uncertainty_s=on_the_way / 2 + (0.0 if fine else 0.5),
        synchronised=synchronised,
    )


def _valid(host: Host, adapter: TypeAdapter[T], answer: Mapping[str, Any]) -> T:
    try:
        return adapter.validate_python(answer)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        cause = f"the probe's answer makes no sense: {place} = {first['input']!r}: {first['msg']}"
        raise PermanentError(cause, host=host.name) from error


@cache
def _script() -> str:
    """probe.sh without its comments and indentation: half of it, and bash reads a script byte by byte."""
    lines = Path(__file__).with_name("probe.sh").read_text().splitlines()
    kept = (line.strip() for line in lines)
    return "\n".join(line for line in kept if line and not line.startswith("#")) + "\n"
