"""Read the certificate that every address of a name shows, also when it is expired or not to be trusted.

The leaf and the path that verifies decide, not what the server sends along with them.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509

from infra.inventory import TlsName
from infra.network_errors import explain, host_port
from infra.readings import TlsReading

TIMEOUT_S = 5.0
# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED, openssl/x509_vfy.h: the dates say it better.
_BY_TIME = {9, 10}


def probe_tls(name: TlsName, timeout_s: float = TIMEOUT_S) -> tuple[TlsReading, ...]:
    """Read the certificates of a name, all its addresses at once.

    Args:
        name: from the inventory.
        timeout_s: for connecting, and again for the handshake.

    Returns:
        One reading per address, sorted by address, at least one; nothing is raised for what the network did.
    """
    try:
        addresses = sorted(set(name.addresses)) or _resolve(name)
    except OSError as error:
        failure, sentence = explain(error, host_port(name.name, name.port), timeout_s)
        return (TlsReading(name.name, failure=failure, error=sentence),)
    with ThreadPoolExecutor(max_workers=min(8, len(addresses))) as threads:
        return tuple(threads.map(lambda address: _read(name, address, timeout_s), addresses))


def _resolve(name: TlsName) -> list[str]:
    found = socket.getaddrinfo(name.name, name.port, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


def _read(name: TlsName, address: str, timeout_s: float) -> TlsReading:
    where = host_port(address, name.port)
    untrusted = None
    try:
        try:
            path = _handshake(name, address, timeout_s, _verifying(name))
        except ssl.SSLCertVerificationError as error:
            path = _handshake(name, address, timeout_s, _accepting())
            if error.verify_code not in _BY_TIME:
                path, untrusted = path[:1], error.verify_message
            elif all(c.not_valid_before_utc <= datetime.now(UTC) <= c.not_valid_after_utc for c in path):
                untrusted = f"an authority in the trust store: {error.verify_message}"
    except (OSError, ValueError) as error:
        failure, sentence = explain(error, where, timeout_s)
        return TlsReading(address, failure=failure, error=sentence)
    return _reading(name, address, path, untrusted)


def _reading(
    name: TlsName, address: str, path: Sequence[x509.Certificate], untrusted: str | None
) -> TlsReading:
    first = min(path, key=lambda certificate: certificate.not_valid_after_utc)
    return TlsReading(
        address=address,
        not_before=first.not_valid_before_utc,
        not_after=first.not_valid_after_utc,
        ends_first=first.subject.rfc4514_string(),
        leaf=first is path[0],
        untrusted=untrusted,
        name_matches=_names(path[0], name.name),
    )


def _verifying(name: TlsName) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=name.ca_file)
    except OSError as error:
        raise ValueError(f"ca_file {name.ca_file} is of no use: {error.strerror or error}") from None
    context.check_hostname = False  # judged apart, so that a wrong name does not hide the dates
    return context


def _accepting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _handshake(
    name: TlsName, address: str, timeout_s: float, context: ssl.SSLContext
) -> list[x509.Certificate]:
    """The verified path, leaf first; what the server sent when nothing is verified."""
    with (
        socket.create_connection((address, name.port), timeout_s) as raw,
        context.wrap_socket(raw, server_hostname=name.name) as connected,
    ):
        return [x509.load_der_x509_certificate(der) for der in _chain(connected, context.verify_mode)]


def _chain(connected: ssl.SSLSocket, mode: ssl.VerifyMode) -> list[bytes]:
    which = "get_unverified_chain" if mode is ssl.CERT_NONE else "get_verified_chain"
    if hasattr(connected, which):  # Python 3.13
        return list(getattr(connected, which)())
    # Before 3.13 the method exists on the object beneath only, and 2 is _ssl.ENCODING_DER (Modules/_ssl.h).
    return [certificate.public_bytes(2) for certificate in getattr(connected._sslobj, which)()]  # type: ignore[attr-defined]


def _names(leaf: x509.Certificate, name: str) -> bool:
    """RFC 6125: only the subject's alternative names count, and a wildcard stands for one whole label."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ip_address(name) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        wanted = name.lower().rstrip(".")
        star = "*." + wanted.partition(".")[2]
        return any(given.lower() in (wanted, star) for given in names.get_values_for_type(x509.DNSName))
