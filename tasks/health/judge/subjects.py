"""How findings about the network are named: one place, since `causes` finds their edges by these names."""

from __future__ import annotations

from infra.inventory import DnsName, Endpoint, TlsName
from infra.readings import CONTROL


def endpoint_subject(endpoint: Endpoint, vantage: str = CONTROL) -> str:
    """``https://shop.example/healthz at 10.0.0.5 from web-1``: what is usual is left out."""
    at = f" at {endpoint.address}" if endpoint.address else ""
    seen_from = f" from {vantage}" if vantage != CONTROL else ""
    return endpoint.url + at + seen_from


def tls_subject(name: TlsName) -> str:
    """``shop.example:443``."""
    return f"{name.name}:{name.port}"


def dns_subject(name: DnsName) -> str:
    """``shop.example A``."""
    return f"{name.name} {name.type}"


def resolver_subject(resolver: str) -> str:
    """``resolver 10.0.0.53``."""
    return f"resolver {resolver}"


def pair_subject(origin: str, peer: str) -> str:
    """``web-1 -> db-1``."""
    return f"{origin} -> {peer}"
