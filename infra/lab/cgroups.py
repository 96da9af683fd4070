"""Control groups: one per host and one for the holder, so that a lab's processes are known without pids.

A lab is known here by `LabDirectory.group`.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from infra.errors import PermanentError
from infra.lab.machine import cgroup_roots

TOP = "upkeep-lab"


def create(lab: str) -> None:
    """Make a lab's group."""
    for root in cgroup_roots():
        (root / TOP / lab).mkdir(parents=True, exist_ok=True)


def any_lab() -> bool:
    """Whether any lab has a group on this machine."""
    return any((root / TOP).is_dir() for root in cgroup_roots())


def enter_script(lab: str, member: str) -> str:
    """Shell text that makes the group of a host (or of the holder) and moves the shell into it."""
    groups = " ".join(str(root / TOP / lab / member) for root in cgroup_roots())
    return f'for g in {groups}; do mkdir -p "$g" && echo $$ > "$g/cgroup.procs" || exit 70; done'


def leader(lab: str, host: str) -> int | None:
    """The pid of a host's PID 1, as seen from the caller's pid namespace; None while there is none."""
    payload = cgroup_roots()[0] / TOP / lab / host / "payload"
    for group in (payload / "init.scope", payload):
        pids = _pids(group)
        if pids:
            return min(pids)
    return None


def freeze(lab: str, host: str, *, frozen: bool) -> None:
    """Stop or let go on every process of a host, its kernel side excepted: TCP still connects."""
    legacy = Path("/sys/fs/cgroup/freezer") / TOP / lab / host / "freezer.state"
    if legacy.exists():
        legacy.write_text("FROZEN" if frozen else "THAWED", encoding="ascii")
        return
    unified = cgroup_roots()[0] / TOP / lab / host / "cgroup.freeze"
    unified.write_text("1" if frozen else "0", encoding="ascii")


def clear(lab: str, timeout_s: float = 20) -> None:
    """Kill what is left of a lab and remove its groups; does nothing when there are none.

    Raises:
        PermanentError: something survived for `timeout_s`.
    """
    groups = [root / TOP / lab for root in cgroup_roots()]
    deadline = time.monotonic() + timeout_s
    while left := {pid for group in groups for pid in _pids_below(group)}:
        if time.monotonic() > deadline:
            raise PermanentError(f"processes of the lab {lab!r} do not end: pids {sorted(left)}")
        _thaw_all(groups)
        for pid in left:
            _kill(pid)
        time.sleep(0.05)
    for group in groups:
        _remove(group, deadline)
        if group.parent.is_dir() and not any(p.is_dir() for p in group.parent.iterdir()):
            group.parent.rmdir()


def _thaw_all(groups: list[Path]) -> None:
    for group in groups:
        for path in (*group.rglob("freezer.state"), *group.rglob("cgroup.freeze")):
            path.write_text("THAWED" if path.name == "freezer.state" else "0", encoding="ascii")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _pids(group: Path) -> list[int]:
    """Processes of one group; those that the reader's pid namespace does not know are 0 and left out."""
    try:
        pids = (group / "cgroup.procs").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [int(pid) for pid in pids if pid != "0"]


def _pids_below(group: Path) -> list[int]:
    return [pid for path in group.rglob("cgroup.procs") for pid in _pids(path.parent)]


def _remove(group: Path, deadline: float) -> None:
    """Remove a tree of empty groups, deepest first; it may be busy for a moment after the last exit."""
    for path in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
        _rmdir(path, deadline)
    if group.is_dir():
        _rmdir(group, deadline)


def _rmdir(path: Path, deadline: float) -> None:
    while True:
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise PermanentError(f"the control group {path} cannot be removed: {error}") from error
            time.sleep(0.05)
