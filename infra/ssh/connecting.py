"""Making a connection: socket, greeting, host key, login; and what can go wrong on the way, in words.

fabric's connection on a socket of our own: paramiko leaves Nagle's algorithm on, which with delayed
acknowledgements costs 40 ms a command.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import fabric
import paramiko
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import (
    AuthenticationException,
    PasswordRequiredException,
    SSHException,
)

from infra.errors import AuthenticationRefused, PermanentError, Unreachable
from infra.settings import settings
from infra.ssh.known_hosts import Entry, read_entries, require_known
from infra.ssh.route import Route

KEEPALIVE_S = 20
# Unacknowledged data for this long means that the peer is gone (tcp(7), TCP_USER_TIMEOUT); without it Linux
# takes 15 minutes. Longer than a keepalive, so that a lost packet or two are forgiven.
SILENCE_S = 30
_ASK_CONSOLE = "on the host's console: systemctl status ssh; uptime"
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only

# Every failed handshake is raised to us; paramiko's threads would print a second, unreadable account of it.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


@cache
def _logging_in() -> threading.BoundedSemaphore:
    """Bounds what costs cpu on both sides; hosts that do not answer wait outside and hold nobody up."""
    return threading.BoundedSemaphore(settings().connect_fanout)


# What a jump host does for us: a channel to an address and port, which stands in for a socket.
Gate = Callable[[str, int], paramiko.Channel]


def connect(route: Route, gate: Gate | None) -> fabric.Connection:
    """Open a connection, within UPKEEP_CONNECT_TIMEOUT_S for each of network, greeting and login.

    Args:
        route: where to and as whom.
        gate: opens the way through the jump host, where there is one.

    Raises:
        Unreachable: with the address and the cause.
        HostKeyRefused, AuthenticationRefused: see infra.errors.
        PermanentError: the private key is not usable.
    """
    entries = read_entries(route.known_as)
    sock = _open_socket(route, gate)
    try:
        _await_banner(route, sock)
        with _logging_in(), _translated(route):
            return _log_in(route, sock, entries)
    except BaseException:
        sock.close()
        raise


def fetch_host_key(route: Route, gate: Gate | None) -> paramiko.PKey:
    """The key that the host shows, without logging in.

    Raises:
        Unreachable: with the address and the cause.
    """
    timeout_s = settings().connect_timeout_s
    sock = _open_socket(route, gate)
    transport = _transport(sock, read_entries(route.known_as))
    transport.banner_timeout = timeout_s
    try:
        with _translated(route):
            transport.start_client(timeout=timeout_s)
            return transport.get_remote_server_key()
    finally:
        transport.close()


def _log_in(route: Route, sock: Any, entries: tuple[Entry, ...]) -> fabric.Connection:
    timeout_s = settings().connect_timeout_s
    connection = fabric.Connection(
        route.address,
        user=route.user,
        port=route.port,
        # One light Config for each: shared ones are not thread-safe, and reading files for each costs more
        # than the key exchange.
        config=fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig()),
        connect_kwargs={
            "sock": sock,
            "timeout": timeout_s,
            "banner_timeout": timeout_s,
            "auth_timeout": timeout_s,
            "transport_factory": lambda sock, **_: _transport(sock, entries),
            **_credentials(route),
        },
    )
    connection.client.set_missing_host_key_policy(_OurKnownHosts(route, entries))
    connection.open()
    transport = connection.transport
    transport.set_keepalive(KEEPALIVE_S)
    # The reading thread wakes this often to look at its keepalive; paramiko's 0.1 s is for the handshake.
    transport.sock.settimeout(KEEPALIVE_S / 4)
    return connection


def _credentials(route: Route) -> dict[str, Any]:
    """What to offer: the named key file and nothing else; the agent's keys where it has a passphrase."""
    if not route.keys:
        return {"allow_agent": True, "look_for_keys": True}
    for path in route.keys:
        if not Path(path).exists():
            continue
        try:
            key = _load_key(path, Path(path).stat().st_mtime_ns)
        except (PasswordRequiredException, TypeError):  # TypeError: how cryptography says the same
            return {"allow_agent": True, "look_for_keys": False}
        except (SSHException, OSError, ValueError, UnknownKeyType) as error:
            raise PermanentError(f"the private key {path} is not usable: {error}", host=route.name) from error
        return {"pkey": key, "allow_agent": False, "look_for_keys": False}
    raise PermanentError(f"the private key {' or '.join(route.keys)} does not exist", host=route.name)


@lru_cache(maxsize=64)
def _load_key(path: str, mtime_ns: int) -> paramiko.PKey:  # noqa: ARG001 - part of the cache's key
    return paramiko.PKey.from_path(path)


