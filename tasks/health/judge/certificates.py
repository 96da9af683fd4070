"""Judge the certificates of a name: one finding per name, whatever the number of its addresses."""

from __future__ import annotations

from datetime import datetime, timedelta

from infra.findings import Finding, Status, SubjectKind
from infra.inventory import Level, Thresholds, TlsName
from infra.readings import TlsReading
from tasks.health.judge.about import About
from tasks.health.judge.levels import in_words, judge_low_level, words_for
from tasks.health.judge.subjects import tls_subject

_Judged = tuple[Status, float | None, str, Level]


def judge_tls(
    name: TlsName,
    readings: tuple[TlsReading, ...],
    environment: str,
    service: str,
    limits: Thresholds,
    now: datetime,
) -> tuple[Finding, ...]:
    """Judge the worst certificate of a name.

    Expired, not valid yet, not to be trusted or for another name is critical; ending soon is what
    `limits.tls_days` says, or by default a third of the lifetime, at most 30 days (warning), and a tenth, at
    most 7 days (critical). An address that shows no certificate is unknown.

    Args:
        name: from the inventory.
        readings: one per address; nothing is judged when there are none.
        environment: the environment of the service.
        service: the service that the name belongs to.
        limits: resolved for the environment.
        now: aware.
    """
    judged = [(_judge(name, reading, limits.tls_days, now), reading) for reading in readings]
    if not judged:
        return ()
    (status, days, words, level), worst = max(
        judged, key=lambda item: (item[0][0].rank, -(item[0][1] or 0.0), item[1].address)
    )
    same = sum(verdict[0] is status for verdict, _ in judged)
    often = f" (so on {same} of {len(judged)} addresses)" if len(judged) > 1 else ""
    about = About(SubjectKind.NAME, tls_subject(name), environment)
    return (
        about.found(
            "tls_certificate",
            status,
            f"{service}: {tls_subject(name)} at {worst.address}: {words}{often}",
            value=days,
            unit="days" if days is not None else "",
            threshold=words_for(level, "days left"),
            advice=_advice(name, worst),
        ),
    )


def _advice(name: TlsName, reading: TlsReading) -> str:
    look = (
        f"openssl s_client -connect {reading.address}:{name.port} -servername {name.name} </dev/null | "
        "openssl x509 -noout -subject -issuer -dates"
    )
    if reading.not_after is None:
        return look
    act = "renew it and reload what serves it" if reading.leaf else "ask its authority for a new path"
    return f"{act}; {look}"


def _judge(name: TlsName, reading: TlsReading, limit: Level | None, now: datetime) -> _Judged:
    if reading.not_after is None or reading.not_before is None:
        return Status.UNKNOWN, None, f"the certificate could not be read: {reading.error}", limit or Level()
    left = reading.not_after - now
    level = limit or default_level(reading.not_after - reading.not_before)
    days = left / timedelta(days=1)
    whose = "the certificate" if reading.leaf else f"the authority's certificate {reading.ends_first}"
    if left <= timedelta():
        return Status.CRITICAL, days, f"{whose} expired {in_words(-left)} ago", level
    if reading.not_before > now:
        return (
            Status.CRITICAL,
            days,
            f"{whose} becomes valid in {in_words(reading.not_before - now)} only",
            level,
        )
    if reading.untrusted:
        return Status.CRITICAL, days, f"the certificate is not to be trusted: {reading.untrusted}", level
    if not reading.name_matches:
        return Status.CRITICAL, days, f"the certificate is for other names than {name.name}", level
    return judge_low_level(days, level), days, f"{whose} ends in {in_words(left)}", level


def default_level(lifetime: timedelta) -> Level:
    """A third of the lifetime, at most 30 days, is a warning; a tenth, at most 7, critical."""
    days = lifetime / timedelta(days=1)
    return Level(warning=min(30.0, days / 3), critical=min(7.0, days / 10))
