"""Caches: Redis, open to the lab's network."""

from __future__ import annotations

from infra.lab.roles.root import Root

_CONFIGURATION = """\
# The lab's network is closed: no password, every address.
bind * -::*
protected-mode no
maxmemory 64mb
maxmemory-policy allkeys-lru
"""


def provision_cache(root: Root) -> None:
    """Configure Redis through a file of its own, included last so that it wins."""
    root.write("/etc/redis/lab.conf", _CONFIGURATION, mode=0o640)
    root.run("chown", "redis:redis", "/etc/redis/lab.conf")
    main = root.at("/etc/redis/redis.conf")
    main.write_text(main.read_text() + "\ninclude /etc/redis/lab.conf\n")
    root.enable("redis-server.service")
