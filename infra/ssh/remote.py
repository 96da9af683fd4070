"""Commands on another host: a channel of its pooled connection for each, read by the caller itself."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import paramiko
from paramiko.common import cMSG_CHANNEL_DATA, cMSG_CHANNEL_REQUEST
from paramiko.ssh_exception import SSHException

from infra.errors import Unreachable
from infra.inventory import Host
from infra.settings import settings
from infra.ssh.link import Link
from infra.ssh.session import CommandResult, as_root, judge_result


@dataclass(frozen=True, slots=True)
class RemoteSession:
    """A host at the other end of a link."""

    host: Host
    link: Link

    def run(
        self,
        command: str,
        *,
        stdin: str = "",
        sudo: bool = False,
        check: bool = True,
        timeout: timedelta | None = None,
    ) -> CommandResult:
        """See `Session.run`."""
        sudo = sudo and self.link.route.user != "root"
        limit_s = timeout.total_seconds() if timeout else settings().command_timeout_s
        with self.link.session_channel() as channel:
            start = time.perf_counter()
            try:
                line = as_root(command) if sudo else command
                out, err, code = _exchange(channel, line, stdin.encode(), limit_s)
            except TimeoutError as error:
                cause = f"`{command}` did not end within {limit_s:g} s; it may still be running"
                raise Unreachable(f"{self.link.route}: {cause}", host=self.host.name) from error
            except (SSHException, EOFError, OSError) as error:
                cause = f"the connection died while `{command}` ran; it may have run: {error}"
                raise Unreachable(f"{self.link.route}: {cause}", host=self.host.name) from error
            elapsed_s = time.perf_counter() - start
        result = CommandResult(
            command, out.decode(errors="replace"), err.decode(errors="replace"), code, elapsed_s
        )
        return judge_result(result, self.host, sudo=sudo, check=check)


class _Wake(threading.Event):
    """Set by both of a channel's buffers when something arrives; only the reader lays it down again.

    paramiko's buffers clear their event when they run empty, which with one event for two buffers would lose
    a wake-up.
    """

    def clear(self) -> None:
        """Ignore the buffers."""

    def rearm(self) -> None:
        """Wait for the next arrival."""
        super().clear()


def _exchange(
    channel: paramiko.Channel, command: str, stdin: bytes, limit_s: float
) -> tuple[bytes, bytes, int]:
    """Send a command and its input, and collect what it prints until it ends.

    Raises:
        TimeoutError: it did not end in time.
        EOFError: the connection ended before the command did.
        SSHException, OSError: the connection broke while sending.
    """
    deadline = time.monotonic() + limit_s
    wake = _Wake()
    channel.in_buffer.set_event(wake)
    channel.in_stderr_buffer.set_event(wake)
    channel.settimeout(limit_s)
    _start(channel, command)
    if len(stdin) <= channel.out_window_size:
        _feed(channel, stdin)
    else:  # it may have to print before it reads on
        threading.Thread(target=_feed, args=(channel, stdin), daemon=True).start()
    out, err = bytearray(), bytearray()
    while True:
        if not wake.wait(max(0.0, deadline - time.monotonic())):
            raise TimeoutError
        wake.rearm()
        ended = channel.closed  # not at the end of file: only a closed channel leaves the host's MaxSessions
        while channel.recv_ready():
            out += channel.recv(1 << 20)
        while channel.recv_stderr_ready():
            err += channel.recv_stderr(1 << 20)
        if ended:
            break
    if channel.exit_status == -1 and not (channel.eof_received and _transport(channel).is_active()):
        raise EOFError("connection closed")
    return bytes(out), bytes(err), channel.exit_status


def _start(channel: paramiko.Channel, command: str) -> None:
    """Ask for the command without waiting for the answer: one round trip less, and no wait without a timeout.

    A refusal closes the channel (RFC 4254, 5.4 and 6.5), which the reader sees.
    """
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("exec")
    message.add_boolean(True)
    message.add_string(command)
    _transport(channel)._send_user_message(message)  # type: ignore[attr-defined]  # as exec_command does


def _transport(channel: paramiko.Channel) -> paramiko.Transport:
    if channel.transport is None:
        raise EOFError("connection closed")
    return channel.transport


def _feed(channel: paramiko.Channel, stdin: bytes) -> None:
    """Send all input, then end of file. A command need not read it; a broken connection the reader sees.

    Under the channel's lock, unlike paramiko's own `sendall` and `shutdown_write`: they let go of it before
    they send, so the answer to the host's close may overtake them, and sshd hangs up on whoever speaks to a
    closed channel ("ieof packet referred to nonexistent channel"), ending every command on the connection.
    """
    with suppress(SSHException, EOFError, OSError):
        rest = memoryview(stdin)
        while rest:
            with channel.lock:
                size = channel._wait_for_send_window(len(rest))  # type: ignore[attr-defined]
                if channel.closed or size == 0:
                    return
                message = paramiko.Message()
                message.add_byte(cMSG_CHANNEL_DATA)
                message.add_int(channel.remote_chanid)
                message.add_string(rest[:size].tobytes())
                _transport(channel)._send_user_message(message)  # type: ignore[attr-defined]
            rest = rest[size:]
        with channel.lock:
            end = None if channel.closed else channel._send_eof()  # type: ignore[attr-defined]
            if end is not None:
                _transport(channel)._send_user_message(end)  # type: ignore[attr-defined]
