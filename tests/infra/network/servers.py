"""Real servers on loopback addresses, with certificates of an authority of their own."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Authority:
    """A certificate authority that signs whatever a test wants."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    pem: Path
    parents: tuple[x509.Certificate, ...] = ()

    def issue(self, directory: Path, *names: str, starts: timedelta, ends: timedelta) -> Path:
        """A PEM file: a leaf for these names, its path below the root, and its key; times are from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = (
            _builder(names[0] if names else "nobody", key, self.certificate.subject, starts, ends)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        file = directory / f"{leaf.serial_number}.pem"
        file.write_bytes(b"".join((_pem(leaf), *map(_pem, self.parents), _key_pem(key))))
        return file

    def intermediate(self, *, starts: timedelta, ends: timedelta) -> Authority:
        """An authority below this one."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder("intermediate", key, self.certificate.subject, starts, ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        return Authority(key, certificate, self.pem, (certificate, *self.parents))


def make_authority(directory: Path, name: str = "test authority") -> Authority:
    """A root of ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(name, key, subject, timedelta(days=-365), timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = directory / f"{name.replace(' ', '-')}.pem"
    pem.write_bytes(_pem(certificate))
    return Authority(key, certificate, pem)


def _builder(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, starts: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass
class Answer:
    """What a web server answers, and the requests that it saw."""

    status: int = 200
    body: str = '{"status": "ok"}'
    headers: Mapping[str, str] = None  # type: ignore[assignment]
    delay_s: float = 0.0
    drip_s: float = 0.0
    seen: list[tuple[str, str]] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.headers = self.headers or {}
        self.seen = []


@contextmanager
def web_server(
    answer: Answer, address: str = "127.0.0.1", port: int = 0, pem: Path | None = None
) -> Iterator[int]:
    """Serve HTTP, or HTTPS with a certificate; yields the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.seen.append((self.headers.get("Host", ""), self.path))
            time.sleep(answer.delay_s)
            body = answer.body.encode()
            self.send_response(answer.status)
            for key, value in answer.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for at in range(0, len(body), 1 if answer.drip_s else len(body)):
                self.wfile.write(body[at : at + (1 if answer.drip_s else len(body))])
                time.sleep(answer.drip_s)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that refuses the certificate, or gives up, is what tests are about

        def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
            if context is not None:
                request = context.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)

    context = None
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    with _serving(Server((address, port), Handler)) as server:
        yield port_of(server)


@contextmanager
def silent_server(address: str = "127.0.0.1") -> Iterator[int]:
    """Accepts connections (the kernel does) and never says a word."""
    with socket.create_server((address, 0)) as listening:
        yield listening.getsockname()[1]


Serving = TypeVar("Serving", socketserver.TCPServer, socketserver.UDPServer)
Responder = Callable[[dns.message.Message], dns.message.Message | None]


@contextmanager
def dns_server(respond: Responder, address: str = "127.0.0.1") -> Iterator[str]:
    """Answers over UDP what `respond` returns, nothing for None; yields ``ADDRESS:PORT``."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, channel = self.request
            response = respond(dns.message.from_wire(data))
            if response is not None:
                channel.sendto(response.to_wire(), self.client_address)

    with _serving(socketserver.ThreadingUDPServer((address, 0), Handler)) as server:
        yield f"{address}:{port_of(server)}"


def records(*lines: str) -> Responder:
    """Answers with the records (``shop.test. 60 IN A 10.0.0.1``) that a question leads to, or NXDOMAIN."""

    def respond(query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        sets: dict[tuple[str, str], list[str]] = {}
        for line in lines:
            name, _, _, kind, value = line.split(" ", 4)
            sets.setdefault((name.lower(), kind), []).append(value)
        question = query.question[0]
        wanted = question.name.to_text().lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        if not any(name == wanted for name, _ in sets):
            response.set_rcode(dns.rcode.NXDOMAIN)
        while (wanted, "CNAME") in sets and kind != "CNAME":
            target = sets[wanted, "CNAME"][0]
            response.answer.append(dns.rrset.from_text(wanted, 60, "IN", "CNAME", target))
            wanted = target.lower()
        if (wanted, kind) in sets:
            response.answer.append(dns.rrset.from_text(wanted, 60, "IN", kind, *sets[wanted, kind]))
        return response

    return respond


def saying(code: dns.rcode.Rcode) -> Responder:
    """Answers every question with this code."""

    def respond(query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.set_rcode(code)
        return response

    return respond


def port_of(server: socketserver.TCPServer | socketserver.UDPServer) -> int:
    """The port that the kernel chose."""
    return int(server.socket.getsockname()[1])


@contextmanager
def _serving(server: Serving) -> Iterator[Serving]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
