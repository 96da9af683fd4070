"""The words for what a socket, a resolver or a TLS handshake failed with."""

from __future__ import annotations

import errno
import socket
import ssl

from infra.readings import Failure

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset by the other side",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no route to the network",
    errno.EPIPE: "connection closed by the other side",
}


def explain(error: BaseException, where: str, timeout_s: float) -> tuple[Failure, str]:
    """Which layer failed, and one sentence about it.

    Args:
        error: as the socket, the TLS handshake or the protocol raised it.
        where: ``address:port``.
        timeout_s: how long was waited.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure.CERTIFICATE, f"the certificate of {where} is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (
            Failure.PROTOCOL,
            f"no TLS with {where}: {(error.reason or str(error)).replace('_', ' ').lower()}",
        )
    if isinstance(error, socket.gaierror):
        return Failure.NAME, f"the name in {where} does not resolve: {error.strerror or error}"
    if isinstance(error, TimeoutError) or (isinstance(error, OSError) and error.errno == errno.ETIMEDOUT):
        return Failure.TIMEOUT, f"no answer from {where} within {timeout_s:g} s"
    if isinstance(error, OSError):
        words = _WORDS.get(error.errno or 0, error.strerror or str(error))
        return Failure.CONNECT, f"{where}: {words}"
    return Failure.PROTOCOL, f"{where}: {error or type(error).__name__}"


def host_port(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
