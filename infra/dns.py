"""Ask resolvers for a name: each one by itself, without caches and search lists of this machine."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from statistics import median

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from infra.inventory import DnsName
from infra.network_errors import host_port
from infra.readings import DnsError, DnsReading

TIMEOUT_S = 2.0
ATTEMPTS = 2  # UDP: one lost packet is no outage
TIMED = 3  # queries whose median is the time
_REFUSALS = {
    dns.rcode.NXDOMAIN: DnsError.NXDOMAIN,
    dns.rcode.REFUSED: DnsError.REFUSED,
}


def resolve(name: DnsName, timeout_s: float = TIMEOUT_S) -> tuple[DnsReading, ...]:
    """Ask every resolver of a name, all at once.

    Args:
        name: from the inventory; without resolvers, those of /etc/resolv.conf are asked.
        timeout_s: for one query over UDP; it is tried twice.

    Returns:
        One reading per resolver, in the inventory's order, empty when the system has none; nothing is raised
        for what the network did.
    """
    resolvers = tuple(dict.fromkeys(name.resolvers)) or system_resolvers()
    if not resolvers:
        return ()
    with ThreadPoolExecutor(max_workers=min(8, len(resolvers))) as threads:
        return tuple(threads.map(lambda resolver: _ask(name, resolver, timeout_s), resolvers))


def system_resolvers() -> tuple[str, ...]:
    """The nameservers of /etc/resolv.conf; empty when it names none."""
    try:
        return tuple(str(server) for server in dns.resolver.Resolver().nameservers)
    except dns.resolver.NoResolverConfiguration:
        return ()


def _ask(name: DnsName, resolver: str, timeout_s: float) -> DnsReading:
    address, port = _address(resolver)
    where = host_port(address, port)
    times: list[float] = []
    reading = DnsReading(resolver)
    for _ in range(TIMED):
        query = dns.message.make_query(name.name, name.type)
        try:
            started = time.perf_counter()
            response = _exchange(query, address, port, timeout_s)
            times.append((time.perf_counter() - started) * 1000)
        except dns.exception.Timeout:
            sentence = f"no answer from {where} within {ATTEMPTS} x {timeout_s:g} s"
            return DnsReading(resolver, error=DnsError.TIMEOUT, detail=sentence)
        except (OSError, EOFError, dns.exception.DNSException) as error:
            return DnsReading(
                resolver, error=DnsError.UNREACHABLE, detail=f"{where}: {error or type(error).__name__}"
            )
        reading = _reading(name, resolver, response, median(times))
        if reading.error is not None:
            break
    return reading


def _exchange(query: dns.message.Message, address: str, port: int, timeout_s: float) -> dns.message.Message:
    for attempt in range(ATTEMPTS):
        try:
            return dns.query.udp_with_fallback(query, address, timeout=timeout_s, port=port)[0]
        except dns.exception.Timeout:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _reading(name: DnsName, resolver: str, response: dns.message.Message, time_ms: float) -> DnsReading:
    code = response.rcode()
    if code != dns.rcode.NOERROR:
        error = _REFUSALS.get(code, DnsError.FAILED)
        return DnsReading(
            resolver, time_ms=time_ms, error=error, detail=f"{resolver} says {dns.rcode.to_text(code)}"
        )
    try:
        chain = response.resolve_chaining() if isinstance(response, dns.message.QueryMessage) else None
    except dns.exception.DNSException as problem:
        return DnsReading(resolver, time_ms=time_ms, error=DnsError.FAILED, detail=f"{resolver}: {problem}")
    if chain is None or chain.answer is None:
        sentence = f"{resolver} has no {name.type} records"
        return DnsReading(resolver, time_ms=time_ms, error=DnsError.NO_ANSWER, detail=sentence)
    return DnsReading(resolver, frozenset(_text(record) for record in chain.answer), time_ms)


def _text(record: object) -> str:
    strings = getattr(record, "strings", None)
    if strings is not None:  # TXT: one value, however it was cut
        return b"".join(strings).decode("utf-8", "replace")
    return str(record).rstrip(".").lower()


def _address(resolver: str) -> tuple[str, int]:
    """``ADDRESS``, ``ADDRESS:PORT`` or ``[ADDRESS]:PORT``."""
    try:
        return str(ip_address(resolver.strip("[]"))), 53
    except ValueError:
        address, _, port = resolver.rpartition(":")
        return address.strip("[]"), int(port)
