"""What the network answered, as read at one moment from one vantage: frozen, and not judged yet.

A vantage is ``control`` (where Upkeep runs) or the name of an inventory host. Times are milliseconds on the
wall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from statistics import median, quantiles

CONTROL = "control"


class Failure(StrEnum):
    """Why there is no answer, by the layer that failed."""

    VANTAGE = "vantage"  # nothing was measured: the vantage itself could not be used
    NAME = "name"  # the name does not resolve
    CONNECT = "connect"  # refused, no route, reset
    TIMEOUT = "timeout"
    CERTIFICATE = "certificate"  # TLS came up, and the certificate is not to be trusted
    PROTOCOL = "protocol"  # something answered, but not in the protocol that was expected


@dataclass(frozen=True, slots=True)
class EndpointSample:
    """One attempt, over a connection of its own.

    Attributes:
        elapsed_ms: from the first packet to the last byte of the answer (TCP: to the connection); None when
            it failed, or when the vantage has no clock that is fine enough.
        status: HTTP status; None without one.
        headers: lower-case name -> value, only those that the endpoint has expectations for.
        body: the first 64 KiB, only when the endpoint has an expectation for it.
        failure, error: None when something answered; `error` is one sentence.
    """

    elapsed_ms: float | None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    failure: Failure | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class EndpointReading:
    """Several attempts at one endpoint from one vantage, oldest first, at least one."""

    vantage: str
    samples: tuple[EndpointSample, ...]

    @property
    def p50_ms(self) -> float | None:
        """Median of the answers; None when nothing answered."""
        times = self._times()
        return median(times) if times else None

    @property
    def p95_ms(self) -> float | None:
        """95th percentile of the answers, interpolated between the samples; None when nothing answered."""
        return percentile_95(self._times())

    def _times(self) -> list[float]:
        return [s.elapsed_ms for s in self.samples if s.elapsed_ms is not None]


def percentile_95(values: Sequence[float]) -> float | None:
    """The 95th percentile, linearly interpolated (Hyndman and Fan's type 7); None of nothing."""
    if len(values) < 2:
        return values[0] if values else None
    return quantiles(values, n=20, method="inclusive")[-1]


@dataclass(frozen=True, slots=True)
class TlsReading:
    """The certificate that one address shows for a name.

    Attributes:
        address: where it was read; the name itself when it does not resolve.
        not_before, not_after: aware UTC; of the certificate that ends first on the verified path, or of the
            leaf when no path verifies. None when no certificate was seen.
        ends_first: the subject of that certificate, e.g. ``CN=shop.example``.
        leaf: whether that certificate is the leaf, which is renewed here, or an authority's.
        untrusted: why the path does not verify, other than by time: one sentence; None when it does.
        name_matches: whether the leaf is valid for the name; None when no certificate was seen.
        failure, error: why no certificate was seen.
    """

    address: str
    not_before: datetime | None = None
    not_after: datetime | None = None
    ends_first: str = ""
    leaf: bool = True
    untrusted: str | None = None
    name_matches: bool | None = None
    failure: Failure | None = None
    error: str | None = None


class DnsError(StrEnum):
    """How a resolver failed; the last two mean that it did not answer at all."""

    NXDOMAIN = "NXDOMAIN"
    NO_ANSWER = "no records of this type"
    REFUSED = "refused"
    FAILED = "failed"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"

    @property
    def silent(self) -> bool:
        """The resolver itself is at fault, whatever the name."""
        return self in (DnsError.TIMEOUT, DnsError.UNREACHABLE)


@dataclass(frozen=True, slots=True)
class DnsReading:
    """What one resolver says about one name.

    Attributes:
        resolver: ``ADDRESS`` or ``ADDRESS:PORT``, as in the inventory or the system's configuration.
        answers: the records' text without a trailing dot, lower case except TXT; empty with an error.
        time_ms: of the answer; None when there was none.
        error, detail: None when it answered with records; `detail` is one sentence.
    """

    resolver: str
    answers: frozenset[str] = frozenset()
    time_ms: float | None = None
    error: DnsError | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LatencyReading:
    """Round trips from one vantage to one host.

    Attributes:
        vantage: `CONTROL` or the name of the host that measured.
        host: name of the host that was measured.
        median_ms: None when nothing was measured, and `error` says why in one sentence.
        method: ``tcp connect``, ``ping`` or ``ssh``.
        failure: `Failure.VANTAGE` when the vantage could not measure; else the host did not answer.
    """

    vantage: str
    host: str
    median_ms: float | None
    method: str = ""
    failure: Failure | None = None
    error: str | None = None
