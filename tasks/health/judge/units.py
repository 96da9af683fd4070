"""systemd units of one host, and the upkeep that waits: reboot, updates, errors in the log."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from infra.facts import HostFacts, UnitState
from infra.findings import Finding, Status, SubjectKind
from infra.inventory import Host, Level, Thresholds
from tasks.health.judge.about import about_host, on_host
from tasks.health.judge.levels import count, judge_level, words_for


def judge_units(host: Host, facts: HostFacts, critical_units: Sequence[str]) -> Iterator[Finding]:
    """One finding per critical unit, and one for all other units that failed."""
    for unit in critical_units:
        yield _critical(host, unit, facts.units.get(unit), facts.refused.get("units", ""))
    if facts.failed_units is not None:
        ignored = (*host.ignored_units, *critical_units)
        failed = [u for u in facts.failed_units if not any(fnmatchcase(u, pattern) for pattern in ignored)]
        yield _failed(host, failed)


def _critical(host: Host, unit: str, state: UnitState | None, refused: str) -> Finding:
    about = about_host(host, SubjectKind.UNIT)
    advice = on_host(host, f"systemctl status {shlex.quote(unit)}; journalctl -u {shlex.quote(unit)} -n 50")
    threshold = "must be active"
    if state is None:
        why = refused or "the host did not say"
        sentence = f"the state of {unit} on {host.name} is not known: {why}"
        return about.found(
            "critical_unit", Status.UNKNOWN, sentence, part=unit, threshold=threshold, advice=advice
        )
    status, words = _state(state)
    sentence = f"{unit} on {host.name} {words}"
    return about.found("critical_unit", status, sentence, part=unit, threshold=threshold, advice=advice)


def _state(state: UnitState) -> tuple[Status, str]:
    """Source: systemctl(1), `list-units`, and systemd's `ActiveState` in org.freedesktop.systemd1(5)."""
    if state.load == "not-found":
        return Status.CRITICAL, "is not installed"
    if state.load == "masked":
        return Status.CRITICAL, "is masked"
    if state.active in ("active", "reloading", "refreshing"):
        return Status.OK, f"is {state.active} ({state.sub})"
    if state.active in ("activating", "deactivating") and state.sub != "auto-restart":
        return Status.WARNING, f"is {state.active} ({state.sub})"
    if state.sub == "auto-restart":
        return Status.CRITICAL, "crashed and is about to be started again"
    words = {"inactive": "is stopped", "failed": "has failed"}
    return Status.CRITICAL, words.get(state.active, f"is {state.active} ({state.sub})")


def _failed(host: Host, failed: Sequence[str]) -> Finding:
    shown = ", ".join(failed[:5]) + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
    return about_host(host).found(
        "failed_units",
        Status.WARNING if failed else Status.OK,
        f"{count(len(failed), 'unit')} failed on {host.name}: {shown}" if failed else "no unit has failed",
        value=len(failed),
        unit="units",
        threshold="warning at 1 unit",
        advice=on_host(host, "systemctl --failed; journalctl -p err -n 50")
        + "; when it is mended: systemctl reset-failed",
    )


def judge_upkeep(host: Host, facts: HostFacts, limits: Thresholds) -> Iterator[Finding]:
    """What waits for somebody: a reboot, updates, errors in the log; only what the host could tell."""
    if facts.reboot.required is not None:
        yield _reboot(host, facts.reboot.reasons, facts.reboot.required)
    if facts.pending_updates is not None:
        words = count(facts.pending_updates, "update") + " pending"
        advice = on_host(host, "apt list --upgradable 2>/dev/null || dnf check-update")
        yield _counted(host, "pending_updates", facts.pending_updates, words, limits.pending_updates, advice)
    if facts.log_errors is not None:
        words = count(facts.log_errors, "error") + " in the journal in the last hour"
        advice = on_host(host, "sudo journalctl -p err --since -1h --no-pager | tail -n 50")
        yield _counted(host, "log_errors", facts.log_errors, words, limits.log_errors, advice)


def _reboot(host: Host, reasons: Sequence[str], required: bool) -> Finding:
    why = f": {', '.join(reasons[:5])}" if reasons else ""
    return about_host(host).found(
        "pending_reboot",
        Status.WARNING if required else Status.OK,
        f"{host.name} waits for a reboot{why}" if required else "no reboot is pending",
        threshold="warning while a reboot is pending",
        advice=f"reboot it in a maintenance window: {on_host(host, 'sudo systemctl reboot')}",
    )


def _counted(host: Host, check: str, number: int, words: str, level: Level | None, advice: str) -> Finding:
    return about_host(host).found(
        check, judge_level(number, level), words, value=number, threshold=words_for(level, ""), advice=advice
    )
