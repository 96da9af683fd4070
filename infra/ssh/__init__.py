"""The only door to a host: pooled, bounded, with strict host keys; local hosts pass through the same door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from infra.errors import UpkeepError
from infra.inventory import Host
from infra.settings import settings
from infra.ssh.local import LocalSession
from infra.ssh.pool import close_all, link_of
from infra.ssh.remote import RemoteSession
from infra.ssh.route import plan_route
from infra.ssh.session import CommandResult, Session

__all__ = ["CommandResult", "Session", "close_all", "fan_out", "session"]

T = TypeVar("T")

def session(host: Host) -> Session:
    """The session of a host, on its pooled connection, which the first command opens; thread-safe.

    Raises:
        PermanentError: ssh_config or the jump hosts make no route.
    """
    if host.connection == "local":
        return LocalSession(host)
    return RemoteSession(host, link_of(plan_route(host)))


def fan_out(hosts: Sequence[Host], act: Callable[[Host], T]) -> tuple[T | UpkeepError, ...]:
    """Run `act` for every host at once, bounded by UPKEEP_FANOUT.

    Returns:
        One value per host, in the order of `hosts`: what `act` returned, or the UpkeepError that it raised.
        Any other exception is a bug and is raised, after all hosts are done.
    """

    def guarded(host: Host) -> T | UpkeepError:
        try:
            return act(host)
        except UpkeepError as error:
            return error

    if not hosts:
        return ()
    with ThreadPoolExecutor(min(len(hosts), settings().fanout), thread_name_prefix="host") as pool:
        # Each host in a copy of the caller's context: log lines keep the run that they belong to.
        futures = [pool.submit(copy_context().run, guarded, host) for host in hosts]
    return tuple(future.result() for future in futures)
