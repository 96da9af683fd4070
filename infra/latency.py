"""How long a round trip takes: from the control machine to hosts, and between hosts."""

from __future__ import annotations

import re
import shlex
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from statistics import median
from typing import TypeVar

from infra import ssh
from infra.errors import UpkeepError
from infra.inventory import Host
from infra.network_errors import explain, host_port
from infra.readings import CONTROL, Failure, LatencyReading

SAMPLES = 5
TIMEOUT_S = 3.0
AT_ONCE = 16

T = TypeVar("T")

# ping's replies say "time=0.123 ms" (iputils and busybox); bash prints when it began and ended a connection.
_BETWEEN = r"""
export LC_ALL=C
if command -v ping >/dev/null 2>&1; then
  ping -n -c 5 -i 0.2 -W 2 -w 5 "$address" 2>/dev/null | grep -o 'time=[0-9.]*' && exit 0
fi
command -v bash >/dev/null 2>&1 && command -v timeout >/dev/null 2>&1 || { echo no-tool; exit 0; }
timeout 8 bash -c 'for i in 1 2 3 4 5; do
  from=$EPOCHREALTIME; exec 3<>"/dev/tcp/$0/$1" || exit 1; echo "connect=$from,$EPOCHREALTIME"; exec 3>&-
done' "$address" "$port" 2>&1 || echo "failed $?"
"""


def measure_latency(hosts: Sequence[Host]) -> tuple[LatencyReading, ...]:
    """Measure the round trip from the control machine to each host, several at once.

    The time of a TCP connection to the SSH port; where that cannot be made (a jump host, an ssh_config), the
    time of an empty command on the open connection.

    Args:
        hosts: those that answered; local ones are left out.

    Returns:
        The median of five per host, in the order given.
    """
    return _all_at_once([h for h in hosts if h.connection == "ssh"], _from_control)


def measure_between(pairs: Sequence[tuple[Host, Host]]) -> tuple[LatencyReading, ...]:
    """Measure the round trip from the first host of each pair to the second, several pairs at once.

    Args:
        pairs: host that measures, host that is measured.

    Returns:
        The median of five per pair, in the order given: `ping`, or TCP connections where ping has no answer.
    """
    return _all_at_once(pairs, lambda pair: _between(*pair))


def _all_at_once(things: Iterable[T], measure: Callable[[T], LatencyReading]) -> tuple[LatencyReading, ...]:
    with ThreadPoolExecutor(max_workers=AT_ONCE) as threads:
        return tuple(threads.map(measure, things))


def _from_control(host: Host) -> LatencyReading:
    if not host.jump:
        try:
            return LatencyReading(CONTROL, host.name, _connect_ms(host), "tcp connect")
        except OSError as error:
            failed: OSError | None = error
    else:
        failed = None
    try:
        times = [ssh.session(host).run(":").elapsed_s * 1000 for _ in range(SAMPLES)]
    except UpkeepError as error:
        failure, sentence = Failure.CONNECT, error.reason
        if failed is not None:
            failure, sentence = explain(failed, host_port(host.address, host.port), TIMEOUT_S)
        return LatencyReading(CONTROL, host.name, None, failure=failure, error=sentence)
    return LatencyReading(CONTROL, host.name, median(times), "ssh")


def _connect_ms(host: Host) -> float:
    family, kind, protocol, _, address = socket.getaddrinfo(host.address, host.port, type=socket.SOCK_STREAM)[
        0
    ]
    times = []
    for _ in range(SAMPLES):
        with socket.socket(family, kind, protocol) as raw:
            raw.settimeout(TIMEOUT_S)
            started = time.perf_counter()
            raw.connect(address)
            times.append((time.perf_counter() - started) * 1000)
    return median(times)


def _between(origin: Host, peer: Host) -> LatencyReading:
    variables = f"address={shlex.quote(peer.address)}; port={peer.port}\n"
    try:
        result = ssh.session(origin).run(
            "sh -s", stdin=variables + _BETWEEN, check=False, timeout=timedelta(seconds=20)
        )
    except UpkeepError as error:
        return LatencyReading(origin.name, peer.name, None, failure=Failure.VANTAGE, error=str(error))
    return parse_between(origin, peer, result.stdout)


def parse_between(origin: Host, peer: Host, output: str) -> LatencyReading:
    """Read what the script printed on the origin."""
    pings = [float(ms) for ms in re.findall(r"^time=([0-9.]+)$", output, re.MULTILINE)]
    if pings:
        return LatencyReading(origin.name, peer.name, median(pings), "ping")
    connects = [
        (float(end) - float(begin)) * 1000
        for begin, end in re.findall(r"^connect=([0-9.]+),([0-9.]+)$", output, re.MULTILINE)
    ]
    if connects:
        return LatencyReading(origin.name, peer.name, median(connects), "tcp connect")
    if "no-tool" in output or "connect=," in output:
        sentence = f"ping, or bash 5 and timeout, must be installed on {origin.name}"
        return LatencyReading(origin.name, peer.name, None, failure=Failure.VANTAGE, error=sentence)
    where = host_port(peer.address, peer.port)
    sentence = (
        f"{origin.name} gets no answer from {peer.name} ({where}): neither to ping nor to a TCP connection"
    )
    return LatencyReading(origin.name, peer.name, None, failure=Failure.CONNECT, error=sentence)
