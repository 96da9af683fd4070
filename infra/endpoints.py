"""Ask an endpoint several times, from the control machine or from a host, and say what came back.

Every attempt opens a connection of its own, as a new client would, and ends within the endpoint's timeout.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import SplitResult, urlsplit

from infra.endpoint_script import probe_from_host
from infra.inventory import Endpoint, Host
from infra.network_errors import explain, host_port
from infra.readings import CONTROL, EndpointReading, EndpointSample, Failure

SAMPLES = 5
MAX_BODY_BYTES = 65536
AGENT = "upkeep-health"


def probe_endpoint(endpoint: Endpoint, vantage: Host | None = None) -> EndpointReading:
    """Ask an endpoint five times; an attempt that times out is the last one.

    Redirects are not followed and proxies are not used: it is this endpoint that is asked. Safe under
    threads.

    Args:
        endpoint: from the inventory.
        vantage: the host to ask from; None for the control machine.

    Returns:
        A reading also when nothing answered; no error is raised for what the network did.
    """
    if vantage is not None:
        return probe_from_host(endpoint, vantage, SAMPLES)
    try:
        context = (
            ssl.create_default_context(cafile=endpoint.ca_file) if endpoint.url.startswith("https") else None
        )
    except OSError as error:  # ssl.SSLError is one
        return EndpointReading(CONTROL, (_no_authorities(endpoint, error),))
    samples: list[EndpointSample] = []
    while len(samples) < SAMPLES:
        samples.append(_attempt(endpoint, context))
        if samples[-1].failure is Failure.TIMEOUT:
            break
    return EndpointReading(CONTROL, tuple(samples))


def _no_authorities(endpoint: Endpoint, error: OSError) -> EndpointSample:
    words = error.strerror or str(error)
    return EndpointSample(
        None, failure=Failure.VANTAGE, error=f"ca_file {endpoint.ca_file} is of no use: {words}"
    )


def _attempt(endpoint: Endpoint, context: ssl.SSLContext | None) -> EndpointSample:
    url = urlsplit(endpoint.url)
    name, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    where = host_port(endpoint.address or name, port)
    started = time.perf_counter()
    try:
        with _connection(endpoint.address or name, port, endpoint.timeout_s) as raw:
            if url.scheme == "tcp":
                return EndpointSample(_ms_since(started))
            connected = context.wrap_socket(raw, server_hostname=name) if context else raw
            return _request(endpoint, url, connected, started)
    except (OSError, http.client.HTTPException) as error:
        late = time.perf_counter() - started >= endpoint.timeout_s
        failure, sentence = explain(TimeoutError() if late else error, where, endpoint.timeout_s)
        return EndpointSample(None, failure=failure, error=sentence)


@contextmanager
def _connection(address: str, port: int, timeout_s: float) -> Iterator[socket.socket]:
    """A connected socket that is shut down when the time is over, however slowly the other side drips."""
    deadline = time.monotonic() + timeout_s
    with socket.create_connection((address, port), timeout_s) as raw, raw.dup() as handle:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), _shut, (handle,))
        watchdog.daemon = True
        watchdog.start()
        try:
            yield raw
        finally:
            watchdog.cancel()


def _shut(handle: socket.socket) -> None:
    try:
        handle.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it ended on its own in the same instant


def _request(
    endpoint: Endpoint, url: SplitResult, connected: socket.socket, started: float
) -> EndpointSample:
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80)
    connection.sock = connected
    try:
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        host = url.netloc.rpartition("@")[2]
        connection.request("GET", target, headers={"Host": host, "User-Agent": AGENT, "Connection": "close"})
        response = connection.getresponse()
        body = response.read(MAX_BODY_BYTES)
        if response.length and len(body) < MAX_BODY_BYTES:
            raise http.client.IncompleteRead(body, response.length)
        elapsed_ms = _ms_since(started)
    finally:
        connection.close()
    return EndpointSample(
        elapsed_ms=elapsed_ms,
        status=response.status,
        headers={h.lower(): response.headers.get(h, "") for h in endpoint.expect_headers},
        body=body.decode("utf-8", "replace") if endpoint.expect_body else "",
    )


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
