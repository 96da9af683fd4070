"""One kept connection per route: opened once, shared by threads, replaced once when it is found dead.

It is found dead when it opens no channel; only then is it replaced. A command that was sent is never sent
again, and a connection on which other commands still run is left to them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import fabric
import paramiko
from paramiko.ssh_exception import ChannelException, SSHException

from infra.errors import Unreachable
from infra.settings import settings
from infra.ssh.connecting import connect, disconnect
from infra.ssh.route import Route

# sshd's default MaxSessions is 10, and it counts a session for a moment after its end: with half of them in
# use, threads wait here instead of being refused there.
SESSIONS = 5


class _RefusedError(Exception):
    """A host that is alive opens no such channel."""


class Link:
    """The pooled connection of one route."""

    def __init__(self, route: Route, via: Link | None) -> None:
        self.route = route
        self._gate = via.open_passage if via else None
        self._lock = threading.Lock()
        self._connection: fabric.Connection | None = None
        self._forgotten: list[fabric.Connection] = []
        self._sessions = threading.BoundedSemaphore(SESSIONS)

    @contextmanager
    def session_channel(self) -> Iterator[paramiko.Channel]:
        """A fresh channel for one command, closed at the end; waits while `SESSIONS` are in use.

        Raises:
            Unreachable: not even on a new connection, or the host refused it.
            HostKeyRefused, AuthenticationRefused: while connecting.
        """
        with self._sessions:
            try:
                channel = self._open("session", None)
            except _RefusedError as error:
                cause = f"{self.route} refuses another session (MaxSessions in its sshd_config?): {error}"
                raise Unreachable(cause, host=self.route.name) from error
            try:
                yield channel
            finally:
                channel.close()

    def open_passage(self, address: str, port: int) -> paramiko.Channel:
        """A channel to another host, with this one as jump host.

        Raises:
            As `session_channel`.
        """
        try:
            return self._open("direct-tcpip", (address, port))
        except _RefusedError as error:
            cause = f"as jump host it cannot reach {address}:{port}: {error}"
            raise Unreachable(cause, host=self.route.name) from error

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        with self._lock:
            connections = [*self._forgotten, *([self._connection] if self._connection else [])]
            self._forgotten, self._connection = [], None
        for connection in connections:
            disconnect(connection)

    def _open(self, kind: str, destination: tuple[str, int] | None) -> paramiko.Channel:
        """Open a channel, on a new connection when the old one is dead."""
        connection, fresh = self._connected()
        try:
            return self._try_open(connection, kind, destination)
        except (SSHException, EOFError, OSError) as error:
            if fresh:
                raise self._dead(error) from error
        self._forget(connection)
        connection, _ = self._connected()
        try:
            return self._try_open(connection, kind, destination)
        except (SSHException, EOFError, OSError) as error:
            raise self._dead(error) from error

    def _try_open(
        self, connection: fabric.Connection, kind: str, destination: tuple[str, int] | None
    ) -> paramiko.Channel:
        """Open a channel. A host without a session to spare is asked again: it may be about to clear up."""
        timeout_s = settings().connect_timeout_s
        deadline = time.monotonic() + timeout_s
        transport: paramiko.Transport = connection.transport
        while True:
            try:
                return transport.open_channel(
                    kind, destination, ("", 0) if destination else None, timeout=timeout_s
                )
            except SSHException as error:
                # With several threads a refusal may lose its reason (paramiko keeps one for all of them).
                refused = isinstance(error, ChannelException) or "Unable to open" in str(error)
                if not refused or not transport.is_active():
                    raise
                if destination or time.monotonic() > deadline:
                    raise _RefusedError(getattr(error, "text", str(error))) from error
            time.sleep(0.02)

    def _dead(self, error: Exception) -> Unreachable:
        cause = f"{self.route} accepts the login and then opens no channel: {error or 'connection closed'}"
        return Unreachable(cause, host=self.route.name)

    def _connected(self) -> tuple[fabric.Connection, bool]:
        """The live connection, and whether this call opened it."""
        with self._lock:
            if self._connection is not None and self._connection.is_connected:
                return self._connection, False
            self._connection = connect(self.route, self._gate)
            return self._connection, True

    def _forget(self, dead: fabric.Connection) -> None:
        """Use a connection no more, unless another thread has replaced it already.

        Commands that still run on it end with it, when the kernel gives it up or when everything is closed.
        """
        with self._lock:
            if self._connection is dead:
                self._forgotten = [c for c in self._forgotten if c.is_connected] + [dead]
                self._connection = None
