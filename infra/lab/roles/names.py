"""The lab's DNS names: the same in every lab; only the addresses behind them differ."""

from __future__ import annotations

from infra.lab.plan import HOSTS, Lab, host_named

# DNS name -> the host whose first address it has.
NAMES: dict[str, str] = {
    "shop.production.lab": "prod-lb-1",
    "shop.staging.lab": "stage-lb-1",
    "db.production.lab": "prod-db-1",
    "db.staging.lab": "stage-db-1",
    "cache.production.lab": "prod-cache-1",
    "s3.lab": "support-1",
    "apt.lab": "support-1",
    "hooks.lab": "support-1",
}
# Resolver -> which of the further addresses of `RESOLVER_HOST` is its own.
RESOLVER_HOST = "support-1"
RESOLVERS: dict[str, int] = {"resolver-1.lab": 0, "resolver-2.lab": 1}


def addresses(lab: Lab) -> dict[str, str]:
    """Every name of a lab, hosts, DNS names and resolvers, and its address; this is what /etc/hosts needs."""
    hosts = {host.name: lab.address(host) for host in HOSTS}
    further = lab.addresses(host_named(RESOLVER_HOST))[1:]
    resolvers = {name: further[index] for name, index in RESOLVERS.items()}
    return hosts | {name: hosts[host] for name, host in NAMES.items()} | resolvers