class _PromptSocket(socket.socket):
    """Acknowledges at once what it receives.

    sshd leaves Nagle's algorithm on for commands: it holds a command's end back until its beginning is
    acknowledged, and a delayed acknowledgement takes 40 ms. TCP_QUICKACK does not last (tcp(7)): once a read.
    """

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data = super().recv(bufsize, flags)
        if _QUICKACK is not None:
            with suppress(OSError):  # the peer is gone: reading says so
                self.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return data


class _OurKnownHosts(paramiko.MissingHostKeyPolicy):
    """Every key is "missing" to paramiko, whose own list stays empty: we judge it."""

    def __init__(self, route: Route, entries: tuple[Entry, ...]) -> None:
        self.route = route
        self.entries = entries

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        require_known(self.route.known_as, key, self.entries, inventory_name=self.route.name)


def _transport(sock: Any, entries: tuple[Entry, ...]) -> paramiko.Transport:
    """A transport that asks for the types of key that we know the host by first, as ssh(1) does."""
    transport = paramiko.Transport(sock)
    options = transport.get_security_options()
    known = {entry.type for entry in entries if not entry.marker}
    if "ssh-rsa" in known:  # one key, three ways to sign with it (RFC 8332)
        known |= {"rsa-sha2-512", "rsa-sha2-256"}
    options.key_types = sorted(options.key_types, key=lambda type_: type_ not in known)
    return transport


def _open_socket(route: Route, gate: Gate | None) -> Any:
    """A socket, or the channel or process that stands in for one."""
    if gate is not None:
        return gate(route.address, route.port)
    if route.proxy_command:
        return paramiko.ProxyCommand(route.proxy_command)
    timeout_s = settings().connect_timeout_s
    try:
        sock = socket.create_connection((route.address, route.port), timeout=timeout_s)
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: no name at all, such as a..b
        cause = f"the name {route.address!r} does not resolve: {getattr(error, 'strerror', error)}"
        advice = f"getent hosts {route.address}; is this the address that the inventory should have?"
        raise Unreachable(cause, host=route.name, advice=advice) from error
    except TimeoutError as error:
        raise Unreachable(f"no answer on {route} within {timeout_s:g} s", host=route.name) from error
    except ConnectionRefusedError as error:
        cause = f"connection refused on {route}: the machine answers, but no SSH server does"
        raise Unreachable(cause, host=route.name, advice=f"is the port right? {_ASK_CONSOLE}") from error
    except OSError as error:
        raise Unreachable(f"{(error.strerror or str(error)).lower()} on {route}", host=route.name) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)
    return _PromptSocket(fileno=sock.detach())


def _await_banner(route: Route, sock: Any) -> None:
    """Wait for the first byte that an SSH server sends by itself, RFC 4253, 4.2.

    Raises:
        Unreachable: it sends none in time.
    """
    timeout_s = settings().connect_timeout_s
    if isinstance(sock, socket.socket) and not select.select([sock], [], [], timeout_s)[0]:
        raise Unreachable(_no_banner(route, timeout_s), host=route.name, advice=_ASK_CONSOLE)


def _no_banner(route: Route, waited_s: float) -> str:
    return f"{route} accepts TCP but sends no SSH banner within {waited_s:.1f} s (frozen, or no SSH server?)"


@contextmanager
def _translated(route: Route) -> Iterator[None]:
    """paramiko's words for a failed login, in ours."""
    start = time.monotonic()
    try:
        yield
    except (SSHException, EOFError, OSError) as error:
        waited_s = time.monotonic() - start
        if isinstance(error, AuthenticationException) or "No authentication methods" in str(error):
            offered = " and ".join(route.keys) or "the agent's keys and ~/.ssh's"
            cause = f"{route} lets {route.user!r} in with none of: {offered}"
            advice = f"are user and identity_file of {route.name} right? Then, there: ~/.ssh/authorized_keys"
            raise AuthenticationRefused(cause, host=route.name, advice=advice) from error
        if "banner" in str(error):
            cause = _no_banner(route, waited_s)
        else:
            why = str(error) or "connection closed"
            cause = f"the SSH handshake with {route} failed after {waited_s:.1f} s: {why}"
        raise Unreachable(cause, host=route.name, advice=_ASK_CONSOLE) from error


def disconnect(connection: fabric.Connection) -> None:
    """Close at once: without the shutdown paramiko waits for its reading thread to wake up by itself."""
    transport = connection.transport
    if transport is not None and isinstance(transport.sock, socket.socket):
        with suppress(OSError):  # the peer closed it first
            transport.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
