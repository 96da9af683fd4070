"""The process's connections: one link per route, jump hosts' among them."""

from __future__ import annotations

import atexit
import threading

from infra.ssh.link import Link
from infra.ssh.route import Route

_links: dict[Route, Link] = {}
_lock = threading.Lock()


def link_of(route: Route) -> Link:
    """The process's one link for a route; jump hosts have theirs in the same pool."""
    via = link_of(route.via) if route.via else None
    with _lock:
        return _links.setdefault(route, Link(route, via))


def close_all() -> None:
    """Close every pooled connection (end of process, tests)."""
    with _lock:
        links = list(_links.values())
        _links.clear()
    for link in reversed(links):  # those that go through a jump host come after it
        link.close()


atexit.register(close_all)
