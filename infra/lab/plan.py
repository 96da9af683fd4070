"""Which hosts the lab has, and where.

Names are the same in every lab; only the third octet of addresses differs. Configuration inside the hosts
refers to names (/etc/hosts and the lab's resolvers know them), never to addresses, so that cached images
serve a lab with any octet.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LabHost:
    """One host of the lab.

    Attributes:
        number: last octet of its address, unique.
        extra_numbers: further addresses that it carries (the second resolver ...).
        data_image: it has a small ext4 filesystem of its own (real, few inodes) mounted on /srv/data.
    """

    name: str
    environment: str
    role: str
    number: int
    service: str | None = None
    extra_numbers: tuple[int, ...] = ()
    data_image: bool = False


HOSTS: tuple[LabHost, ...] = (
    LabHost("prod-lb-1", "production", "lb", 10, "shop"),
    LabHost("prod-web-1", "production", "web", 11, "shop"),
    LabHost("prod-web-2", "production", "web", 12, "shop"),
    LabHost("prod-db-1", "production", "primary", 13),
    LabHost("prod-db-2", "production", "replica", 14),
    LabHost("prod-cache-1", "production", "cache", 15),
    LabHost("prod-spare-1", "production", "spare", 16, data_image=True),
    LabHost("stage-lb-1", "staging", "lb", 30, "shop"),
    LabHost("stage-web-1", "staging", "web", 31, "shop"),
    LabHost("stage-db-1", "staging", "primary", 33),
    # S3, both resolvers, the signed apt repository and the webhook receiver
    LabHost("support-1", "support", "support", 50, extra_numbers=(51, 52)),
)


@dataclass(frozen=True, slots=True)
class Lab:
    """A named lab: 198.18.`octet`.0/24, out of the range that RFC 2544 sets aside for benchmarks.

    Attributes:
        name: as given to `upkeep lab up --name`.
        octet: third octet, claimed under a lock so that two labs never collide.
    """

    name: str
    octet: int

    @property
    def gateway(self) -> str:
        """The control machine's own address in the lab's network."""
        return f"198.18.{self.octet}.1"

    def address(self, host: LabHost) -> str:
        """The host's first address."""
        return f"198.18.{self.octet}.{host.number}"

    def addresses(self, host: LabHost) -> tuple[str, ...]:
        """All of the host's addresses, the first one first."""
        return tuple(f"198.18.{self.octet}.{n}" for n in (host.number, *host.extra_numbers))


def host_named(name: str) -> LabHost:
    """The host of that name.

    Raises:
        KeyError: there is none.
    """
    for host in HOSTS:
        if host.name == name:
            return host
    raise KeyError(f"no lab host is called {name!r}; there are: {', '.join(h.name for h in HOSTS)}")


